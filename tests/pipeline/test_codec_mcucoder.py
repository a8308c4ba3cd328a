"""The comparison with MCUCoder: its cells go on, its costs are counted, its table says what was measured."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ConfigError

pytest.importorskip("torch")
pytest.importorskip("ssimulacra2")

from PIL import Image
from policyport.pipeline import codec_mcucoder, codec_mcucoder_comparison, codec_mcucoder_cost, speak
from policyport.pipeline.cli import main
from policyport.pipeline.codec_mcucoder import McuCell, McuResult, run_mcucoder
from policyport.pipeline.codec_mcucoder_comparison import Comparison, common_bd_rate, front, markdown
from policyport.pipeline.codec_mcucoder_cost import EncoderCost, cost_of_mcucoder
from policyport.pipeline.codec_mcucoder_ours import OurResult
from policyport.pipeline.codec_rates import METRICS, Point
from policyport.train.codec import mcucoder_learner, photographs
from policyport.train.codec.drawn import drawn_pictures

PSNR = METRICS["PSNR"][0]


def point(bits_per_pixel: float, psnr_db: float) -> Point:
    """Its other qualities rise with its PSNR."""
    return Point("x", 0, bits_per_pixel, psnr_db, 1 - 10 ** (-psnr_db / 20), psnr_db)


POINTS = st.lists(st.builds(point, st.floats(0.01, 4), st.floats(10, 50)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_is_what_nothing_betters(points: list[Point]) -> None:
    kept = front(points, PSNR)
    for one in points:
        better = [p for p in points if p.bits_per_pixel <= one.bits_per_pixel and PSNR(p) > PSNR(one)]
        assert (one in kept) <= (not better)
    assert max(map(PSNR, kept)) == max(map(PSNR, points))
    assert all(a.bits_per_pixel <= b.bits_per_pixel and PSNR(a) < PSNR(b) for a, b in pairwise(kept))


def test_bd_rates_are_taken_over_what_both_span() -> None:
    ours = [point(0.1 * 2**i, 24.0 + 2 * i) for i in range(5)]
    theirs = [point(0.2 * 2**i, 24.0 + 2 * i) for i in range(-3, 2)]
    found = common_bd_rate(ours, theirs, PSNR)
    assert found is not None and found.percent == pytest.approx(-50)
    assert (found.low, found.high) == (24.0, 26.0)
    assert common_bd_rate(ours, theirs[:3], PSNR) is None


def test_a_cell_goes_on_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    for number, picture in enumerate(drawn_pictures(2, 3)):
        Image.fromarray(picture).save(tmp_path / f"images/{number}.png")
    monkeypatch.setattr(photographs, "test_photographs", lambda: {"one": drawn_pictures(1, 9)[0][:177, :190]})
    monkeypatch.setattr(mcucoder_learner, "VALIDATION_CROPS", 2)
    monkeypatch.setattr(codec_mcucoder, "KEPT", (2, 12))
    monkeypatch.setattr(codec_mcucoder, "DECODERS", {"own": ("small", 4)})
    cell = McuCell("own", 1, 0, tmp_path / "images")
    found = run_mcucoder(cell, tmp_path)
    two, twelve = found.points
    assert (two.quality, twelve.quality) == (2, 12) and two.bits_per_pixel < twelve.bits_per_pixel
    assert len(list((tmp_path / "cells" / cell.name).glob("*.pt"))) == 1
    path = tmp_path / "cells" / f"{cell.name}.json"
    table = json.loads(path.read_text())
    table["result"]["cpu_seconds"] = 12345.0
    path.write_text(json.dumps(table))
    assert run_mcucoder(cell, tmp_path).cpu_seconds == 12345.0


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="no qemu-system-arm")
@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="no arm-none-eabi-gcc")
def test_the_board_computes_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    monkeypatch.setattr(codec_mcucoder_cost, "SIZES", ((64, 96),))
    monkeypatch.setattr(codec_mcucoder_cost, "COUNTED_SIZE", (16, 24))
    cost = cost_of_mcucoder(tmp_path, speak.silent)
    assert cost.exact and cost.parameters == 10_524 and cost.macs_per_pixel == 715
    assert cost.instructions_per_pixel > 300
    assert 3 * 64 * 96 < cost.least_ram_bytes[64, 96] < cost.ram_bytes[64, 96] < 7 * 64 * 96


def test_the_table_says_what_was_measured() -> None:
    result = McuResult("own", tuple(point(0.1 * (i + 1), 20.0 + i) for i in range(4)), 1234, 600.0)
    ours = OurResult(tuple(point(0.05 * (i + 1), 20.0 + i) for i in range(6)), ())
    sizes = codec_mcucoder_cost.SIZES
    cost = EncoderCost(10_524, 715.0, 740.6, dict.fromkeys(sizes, 311_752), dict.fromkeys(sizes, 244_960), True)
    own = EncoderCost(9_264, 144.0, 308.0, dict.fromkeys(sizes, 17_920), dict.fromkeys(sizes, 17_920), True)
    config = McuCell("own", 7, 0).config
    text = markdown(Comparison(config, ["one"], 58, [result], ours, 230_000, cost, own))
    assert "7 batches of 6 crops of 96x96" in text
    (row,) = (line for line in text.splitlines() if "1,234" in line)
    assert "| 1,234 | 10.0 |" in row and "-50.0 % (20.0 to 23.0)" in row
    assert "bridge and stack | 9,264 | 144 | 308 | 17,920 | 17,920 |" in text


@pytest.mark.parametrize("more", [["--losses", "mse"], ["--seeds", "0", "1"], ["--encoders", "hybrid"]])
def test_choices_that_the_comparison_has_not_are_refused(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "codec", "--peer", "mcucoder", *more]) == ConfigError.exit_code
    assert "--peer" in capsys.readouterr().err


def test_other_studies_have_no_peer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "qat", "--peer", "mcucoder"]) == ConfigError.exit_code
    assert "the study codec" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="no qemu-system-arm")
@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="no arm-none-eabi-gcc")
def test_the_command_writes_the_comparison_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    for number, picture in enumerate(drawn_pictures(2, 3)):
        Image.fromarray(picture).save(tmp_path / f"images/{number}.png")
    tested = dict(zip("abc", drawn_pictures(3, 9), strict=True))
    monkeypatch.setattr(codec_mcucoder_comparison, "test_photographs", lambda: tested)
    monkeypatch.setattr(photographs, "test_photographs", lambda: tested)
    monkeypatch.setattr(mcucoder_learner, "VALIDATION_CROPS", 2)
    monkeypatch.setattr(codec_mcucoder_cost, "SIZES", ((64, 320),))
    monkeypatch.setattr(codec_mcucoder_comparison, "SIZES", ((64, 320),))
    monkeypatch.setattr(codec_mcucoder_cost, "COUNTED_SIZE", (16, 24))
    page = tmp_path / "page.md"
    page.write_text("<!-- figures:codec-mcucoder -->\n<!-- /figures:codec-mcucoder -->\n")
    line = ["study", "codec", "--peer", "mcucoder", "--decoders", "ours", "--steps", "2"]
    line += ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "out"), "--page", str(page)]
    assert main(line) == 0
    text = page.read_text()
    assert "2 batches of 6 crops" in text and "| 10,524 | 715 |" in text and "| 9,264 | 144 |" in text
    assert json.loads((tmp_path / "out/comparison.json").read_text())["cost"]["exact"] is True
    assert "running" in capsys.readouterr().out
    assert main(line) == 0
    assert page.read_text() == text and "running" not in capsys.readouterr().out
