"""Artifacts: what is read back is what was written, whole, or an error that says why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.artifact import (
    COMPANIONS,
    MANIFEST,
    Artifact,
    code_version,
    input_key,
    open_artifact,
    read_manifest,
    sha256_file,
    stage_key,
    write_artifact,
)
from policyport.core.errors import ArtifactError


def write(path: Path, content: str = "content", config: dict[str, Any] | None = None) -> Artifact:
    with write_artifact(path, "train", inputs={"model": "abc"}, config=config or {"seed": 1}, code="code") as writer:
        (writer.path / "policy.onnx").write_text(content)
        (writer.path / "deep").mkdir()
        (writer.path / "deep" / "curve.csv").write_text("steps")
        writer.figures["mean_return"] = 500.0
        writer.tools["numpy"] = "1.26"
    return open_artifact(path)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    artifact = write(tmp_path / "train")
    manifest = artifact.manifest
    assert (manifest.kind, manifest.inputs, manifest.config) == ("train", {"model": "abc"}, {"seed": 1})
    assert (manifest.figures, manifest.tools) == ({"mean_return": 500.0}, {"numpy": "1.26"})
    assert set(manifest.files) == {"policy.onnx", "deep/curve.csv"}
    assert artifact.file("deep/curve.csv").read_text() == "steps"
    assert artifact.key == stage_key("train", {"model": "abc"}, {"seed": 1}, "code")


def test_nothing_else_is_left_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "train")
    write(tmp_path / "train", "again")
    assert [path.name for path in tmp_path.iterdir()] == ["train"]
    assert (tmp_path / "train" / "policy.onnx").read_text() == "again"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [tmp_path / f".x.{what}-{dead.pid}" for what in ("building", "old")]
    kept = [tmp_path / ".x.building-notes", tmp_path / f".y.building-{dead.pid}", tmp_path / f".x.old-{os.getppid()}"]
    for folder in (*left, *kept):
        folder.mkdir()
    write(tmp_path / "x")
    assert not any(folder.exists() for folder in left) and all(folder.exists() for folder in kept)


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "train")
    with pytest.raises(RuntimeError), write_artifact(tmp_path / "train", "train", inputs={}, config={}, code="") as new:
        (new.path / "policy.onnx").write_text("half")
        raise RuntimeError
    assert open_artifact(tmp_path / "train").file("policy.onnx").read_text() == "content"
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_an_interruption_leaves_no_artifact(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        write_artifact(tmp_path / "train", "train", inputs={}, config={}, code="") as new,
    ):
        (new.path / "policy.onnx").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_files_are_copied_in_under_a_name(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    with write_artifact(tmp_path / "q", "quantize", inputs={}, config={}, code="") as writer:
        assert writer.copy(tmp_path / "model.onnx").name == "model.onnx"
        writer.copy(tmp_path / "model.onnx", "src/float.onnx")
    files = open_artifact(tmp_path / "q").manifest.files
    assert files["src/float.onnx"] == files["model.onnx"] == sha256_file(tmp_path / "model.onnx")


@pytest.mark.parametrize("damage", ["", "contents", "tnetnoc"])
def test_an_altered_file_is_refused(tmp_path: Path, damage: str) -> None:
    write(tmp_path / "train")
    (tmp_path / "train" / "policy.onnx").write_text(damage)
    with pytest.raises(ArtifactError, match=r"policy\.onnx is not what was written") as error:
        open_artifact(tmp_path / "train")
    assert error.value.cure is not None and "--force" in error.value.cure


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train")
    (tmp_path / "train" / "policy.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"policy\.onnx is missing"):
        open_artifact(tmp_path / "train")


def test_an_unlisted_file_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "train")
    (tmp_path / "train" / "notes.txt").write_text("mine")
    assert "notes.txt" not in open_artifact(tmp_path / "train").manifest.files


@given(cut=st.integers(0, 10_000))
def test_a_torn_manifest_is_one_clear_error(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("torn") / "train"
    write(folder)
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[: cut % (len(text) - 2)])
    with pytest.raises(ArtifactError, match="does not parse"):
        open_artifact(folder)


@pytest.mark.parametrize("text", ["[]", "{}", "3", "null"])
def test_json_that_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "train")
    (tmp_path / "train" / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError):
        open_artifact(tmp_path / "train")


def edit(folder: Path, **changes: Any) -> None:
    table = json.loads((folder / MANIFEST).read_text())
    table.update(changes)
    (folder / MANIFEST).write_text(json.dumps({key: value for key, value in table.items() if value is not None}))


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train")
    edit(tmp_path / "train", schema=99)
    with pytest.raises(ArtifactError, match="another schema version"):
        open_artifact(tmp_path / "train")


def test_a_manifest_without_a_field_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train")
    edit(tmp_path / "train", files=None)
    with pytest.raises(ArtifactError, match="lacks fields"):
        read_manifest(tmp_path / "train")


def test_another_kind_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train")
    with pytest.raises(ArtifactError, match="another stage") as error:
        open_artifact(tmp_path / "train", "deploy")
    assert (error.value.expected, error.value.got) == ("deploy", "train")


def test_no_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no artifact here"):
        open_artifact(tmp_path)


def test_a_file_that_it_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no model\.tflite"):
        write(tmp_path / "train").file("model.tflite")


TABLES = st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.lists(st.integers()))


@given(config=TABLES, inputs=st.dictionaries(st.text(), st.text()))
def test_the_key_does_not_depend_on_the_order_of_keys(config: dict[str, Any], inputs: dict[str, str]) -> None:
    backwards = dict(reversed(config.items())), dict(reversed(inputs.items()))
    assert stage_key("k", inputs, config, "c") == stage_key("k", backwards[1], backwards[0], "c")


@given(first=TABLES, second=TABLES)
def test_keys_differ_where_configurations_do(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert (stage_key("k", {}, first, "c") == stage_key("k", {}, second, "c")) == (first == second)


def test_the_code_version_sees_source_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    before = code_version(tmp_path)
    (tmp_path / "notes.md").write_text("words")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"\0")
    assert code_version(tmp_path) == before
    (tmp_path / "kernel.c").write_text("int x;")
    with_kernel = code_version(tmp_path)
    assert with_kernel != before
    (tmp_path / "kernel.c").rename(tmp_path / "other.c")
    assert code_version(tmp_path) != with_kernel
    alone = code_version(tmp_path / "a.py")
    (tmp_path / "other.c").unlink()
    assert code_version(tmp_path / "a.py") == alone == code_version(tmp_path)


@pytest.mark.parametrize("name", COMPANIONS)
def test_the_key_of_a_model_file_covers_what_lies_beside_it(tmp_path: Path, name: str) -> None:
    model = tmp_path / "policy.onnx"
    model.write_bytes(b"model")
    keys = [input_key(model)]
    for content in (b"", b"1"):
        (tmp_path / name).write_bytes(content)
        keys.append(input_key(model))
    (tmp_path / "notes.txt").write_text("no companion")
    assert len(set(keys)) == 3 and input_key(model) == keys[-1]


def test_the_key_of_an_artifact_is_its_own(tmp_path: Path) -> None:
    with write_artifact(tmp_path / "train", "train", inputs={}, config={}, code="") as writer:
        (writer.path / "task.json").write_text("{}")
    assert input_key(tmp_path / "train") == open_artifact(tmp_path / "train").key
    with pytest.raises(ArtifactError, match="no artifact here"):
        input_key(tmp_path)
