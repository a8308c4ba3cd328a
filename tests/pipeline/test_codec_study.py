"""The study of an image codec's losses: its grid, its cells, its tables and page, on trainings of a few steps."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from policyport.core.errors import ConfigError
from policyport.pipeline import codec_page, codec_rates, codec_study
from policyport.pipeline.cli import main
from policyport.pipeline.codec_rates import Point, at_rate
from policyport.pipeline.codec_study import CodecCell, grid, markdown, rows_of

from .waves import picture, write_pictures


def curve(share: float, codec: str = "x") -> list[Point]:
    """Doubling the bits gives two decibels, a tenth of MS-SSIM's distance to 1, and fifteen points of SSIMULACRA 2."""
    return [
        Point(codec, i, share * 0.06 * 2**i, 25.0 + 2 * i, 1 - 0.2 * 0.5**i, 15.0 + 15 * i) for i in range(6)
    ]  # fmt: skip


def test_every_setting_comes_before_a_second_seed() -> None:
    cells = grid(("hybrid",), ("mse", "mse+ms-ssim"), ("none", "rate"), (0, 1), 9)
    assert len(cells) == 8 and len({cell.name for cell in cells}) == 8
    assert [cell.seed for cell in cells] == [0] * 4 + [1] * 4


@pytest.mark.parametrize("given", [("cubic", "mse", "none"), ("linear", "mae", "none"), ("linear", "mse", "entropy")])
def test_unknown_names_are_refused(given: tuple[str, str, str]) -> None:
    encoder, loss, objective = given
    with pytest.raises(ConfigError, match="no such"):
        grid((encoder,), (loss,), (objective,), (0,), 9)


def test_quality_at_a_rate_lies_between_that_of_its_neighbours() -> None:
    psnr = codec_rates.METRICS["PSNR"][0]
    assert at_rate(curve(1.0), 0.12, psnr) == pytest.approx(27.0)
    assert 27.0 < (at_rate(curve(1.0), 0.18, psnr) or 0.0) < 29.0
    assert at_rate(curve(1.0), 0.05, psnr) is None and at_rate(curve(1.0), 2.0, psnr) is None


def test_rows_hold_the_seeds_and_what_they_save() -> None:
    cells = [(CodecCell("hybrid", "mse", "rate", seed, 9), curve(share)) for seed, share in enumerate((0.4, 0.6))]
    (row,) = rows_of(cells)
    peer = curve(1.0, "JPEG, optimised")
    assert row.bd(peer, "PSNR") == [pytest.approx(-60), pytest.approx(-40)]
    assert "PSNR at 1.2 bpp" in markdown([row], peer, (1.2,))
    text = markdown([row], peer)
    assert "| hybrid | rate | a: squared error | 2 |" in text and "-50.0 %, -50.0 %, -50.0 % |" in text


def test_a_study_is_written_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("ssimulacra2")
    from policyport.train.codec import photographs

    write_pictures(tmp_path / "images")
    tested = {"one": picture(7, 176)}
    monkeypatch.setattr(photographs, "test_photographs", lambda: tested)
    monkeypatch.setattr(codec_page, "CROPPED", {"one": (8, 8)})
    monkeypatch.setattr(codec_rates, "PEER_QUALITIES", (5, 60))
    monkeypatch.setattr(codec_study, "QUALITIES", (2, 9))
    line = ["study", "codec", "--encoders", "linear", "--losses", "mse", "--objectives", "rate"]
    line += ["--steps", "2", "--images", str(tmp_path / "images"), "--out", str(tmp_path / "study")]
    assert main(line) == 0
    assert capsys.readouterr().out.count(" bpp ") == 2
    with (tmp_path / "study/study.csv").open() as stream:
        assert [(row["objective"], row["quality"]) for row in csv.DictReader(stream)] == [("rate", "2"), ("rate", "9")]
    page = (tmp_path / "study/study.html").read_text()
    assert page.count("data:image/png;base64,") == len(codec_rates.peers()) + 2 and "://" not in page
    cell = tmp_path / "study/cells/linear-mse-rate-0.json"
    table = json.loads(cell.read_text())
    table["points"][0]["psnr_db"] = 12.3456
    cell.write_text(json.dumps(table))
    document = tmp_path / "page.md"
    blocks = [
        f"<!-- figures:{name} -->\n{name}\n<!-- /figures:{name} -->\n" for name in ("codec-study", "codec-study-linear")
    ]
    document.write_text("".join(blocks))
    assert main([*line, "--page", str(document)]) == 0
    assert "12.35 dB" in capsys.readouterr().out
    assert blocks[0] in document.read_text() and "| linear | rate |" in document.read_text()


def test_a_study_is_judged_on_photographs_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("ssimulacra2")
    from PIL import Image

    monkeypatch.setattr(codec_rates, "PEER_QUALITIES", (5, 60))
    monkeypatch.setattr(codec_study, "QUALITIES", (2, 9))
    for folder, seeds, side in (("images", (0, 1), 168), ("kodak", (7,), 176)):
        (tmp_path / folder).mkdir()
        for seed in seeds:
            Image.fromarray(picture(seed, side)).save(tmp_path / f"{folder}/{seed}.png")
    line = ["study", "codec", "--encoders", "linear", "--losses", "mse", "--objectives", "rate", "--steps", "2"]
    line += ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "study")]
    judged = ["--test-images", str(tmp_path / "kodak")]
    assert main([*line, *judged]) == 0
    first = json.loads((tmp_path / "study/cells/linear-mse-rate-0.json").read_text())
    assert (tmp_path / "study/study.html").read_text().count("data:image/png;base64,") == len(codec_rates.peers()) + 2
    Image.fromarray(picture(8, 190)).save(tmp_path / "kodak/8.png")
    assert main([*line, *judged]) == 0
    second = json.loads((tmp_path / "study/cells/linear-mse-rate-0.json").read_text())
    assert first["cell"] == second["cell"] and first["points"] != second["points"]
    assert len(list((tmp_path / "study").glob("peers-*.json"))) == 2
    capsys.readouterr()
    (tmp_path / "kodak/again.png").write_bytes((tmp_path / "images/1.png").read_bytes())
    assert main([*line, *judged]) == ConfigError.exit_code
    assert "a test photograph that the codec was trained on" in capsys.readouterr().err
    assert main([*line, "--peer", "mcucoder", *judged]) == ConfigError.exit_code
