"""Training: it learns, goes on where it stopped, and its integers are those of its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from policyport.core.codec_model import LARGEST  # noqa: E402
from policyport.core.codec_picture import blocks_of  # noqa: E402
from policyport.train.codec import learner  # noqa: E402
from policyport.train.codec.config import CodecConfig  # noqa: E402
from policyport.train.codec.drawn import drawn_pictures  # noqa: E402
from policyport.train.codec.export import write_encoder  # noqa: E402
from policyport.train.codec.integers import lattice_grids  # noqa: E402
from policyport.train.codec.networks import BitEstimate, Encoder, EncoderName, FakeWeights, rounded  # noqa: E402
from policyport.train.codec.transform import karhunen_loeve, sampled_blocks  # noqa: E402

PICTURES = drawn_pictures(3, seed=5)
LITTLE = CodecConfig(
    channels=12, decoder_width=9, loss="mse", steps=12, batch=2, crop=48, evaluate_every=4, learning_rate=3e-3
)


def test_training_lowers_the_loss_on_pictures_it_does_not_see() -> None:
    from dataclasses import replace

    curve = learner.learn(replace(LITTLE, steps=60, evaluate_every=10), PICTURES).curve
    assert curve[-1]["loss"] < curve[0]["loss"]


@pytest.mark.parametrize("bits", [0, 3])
def test_interrupted_training_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    from dataclasses import replace

    config = replace(LITTLE, weight_bits=bits, calibration_blocks=64)
    whole = learner.learn(config, PICTURES).codec.state_dict()
    original = learner._step

    def stopping(state: learner.State, *rest: object) -> None:
        if state.step == 9:
            raise KeyboardInterrupt
        original(state, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(learner, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        learner.learn(config, PICTURES, tmp_path / "checkpoint.pt")
    monkeypatch.undo()
    again = learner.learn(config, PICTURES, tmp_path / "checkpoint.pt").codec.state_dict()
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("loss", ["mse", "mse+ms-ssim", "mse+ms-ssim+cycle"])
@pytest.mark.parametrize("objective", ["rate", "compression", "none"])
def test_every_loss_with_every_objective_reaches_the_encoder(loss: str, objective: str) -> None:
    from dataclasses import replace

    config = replace(LITTLE, loss=loss, objective=objective, encoder="autoencoder", crop=96)
    basis, deviation = karhunen_loeve(PICTURES, config.channels, 0)
    codec = learner.Codec(config, basis, deviation)
    picture = learner.random_crops(PICTURES, 96, 2, torch.Generator().manual_seed(0))
    noise, kept = torch.zeros(2, 12, 12, 12), torch.ones(2, 12, 1, 1)
    learner.losses(codec, config, picture, torch.full((2, 1, 1, 1), 20.0), noise, kept)[0].mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in codec.encoder.parameters())


def test_the_transform_is_orthonormal_and_encodes_blocks_one_by_one() -> None:
    basis, _ = karhunen_loeve(PICTURES, 12, 0)
    assert basis @ basis.T == pytest.approx(np.eye(12), abs=1e-9)
    picture = PICTURES[0][:24, :40]
    inputs = (torch.from_numpy(picture).permute(2, 0, 1)[None].float() - 128) / 64
    code = Encoder("linear", basis)(inputs)[0].permute(1, 2, 0).reshape(-1, 12).detach().numpy()
    assert code == pytest.approx((blocks_of(picture).astype(float) - 128) @ basis.T, abs=0.01)


@pytest.mark.parametrize("kind", ["hybrid", "autoencoder"])
def test_no_block_sees_another(kind: EncoderName) -> None:
    basis, _ = karhunen_loeve(PICTURES, 12, 0)
    encoder = Encoder(kind, basis)
    picture = torch.randn(1, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    other = picture.clone()
    other[:, :, 8:16, 16:24] = 0.5
    changed = (encoder(picture) != encoder(other)).any(dim=1)[0]
    assert changed.nonzero().tolist() == [[1, 2]]


def test_the_autoencoder_is_its_graph(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    basis, _ = karhunen_loeve(PICTURES, 12, 0)
    encoder = Encoder("autoencoder", basis)
    parameters = write_encoder(encoder, tmp_path / "encoder.onnx")
    picture = PICTURES[0][:24, :40]
    session = onnxruntime.InferenceSession(str(tmp_path / "encoder.onnx"), providers=["CPUExecutionProvider"])
    (code,) = session.run(None, {"observation": blocks_of(picture).astype(np.float32)})
    inputs = (torch.from_numpy(picture).permute(2, 0, 1)[None].float() - 128) / 64
    expected = encoder(inputs)[0].permute(1, 2, 0).reshape(-1, 12).detach().numpy()
    np.testing.assert_allclose(code, expected, atol=1e-3)
    assert parameters == sum(p.numel() for p in encoder.parameters())


def test_fake_weights_are_whole_parts_of_one_scale_a_row() -> None:
    parts = 5 * torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([0.5, 1.0, 2.0, 0.1, 3.0])
    fake = FakeWeights(4, scale)
    integers = fake(parts).detach() / scale.view(-1, 1, 1, 1)
    assert torch.allclose(integers, parts.round().clamp(-8, 7), atol=1e-5)


def test_gradients_pass_the_rounding_where_it_does_not_saturate() -> None:
    parts = torch.tensor([[0.3, 1.6, 9.0]], requires_grad=True)
    fake = FakeWeights(3, torch.tensor([2.0]))
    fake(parts).sum().backward()
    assert parts.grad is not None and parts.grad.tolist() == [[2.0, 2.0, 0.0]]
    # Weights grow with their scale as their integers are.
    assert fake.logarithm.grad is not None and fake.logarithm.grad.item() == pytest.approx(2.0 * (0 + 2 + 3))


@pytest.mark.parametrize("kind", ["linear", "autoencoder"])
def test_training_of_integers_starts_near_the_float_encoder(kind: EncoderName) -> None:
    basis, _ = karhunen_loeve(PICTURES, 12, 0)
    encoder, blocks = Encoder(kind, basis), sampled_blocks(PICTURES, 256, 0)
    planes = torch.from_numpy(blocks.reshape(-1, 8, 8, 3)).permute(0, 3, 1, 2)
    inputs = (planes.float() - 128) / 64
    with torch.no_grad():
        exact = encoder(inputs)
        encoder.quantize(4, lattice_grids(encoder, blocks, 4))
        assert (encoder(inputs) - exact).square().mean() < 1e-3 * exact.square().mean()


def test_estimated_bits_are_those_of_a_distribution() -> None:
    estimate = BitEstimate(np.array([50.0, 20.0, 10.0, 5.0]))
    values = torch.arange(-400.0, 401.0).view(-1, 1, 1, 1).expand(-1, 4, 1, 1)
    code = torch.zeros(801, 4, 1, 1)
    code[:, :1] = values[:, :1]
    step = torch.full((801, 1, 1, 1), 1.0)
    bits = estimate(code, step)[:, 0].flatten()
    assert torch.exp2(-bits).sum().item() == pytest.approx(1.0, abs=0.01)


def test_rounding_leaves_whole_steps_within_the_largest() -> None:
    code = torch.linspace(-50000, 50000, 997).view(1, 1, 1, -1).expand(1, 4, 1, -1)
    integers = (rounded(code, torch.full((1, 1, 1, 1), 20.0)) / 20).flatten()
    assert torch.allclose(integers, integers.round(), atol=1e-3)
    assert integers.abs().max() <= LARGEST + 0.001
