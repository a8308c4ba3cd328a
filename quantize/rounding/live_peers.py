"""AIMET, Brevitas and MCT on the networks that rounding is measured on, where their packages are installed.

Each leaves a torch network whose weights lie on their grids: one scale per output channel, symmetric, weights alone, no
activation rounded. Each is called as its own documentation calls it; what is measured is the network it hands back
with its weights rounded for good.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from policyport.core.errors import ToolError
from policyport.quantize.nodes import Floats
from policyport.quantize.rounding.adaround import AIMET_LONGER, CONVERGED_RATE

Tensor = Any  # torch carries no types that a strict checker is shown here

BATCH = 32

AIMET_CONFIG = {
    "defaults": {
        "ops": {},
        "params": {"is_quantized": "True", "is_symmetric": "True"},
        "strict_symmetric": "False",
        "per_channel_quantization": "True",
    },
    "params": {"bias": {"is_quantized": "False"}},
    "op_type": {},
    "supergroups": [],
    "model_input": {},
    "model_output": {},
}
"""AIMET's configuration of a simulation: weights alone, per channel."""

EPOCHS = 50
"""Of MCT's gradient-based rounding: what its recorded figures had, for 10,000 iterations of the paper's AdaRound."""

LEARNED_ROUND_SHORTER = 10
"""The paper's iterations over those of Brevitas' learned round, 1,000 of its script and of its recorded figures."""

Peer = Callable[[Any, Tensor, int, int], Any]
"""A float network, its calibration images [n, 1, 8, 8], bits of a weight and iterations of what is learned, to the
network with its weights rounded."""


@dataclass(frozen=True)
class LivePeer:
    """A method of another tool."""

    modules: tuple[str, ...]
    """What is imported: the package, and the parts of it that are called."""

    distribution: str
    """What its package is called in an index."""

    run: Peer
    also: tuple[str, ...] = ()
    """Packages that it needs besides."""

    @property
    def installed(self) -> bool:
        """Whether every package is here; none is imported."""
        packages = {module.partition(".")[0] for module in self.modules}
        return all(importlib.util.find_spec(package) is not None for package in packages)


def logits(network: Any, images: Floats) -> Floats:
    """[n, 10] of a torch network, without gradients."""
    with torch.no_grad():
        found: Floats = network.eval()(torch.from_numpy(images)).numpy()
    return found


def load(method: str) -> None:
    """Import what one of :data:`LIVE_PEERS` is made of, so that its time is that of rounding alone.

    :raises ToolError: the package is not installed
    """
    peer = LIVE_PEERS[method]
    if not peer.installed:
        cure = f"pip install {' '.join((peer.distribution, *peer.also))}"
        raise ToolError(f"{method} needs a package", got="none", cure=cure)
    for module in peer.modules:
        importlib.import_module(module)


def rounded(method: str, network: Any, images: Floats, bits: int, seed: int, iterations: int) -> Any:
    """A copy of a float network with its weights rounded by one of :data:`LIVE_PEERS`.

    :param images: [n, 1, 8, 8] that the method calibrates by
    :raises ToolError: the package is not installed
    """
    load(method)
    torch.manual_seed(seed)
    return LIVE_PEERS[method].run(copy.deepcopy(network).eval(), torch.from_numpy(images), bits, iterations)


def versions(methods: Iterable[str]) -> dict[str, str]:
    """Package to version of what ran."""
    return {name: version(name) for name in dict.fromkeys(LIVE_PEERS[method].distribution for method in methods)}


def _aimet_nearest(network: Any, images: Tensor, bits: int, iterations: int) -> Any:
    with _aimet_simulation(network, images, bits) as simulation:
        simulation.compute_encodings(lambda model, _: model(images), None)
        return simulation.model


def _aimet_adaround(network: Any, images: Tensor, bits: int, iterations: int) -> Any:
    from aimet_torch.adaround.adaround_weight import Adaround, AdaroundParameters

    batches = images.split(BATCH)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=BATCH)
    parameters = AdaroundParameters(
        loader,
        len(batches),
        default_num_iterations=round(AIMET_LONGER * iterations),
        forward_fn=lambda model, batch: model(batch[0]),
    )
    with tempfile.TemporaryDirectory() as folder, _aimet_config() as config:
        found = Adaround.apply_adaround(
            network, images[:1], parameters, folder, "adaround", default_param_bw=bits, default_config_file=config
        )
        # The weights that it returns may lie between two integers: the simulation with its scales rounds them.
        with _aimet_simulation(found, images, bits) as simulation:
            simulation.set_and_freeze_param_encodings(str(Path(folder) / "adaround.encodings"))
            return simulation.model


@contextmanager
def _aimet_config() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.json"
        path.write_text(json.dumps(AIMET_CONFIG))
        yield str(path)


@contextmanager
def _aimet_simulation(network: Any, images: Tensor, bits: int) -> Iterator[Any]:
    from aimet_torch.quantsim import QuantizationSimModel

    with _aimet_config() as config:
        yield QuantizationSimModel(
            network, images[:1], quant_scheme="tf_enhanced", default_param_bw=bits, config_file=config
        )


def _brevitas(network: Any, images: Tensor, bits: int) -> Any:
    """The network with Brevitas' layers, their weights to the nearest at the scales of least squared error."""
    import brevitas.nn
    from brevitas.graph.quantize import layerwise_quantize
    from brevitas.quant import Int8WeightPerChannelFloatMSE

    options = {"weight_quant": Int8WeightPerChannelFloatMSE, "weight_bit_width": bits, "return_quant_tensor": False}
    layers = {torch.nn.Linear: brevitas.nn.QuantLinear, torch.nn.Conv2d: brevitas.nn.QuantConv2d}
    network = layerwise_quantize(network, {kind: (quantized, options) for kind, quantized in layers.items()}).eval()
    with torch.no_grad():
        network(images[:BATCH])  # the scales are found in the first pass
    return network


def _brevitas_nearest(network: Any, images: Tensor, bits: int, iterations: int) -> Any:
    return _brevitas(network, images, bits)


def _brevitas_gptq(network: Any, images: Tensor, bits: int, iterations: int) -> Any:
    from brevitas.graph.gptq import gptq_mode

    network = _brevitas(network, images, bits)
    with torch.no_grad(), gptq_mode(network, act_order=True, use_quant_activations=False) as steps:
        _each_layer(steps, images)
    return network


def _brevitas_path_following(algorithm: str) -> Peer:
    def run(network: Any, images: Tensor, bits: int, iterations: int) -> Any:
        from brevitas.graph import gpfq, qronos

        chosen = {"GPFQ": gpfq.GPFQ, "Qronos": qronos.Qronos}[algorithm]
        network = _brevitas(network, images, bits)
        with torch.no_grad(), gpfq.gpfq_mode(network, act_order=True, algorithm_impl=chosen) as steps:
            _each_layer(steps, images)
        return network

    return run


def _brevitas_learned_round(network: Any, images: Tensor, bits: int, iterations: int) -> Any:
    """By layers, with the optimizer's options as Brevitas' own script for pictures has them, but for batch and rate."""
    options = {
        "learned_round": "hard_sigmoid",
        "learned_round_mode": "layerwise",
        "learned_round_loss": "regularised_mse",
        "learned_round_iters": max(1, iterations // LEARNED_ROUND_SHORTER),
        "learned_round_lr": CONVERGED_RATE,
        "learned_round_lr_scheduler": None,
        "learned_round_batch_size": BATCH,
    }
    network = _brevitas(network, images, bits)
    batches = [(batch, None) for batch in images.split(BATCH)]
    script = importlib.import_module(_LEARNED_ROUND[-1])
    script.apply_learned_round(network, batches, Namespace(**options))
    return network


def _each_layer(steps: Any, images: Tensor) -> None:
    for _ in range(steps.num_layers):
        for batch in images.split(BATCH):
            steps.model(batch)
        steps.update()


def _mct_nearest(network: Any, images: Tensor, bits: int, iterations: int) -> Any:
    from model_compression_toolkit.ptq import pytorch_post_training_quantization

    platform = _mct_platform(bits)
    return pytorch_post_training_quantization(
        network, lambda: _mct_batches(images), target_platform_capabilities=platform
    )[0]


def _mct_gradient(network: Any, images: Tensor, bits: int, iterations: int) -> Any:
    from model_compression_toolkit.gptq import get_pytorch_gptq_config, pytorch_gradient_post_training_quantization

    epochs = max(1, round(EPOCHS * iterations / 10_000))
    return pytorch_gradient_post_training_quantization(
        network,
        lambda: _mct_batches(images),
        gptq_config=get_pytorch_gptq_config(epochs),
        target_platform_capabilities=_mct_platform(bits),
    )[0]


def _mct_batches(images: Tensor) -> Iterator[list[Tensor]]:
    for batch in images.split(BATCH):
        yield [batch]


def _mct_platform(bits: int) -> Any:
    """Integers that a platform has, as MCT describes it: weights per channel and symmetric, and nothing else."""
    from mct_quantizers import QuantizationMethod
    from model_compression_toolkit.target_platform_capabilities.constants import BIAS_ATTR, KERNEL_ATTR
    from model_compression_toolkit.target_platform_capabilities.schema import mct_current_schema as schema

    def parameter(bits: int, rounded: bool) -> Any:
        return schema.AttributeQuantizationConfig(
            weights_quantization_method=QuantizationMethod.SYMMETRIC,
            weights_n_bits=bits,
            weights_per_channel_threshold=True,
            enable_weights_quantization=rounded,
        )

    def operator(parameters: dict[str, Any]) -> Any:
        described = schema.OpQuantizationConfig(
            default_weight_attr_config=parameter(8, False),
            attr_weights_configs_mapping=parameters,
            activation_quantization_method=QuantizationMethod.POWER_OF_TWO,
            activation_n_bits=8,
            supported_input_activation_n_bits=8,
            enable_activation_quantization=False,
            quantization_preserving=False,
            fixed_scale=None,
            fixed_zero_point=None,
            simd_size=None,
            signedness=schema.Signedness.AUTO,
        )
        return schema.QuantizationConfigOptions(quantization_configurations=(described,))

    names = schema.OperatorSetNames
    weighted = operator({KERNEL_ATTR: parameter(bits, True), BIAS_ATTR: parameter(8, False)})
    layers = (names.CONV, names.DEPTHWISE_CONV, names.FULLY_CONNECTED)
    return schema.TargetPlatformCapabilities(
        default_qco=operator({}),
        operator_set=tuple(schema.OperatorsSet(name=name, qc_options=weighted) for name in layers),
        tpc_platform_type="weights",
        add_metadata=False,
    )


_AIMET = ("aimet_torch", "aimet_torch.quantsim", "aimet_torch.adaround.adaround_weight")
_BREVITAS = ("brevitas", "brevitas.nn", "brevitas.quant", "brevitas.graph.gptq", "brevitas.graph.qronos")
_LEARNED_ROUND = (*_BREVITAS, "accelerate", "brevitas_examples.imagenet_classification.ptq.learned_round_utils")
_MCT = ("model_compression_toolkit", "model_compression_toolkit.ptq", "model_compression_toolkit.gptq")

LIVE_PEERS: dict[str, LivePeer] = {
    "AIMET nearest": LivePeer(_AIMET, "aimet-torch", _aimet_nearest),
    "AIMET AdaRound": LivePeer(_AIMET, "aimet-torch", _aimet_adaround),
    "Brevitas nearest": LivePeer(_BREVITAS, "brevitas", _brevitas_nearest),
    "Brevitas GPTQ": LivePeer(_BREVITAS, "brevitas", _brevitas_gptq),
    "Brevitas GPFQ": LivePeer(_BREVITAS, "brevitas", _brevitas_path_following("GPFQ")),
    "Brevitas Qronos": LivePeer(_BREVITAS, "brevitas", _brevitas_path_following("Qronos")),
    "Brevitas learned round": LivePeer(_LEARNED_ROUND, "brevitas", _brevitas_learned_round, ("accelerate",)),
    "MCT PTQ": LivePeer(_MCT, "model-compression-toolkit", _mct_nearest),
    "MCT gradient PTQ": LivePeer(_MCT, "model-compression-toolkit", _mct_gradient),
}
"""Methods that can run beside ours."""
