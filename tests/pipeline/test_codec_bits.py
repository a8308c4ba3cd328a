"""The study of an encoder's weights in few bits: its table, its float32 side, and a run of a few steps."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from policyport.core.codec_latents import multiplier, quantize_numbers
from policyport.core.errors import ConfigError
from policyport.pipeline import codec_bits
from policyport.pipeline.cli import main
from policyport.pipeline.codec_bits import BitsResult, bits_grid, markdown, run_bits_study
from policyport.pipeline.codec_float import quantized_reals
from policyport.pipeline.codec_rates import Point
from policyport.pipeline.codec_study import CodecCell


def curve(share: float) -> tuple[Point, ...]:
    """Doubling the bits gives two decibels."""
    points = (Point("x", i, share * 0.06 * 2**i, 25.0 + 2 * i, 1 - 0.2 * 0.5**i, 15.0 + 15 * i) for i in range(6))
    return tuple(points)


def result(seed: int, share: float) -> BitsResult:
    cell = CodecCell("linear", "mse+ms-ssim", "rate", seed, 9)
    return BitsResult(cell, 3, "lattice", 3648, curve(share), curve(1.0))


def test_a_row_is_what_seeds_lose_on_average() -> None:
    text = markdown([result(0, 1.02), result(1, 1.04)])
    assert "| linear | 3 bits | integer least squares | 3,648 | +3.0 % | +3.0 % | +3.0 % |" in text
    assert "seeds 0, 1, means over them" in text


@given(st.lists(st.integers(-32767, 32767), min_size=1, max_size=40), st.floats(2.0, 200.0), st.integers(0, 128))
def test_reals_are_quantized_as_integers_are(code: list[int], step: float, offset: int) -> None:
    scale, offsets = 0.0625, np.full(len(code), offset, np.uint8)
    integers = np.array(code, np.int64)
    q = quantize_numbers(integers, multiplier(step, scale), offsets)
    reals = quantized_reals((integers * scale).astype(np.float32), step, offsets)
    edge = np.abs(integers) * scale / step + offset / 256
    sure = np.abs(edge - np.round(edge)) > 1e-4
    np.testing.assert_array_equal(q[sure], reals[sure])


def test_unknown_methods_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such method"):
        run_bits_study(bits_grid(("linear",), (0,), 9), (3,), ("up",), tmp_path, lambda _: None, lambda *_: None)


def test_widths_take_no_other_losses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "codec", "--bits", "3", "--losses", "mse"]) == 2
    assert "--losses" in capsys.readouterr().err


def picture(seed: int, side: int) -> NDArray[np.uint8]:
    """Waves of three colours."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    waves = 128 + 90 * np.sin(y[..., None] * random.uniform(0, 1, 3) + x[..., None] * random.uniform(0, 1, 3))
    return np.asarray(waves + random.normal(0, 9, (side, side, 3)), np.uint8)


def test_a_study_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("ssimulacra2")
    from PIL import Image
    from policyport.train.codec import photographs

    (tmp_path / "images").mkdir()
    for seed in range(2):
        Image.fromarray(picture(seed, 104)).save(tmp_path / f"images/{seed}.png")
    monkeypatch.setattr(photographs, "test_photographs", lambda: {"one": picture(7, 176)})
    monkeypatch.setattr(codec_bits, "QUALITIES", (2, 9))
    document = tmp_path / "page.md"
    document.write_text("<!-- figures:codec-bits -->\n<!-- /figures:codec-bits -->\n")
    line = ["study", "codec", "--bits", "8", "3", "--methods", "nearest", "qat", "--steps", "2"]
    line += ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "study"), "--page", str(document)]
    assert main(line) == 0
    assert capsys.readouterr().out.count(" bpp ") == 2 * 4
    with (tmp_path / "study/bits.csv").open() as stream:
        rows = [(row["bits"], row["method"]) for row in csv.DictReader(stream)]
    assert rows == [
        (bits, method)
        for bits, method in (("32", ""), ("8", "nearest"), ("3", "nearest"), ("3", "qat"))
        for _ in range(2)
    ]
    table = document.read_text()
    assert "| linear | 3 bits | trained as integers |" in table and "| 8 bits | trained" not in table
