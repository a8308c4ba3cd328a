"""Files as PyTorch's two exporters write them are read as the network that PyTorch computes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from policyport.quantize.nodes import Convolution, Weighted
from policyport.quantize.onnx_reader import read_onnx

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional


class Gated(nn.Module):
    """Normalization, depthwise convolution, squeeze and excitation, every function, a decoder, a join."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.Hardswish())
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        squeeze = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1), nn.Hardsigmoid()
        self.gate = nn.Sequential(*squeeze)
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1), nn.SiLU())
        self.pad = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(6, 5, 3), nn.Tanh())
        self.join = nn.Sequential(nn.BatchNorm2d(13), nn.ReLU(), nn.Conv2d(13, 4, 3, padding=1), nn.LeakyReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 8 * 8, 12), nn.ELU(), nn.Linear(12, 5), nn.Softmax(-1))

    def forward(self, x):
        x = self.pool(self.depth(self.stem(x / 255.0)))
        x = x * self.gate(x)
        wide = functional.interpolate(x, scale_factor=2)
        return self.head(self.join(torch.cat([self.pad(self.up(x)), wide], 1)))


class Residual(nn.Module):
    """A residual block, a mean over the image, a shape that is computed."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.out = nn.Linear(6 * 2 * 2, 3)

    def forward(self, x):
        x = self.first(x)
        x = torch.relu(self.second(x) + x)
        x = functional.avg_pool2d(x, 8)
        return torch.sigmoid(self.out(x.view(x.size(0), -1))) * 2.0


def trained(kind):
    """The network with normalization as training would leave it."""
    torch.manual_seed(3)
    net = kind()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    return net.eval()


def export(net, path, dynamo):
    names = {"input_names": ["observation"], "output_names": ["output"]}
    if dynamo:
        batch = {"dynamic_shapes": ({0: torch.export.Dim("N")},), "external_data": False, "verbose": False}
    else:
        batch = {"dynamic_axes": {"observation": {0: "N"}, "output": {0: "N"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.zeros(2, 3, 16, 16),), path, dynamo=dynamo, **names, **batch)


@pytest.mark.parametrize("kind", [Gated, Residual])
@pytest.mark.parametrize("dynamo", [False, True])
def test_what_torch_exports(kind, dynamo, tmp_path):
    if dynamo:
        pytest.importorskip("onnxscript")
    net = trained(kind)
    export(net, tmp_path / "net.onnx", dynamo)
    graph = read_onnx(tmp_path / "net.onnx")
    observations = np.random.default_rng(0).uniform(0, 255, (5, 3, 16, 16)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(observations)).numpy()
    np.testing.assert_allclose(graph.evaluate(observations), expected, rtol=1e-3, atol=1e-5)
    layers = [module for module in net.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
    added = sum(isinstance(node, Weighted) for node in graph.nodes) - len(layers)
    if kind is Gated:  # one normalization stands behind a join, where no layer can take it over
        assert added == 1 and graph.prefix.gain.reshape(-1)[0] == pytest.approx(1 / 255)
        assert any(isinstance(node, Convolution) and node.groups == 13 for node in graph.nodes)
    else:  # a factor behind the last function
        assert added == 1
