"""The study of an encoder's weights in few bits: its table, its float32 side, and a run of a few steps."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from policyport.core.errors import ConfigError
from policyport.pipeline import codec_bits
from policyport.pipeline.cli import main
from policyport.pipeline.codec_bits import BitsResult, bits_grid, markdown, run_bits_study
from policyport.pipeline.codec_rates import Point
from policyport.pipeline.codec_study import CodecCell

from .waves import picture, write_pictures


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


def test_unknown_methods_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such method"):
        run_bits_study(bits_grid(("linear",), (0,), 9), (3,), ("up",), tmp_path, lambda _: None, lambda *_: None)


def test_widths_take_no_other_losses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "codec", "--bits", "3", "--losses", "mse"]) == 2
    assert "--losses" in capsys.readouterr().err


def test_a_study_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("ssimulacra2")
    from policyport.train.codec import photographs

    write_pictures(tmp_path / "images")
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
