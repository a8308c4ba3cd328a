"""Rendered faces: the head, what units move, pictures that repeat, a cache that resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import ArtifactError
from policyport.train.faces.asset import head
from policyport.train.faces.build import read_mesh, read_target, traits
from policyport.train.faces.units import (
    BP4D,
    DISFA,
    EMOTIONET,
    EXCLUSIVE,
    EXPRESSIONS,
    SHAPES,
    UNITS,
    draw_expression,
    expression,
    shape_weights,
)


def shape_of(unit: int) -> np.ndarray:
    """Offsets that a unit alone gives the head, [V, 3], gaze and shifts left out."""
    names = head().expression_names
    total = np.zeros_like(head().vertices)
    for shape, gain in SHAPES[unit].items():
        for name in (shape,) if shape in names else (shape + "Left", shape + "Right"):
            total += gain * head().expressions[names.index(name)]
    return total


def test_every_unit_moves_the_face_where_it_lies() -> None:
    assert {*EMOTIONET, *BP4D, *DISFA} <= set(UNITS)
    for unit in UNITS:
        moved = np.linalg.norm(shape_of(unit), axis=1)
        height = head().vertices[np.argmax(moved), 1]
        assert moved.max() > 0.02, f"AU{unit} moves nothing"
        if unit != 9:  # wrinkling the nose lowers the brows' inner ends
            assert (height > 6.9) == (unit in (1, 2, 4, 5, 7, 43)), f"AU{unit} moves at a height of {height} dm"


def test_directions_of_units() -> None:
    def lift(unit: int, name: str) -> float:
        shape = head().expressions[head().expression_names.index(name)]
        where = np.linalg.norm(shape, axis=1) > 0.5 * np.linalg.norm(shape, axis=1).max()
        return float(shape_of(unit)[where, 1].mean())

    assert lift(1, "browInnerUp") > 0 > lift(4, "browDownLeft")
    assert lift(12, "mouthSmileLeft") > 0 > lift(15, "mouthFrownLeft")
    assert lift(5, "eyeWideLeft") > 0 > lift(43, "eyeBlinkLeft")
    assert lift(26, "jawOpen") < 0


def test_the_head_is_symmetric_and_whole() -> None:
    mesh = head()
    assert mesh.triangles.min() == 0 and mesh.triangles.max() == len(mesh.vertices) - 1
    left, right = (mesh.vertices[mesh.eye(side)].mean(axis=0) for side in (0, 1))
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-3)
    assert np.isfinite(mesh.expressions).all() and (mesh.masks >= 0).all() and (mesh.masks <= 1).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_expressions_hold_what_they_say(seed: int) -> None:
    shown = draw_expression(np.random.default_rng(seed))
    present = {unit for unit, there in zip(UNITS, shown.present, strict=True) if there}
    assert not any(present.issuperset(pair) for pair in EXCLUSIVE)
    assert 26 not in present or 25 in present
    for unit, there, intensity in zip(UNITS, shown.present, shown.intensity, strict=True):
        assert (intensity >= 0.35) == there, f"AU{unit}"
    weights = shape_weights(shown, head().expression_names, np.random.default_rng(seed))
    assert weights.shape == (52,) and weights.min() >= 0 and weights.max() <= np.float32(1.2)


def test_shares_of_expressions_are_a_distribution() -> None:
    assert sum(share for share, _ in EXPRESSIONS.values()) == pytest.approx(1)
    assert {unit for _, units in EXPRESSIONS.values() for unit in units} <= set(UNITS)


def test_a_mesh_and_a_target_are_read() -> None:
    mesh = read_mesh("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 1\ng body\nf 1/1 2/2 3/1 4/2\n")
    assert mesh.positions.shape == (4, 3) and mesh.corners[:, :, 0].tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.corners[:, :, 1].tolist() == [[0, 1, 0], [0, 0, 1]] and set(mesh.groups) == {"body"}
    offsets = read_target(b"# a comment\n\n2 .5 -1 0.25\n", 4)
    assert offsets[2].tolist() == [0.5, -1, 0.25] and not offsets[[0, 1, 3]].any()


def test_traits_pair_their_opposites_and_their_sides() -> None:
    names = [f"a/eyes/{side}-eye-scale-{way}.target.gz" for side in "lr" for way in ("decr", "incr")]
    found = traits([*names, "a/head/head-age-incr.target.gz", "a/head/head-trans-in.target.gz"])
    assert {name: tuple(map(len, sides)) for name, sides in found.items()} == {"eyes/eye-scale": (2, 2)}


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    import zipfile

    from policyport.train.faces.build import build

    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("something", "else")
    with pytest.raises(ArtifactError, match="not the wheel of the heads"):
        build(wheel, tmp_path / "heads.npz")


class TestPictures:
    """What numba compiles."""

    pytest.importorskip("numba")

    def test_one_picture_repeats_and_shows_a_face(self) -> None:
        from policyport.train.faces.person import draw_person
        from policyport.train.faces.scene import render

        def picture(seed: int) -> np.ndarray:
            generator = np.random.default_rng(seed)
            person = draw_person(generator)
            return render(person, expression({12}, generator), generator, side=48)

        first = picture(1)
        assert first.shape == (48, 48, 3) and first.dtype == np.uint8
        np.testing.assert_array_equal(first, picture(1))
        assert np.abs(first.astype(int) - picture(2)).mean() > 5
        assert first[12:40, 12:36].std() > 8

    def test_a_unit_changes_the_picture_where_it_moves_the_face(self) -> None:
        from policyport.train.faces.person import draw_person
        from policyport.train.faces.scene import Conditions, Pose, render

        def picture(units: set[int]) -> np.ndarray:
            person = draw_person(np.random.default_rng(4))
            generator = np.random.default_rng(5)
            shown = expression(units, generator)
            still = Conditions(degradation=0.0)
            return render(person, shown, np.random.default_rng(6), conditions=still, pose=Pose(0, 0, 0, 15.0)).astype(
                int
            )

        neutral = picture(set())
        brows, mouth = (np.abs(picture(units) - neutral).mean(axis=(1, 2)) for units in ({1, 2}, {26, 25}))
        assert brows[8:30].sum() > 2 * brows[40:].sum()
        assert mouth[36:].sum() > 2 * mouth[8:30].sum()

    def test_landmarks_of_a_crop_lie_where_they_should(self) -> None:
        from policyport.train.faces.alignment import LANDMARKS, similarity

        turned = LANDMARKS @ np.array([[0.8, -0.6], [0.6, 0.8]]).T * 3 + [5, -2]
        found = similarity(turned, LANDMARKS)
        np.testing.assert_allclose(turned @ found[:, :2].T + found[:, 2], LANDMARKS, atol=1e-12)

    def test_contact_sheets(self, tmp_path: Path) -> None:
        from PIL import Image
        from policyport.train.faces.sheet import CAPTION, every_unit, many, write_sheet

        write_sheet(many(3, 32, 0), 2, tmp_path / "a" / "faces.png")
        with Image.open(tmp_path / "a/faces.png") as sheet:
            assert sheet.size == (64, 2 * (32 + CAPTION))
        shown = every_unit(32, 0)
        assert len(shown) == len(UNITS) + 1
        assert all((picture != shown[0][0]).any() for picture, _ in shown[1:])

    def test_speed_is_pictures_over_the_processor_time_they_took(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from policyport.train.faces import dataset

        clock = iter((10.0, 12.5))
        monkeypatch.setattr(dataset.time, "process_time", lambda: next(clock))
        assert dataset.speed(dataset.FaceSpec(persons=2, images_per_person=5, side=32)) == 4

    def test_a_set_does_not_depend_on_processes_nor_on_interruption(self, tmp_path: Path) -> None:
        from policyport.train.faces import dataset

        spec = dataset.FaceSpec(persons=3, images_per_person=2, side=32, seed=7)
        whole = dataset.faces(spec, folder=tmp_path / "a")
        part = dataset.faces(dataset.FaceSpec(1, 2, 32, 7, first_person=2), folder=tmp_path / "b")
        np.testing.assert_array_equal(whole.images[whole.person == 2], part.images)
        (shard,) = (tmp_path / "a").rglob("*.npz")
        written = shard.stat().st_mtime_ns
        again = dataset.faces(spec, folder=tmp_path / "a")
        assert shard.stat().st_mtime_ns == written
        np.testing.assert_array_equal(again.images, whole.images)
        assert whole.images.shape == (6, 32, 32, 3) and whole.present.shape == (6, len(UNITS))
