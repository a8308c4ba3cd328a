"""What a codec was trained on is known again by its file and by its pixels, and not judged on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ArtifactError, ConfigError
from policyport.core.trained_on import RECORD_FILE, fingerprints, held_out_photographs, read_record, write_record

Image = pytest.importorskip("PIL.Image")

SIDE = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures to judge on, one of them in a folder of its own."""
    made = tmp_path / "test"
    (made / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("a.png", "b.bmp", "more/a.png"):
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE + 3, 3), np.uint8)).save(made / name)
    return made


def test_a_folder_is_read_by_names(folder: Path) -> None:
    found = held_out_photographs(folder, [], SIDE)
    assert sorted(found) == ["a", "b", "more/a"] and {p.shape for p in found.values()} == {(SIDE, SIDE + 3, 3)}


def test_small_pictures_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="too small to be judged") as caught:
        held_out_photographs(folder, [], SIDE + 1)
    assert caught.value.got == f"{SIDE + 3} x {SIDE}"


def test_pictures_of_the_training_are_refused_under_another_name_and_format(folder: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    trained.mkdir()
    Image.open(folder / "more/a.png").save(trained / "x.bmp")
    other = np.random.default_rng(9).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(other).save(trained / "y.png")
    write_record(fingerprints(sorted(trained.iterdir())), tmp_path)
    record = read_record(tmp_path)
    assert [one.name for one in record] == ["x.bmp", "y.png"]
    with pytest.raises(ConfigError, match="a test photograph that the codec was trained on") as caught:
        held_out_photographs(folder, record, SIDE)
    assert str(caught.value.where).endswith("more/a.png") and caught.value.got == "the same picture as x.bmp"
    (folder / "more/a.png").unlink()
    assert sorted(held_out_photographs(folder, record, SIDE)) == ["a", "b"]
    (folder / "copy.png").write_bytes((trained / "y.png").read_bytes())
    Image.open(trained / "x.bmp").save(folder / "again.ppm")
    with pytest.raises(ConfigError, match="2 test photographs that the codec was trained on"):
        held_out_photographs(folder, record, SIDE)


@pytest.mark.parametrize("text", [None, "[", '[{"name": "x"}]'])
def test_a_codec_that_does_not_say_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / RECORD_FILE).write_text(text)
    with pytest.raises(ArtifactError, match="does not say what it was trained on"):
        read_record(tmp_path)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no pictures here"):
        held_out_photographs(tmp_path, [], SIDE)
