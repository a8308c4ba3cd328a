"""MCUCoder's networks: the published numbers, the order of its channels, its training and its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from policyport.core.codec_file import unpack_picture  # noqa: E402
from policyport.core.codec_latents import decode_numbers  # noqa: E402
from policyport.train.codec import mcucoder_learner  # noqa: E402
from policyport.train.codec.drawn import drawn_pictures  # noqa: E402
from policyport.train.codec.export import write_mcu_encoder  # noqa: E402
from policyport.train.codec.learner import random_crops  # noqa: E402
from policyport.train.codec.mcucoder import CHANNELS, DecoderName, McuCodec, McuEncoder  # noqa: E402
from policyport.train.codec.mcucoder_files import PUBLISHED_QUALITY, McuFiles  # noqa: E402
from policyport.train.codec.mcucoder_learner import McuConfig, McuState, learn_mcucoder, unlikeness  # noqa: E402

PICTURES = drawn_pictures(3, seed=5)
LITTLE = McuConfig("ours", 9, steps=6, seed=0, batch=2, evaluate_every=2)


def test_the_encoder_has_the_published_size() -> None:
    encoder = McuEncoder()
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 10_524
    assert encoder.macs_per_pixel == 715


@pytest.mark.parametrize("decoder", ["own", "ours"])
def test_a_code_has_twelve_channels_at_an_eighth_of_the_size(decoder: DecoderName) -> None:
    codec, picture = McuCodec(decoder, 6), torch.rand(2, 3, 40, 64)
    assert codec.encoder(picture).shape == (2, CHANNELS, 5, 8)
    decoded = codec(picture, 3)
    assert decoded.shape == picture.shape
    assert decoded.min() >= 0 and decoded.max() <= 1


@pytest.mark.parametrize("kept", [1, 5, 12])
def test_channels_behind_those_kept_are_neither_seen_nor_trained(kept: int) -> None:
    codec = McuCodec("ours", 9)
    crops = random_crops(PICTURES, 96, 2, torch.Generator().manual_seed(0))
    unlikeness(codec, crops, kept).backward()
    gradient = codec.encoder.third.weight.grad.abs().sum(dim=(1, 2, 3))
    assert (gradient[:kept] > 0).all()
    assert (gradient[kept:] == 0).all()
    before = codec(crops / 255, kept)
    with torch.no_grad():
        codec.encoder.third.bias[kept:] += 7
    assert torch.equal(codec(crops / 255, kept), before)


def test_training_makes_pictures_more_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcucoder_learner, "VALIDATION_CROPS", 2)
    crops = random_crops(PICTURES, 96, 4, torch.Generator().manual_seed(3))
    short, long = (learn_mcucoder(replace(LITTLE, steps=n, evaluate_every=n), PICTURES).codec for n in (1, 25))
    with torch.no_grad():
        assert unlikeness(long, crops, 12) < unlikeness(short, crops, 12)


def test_interrupted_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcucoder_learner, "VALIDATION_CROPS", 2)
    whole = learn_mcucoder(LITTLE, PICTURES).codec.state_dict()
    original = mcucoder_learner._step

    def stopping(state: McuState, *rest: object) -> None:
        if state.step == 5:
            raise KeyboardInterrupt
        original(state, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(mcucoder_learner, "_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            learn_mcucoder(LITTLE, PICTURES, tmp_path / "checkpoint.pt")
    again = learn_mcucoder(LITTLE, PICTURES, tmp_path / "checkpoint.pt").codec.state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_the_exported_encoder_computes_the_same(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    encoder, picture = McuEncoder(), PICTURES[0][:24, :40]
    write_mcu_encoder(encoder, tmp_path / "encoder.onnx", 24, 40)
    session = onnxruntime.InferenceSession(str(tmp_path / "encoder.onnx"), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"observation": picture.reshape(1, -1).astype(np.float32)})
    with torch.no_grad():
        wanted = encoder(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
    assert got.reshape(3, 5, CHANNELS) == pytest.approx(wanted[0].permute(1, 2, 0).numpy(), abs=1e-4)


def test_a_file_of_fewer_channels_is_the_beginning_of_one_of_more() -> None:
    pytest.importorskip("scipy")
    torch.manual_seed(0)
    files = McuFiles.fit(McuCodec("ours", 9).eval(), [picture[:96, :96] for picture in PICTURES])
    picture = PICTURES[0][100:141, 7:58]
    numbers = files.numbers(picture, PUBLISHED_QUALITY)
    whole, part = (files.file(picture, numbers, PUBLISHED_QUALITY, kept) for kept in (CHANNELS, 4))
    assert len(part) < len(whole) and whole.startswith(part)
    read = unpack_picture(part, files.coder, "here")
    got = decode_numbers(read.chunks, read.header.rows, read.header.columns, files.coder)
    assert np.array_equal(got[..., :4], numbers[..., :4]) and not got[..., 4:].any()
    decoded = [files.picture(given, PUBLISHED_QUALITY, 4, (41, 51)) for given in (got, numbers)]
    assert decoded[0].shape == picture.shape and np.array_equal(*decoded)


def test_the_published_step_cuts_each_channel_of_training_pictures_into_64() -> None:
    pytest.importorskip("scipy")
    torch.manual_seed(0)
    files = McuFiles.fit(McuCodec("ours", 9).eval(), [PICTURES[0]])
    numbers = files.numbers(PICTURES[0], PUBLISHED_QUALITY)
    assert files.coder.steps[PUBLISHED_QUALITY] == 1
    assert set(np.ptp(numbers.reshape(-1, CHANNELS), axis=0)) <= {63, 64, 65}
