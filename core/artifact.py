"""Artifacts: a folder of standard files with a ``manifest.json``, written atomically, checked on reading.

A stage reads artifacts and writes one. Its *key* is the hash of its inputs' keys, its resolved
configuration and its own code; a stage whose key matches what lies in its folder has nothing to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policyport.core.errors import ArtifactError

MANIFEST_SCHEMA = 1
MANIFEST = "manifest.json"

COMPANIONS = (
    "task.json",
    "observations.npz",
    "labels.npz",
    "codec.npz",
    "decoder.onnx",
    "pictures.npz",
    "photographs.json",
    "float.onnx",
    "layers.json",
    "returns.json",
    "recognition.json",
    "curve.csv",
)
"""Files that belong to the model they lie beside: a stage that reads a model carries forward those that are there."""


@dataclass(frozen=True)
class Manifest:
    """What a stage left behind."""

    kind: str
    """Which stage wrote it: ``train``, ``quantize``, ``deploy``, ``flash``, ``hil``, ``report``."""

    key: str
    """sha256 over inputs, configuration and code: see :func:`stage_key`."""

    files: dict[str, str]
    """Relative path to sha256, every file but the manifest itself."""

    inputs: dict[str, str]
    """Name of each input to its key (see :func:`input_key`), to a file's sha256, or to a program's version."""

    config: dict[str, Any]
    """The resolved configuration, defaults included."""

    code: str
    """sha256 of the source that did it: see :func:`code_version`."""

    tools: dict[str, str] = field(default_factory=dict)
    """Versions of the packages and programs that took part."""

    figures: dict[str, Any] = field(default_factory=dict)
    """The numbers worth seeing without opening a file."""


@dataclass(frozen=True)
class Artifact:
    """A checked artifact: its folder and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        """The manifest's key."""
        return self.manifest.key

    def file(self, name: str) -> Path:
        """The path of one of its files.

        :raises ArtifactError: where the manifest names no such file
        """
        if name not in self.manifest.files:
            raise ArtifactError(
                f"no {name} in this artifact",
                where=self.path,
                expected=", ".join(sorted(self.manifest.files)),
            )
        return self.path / name


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: object) -> str:
    """Hex sha256 of a value's canonical JSON: sorted keys, no spaces, paths as text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def code_version(*sources: Path) -> str:
    """Hex sha256 over source files, and those (Python, C, headers, assembler, TOML, templates) of folders.

    It changes when the code of a stage does, and with it the stage's key.
    """
    digest = hashlib.sha256()
    for source in sources:
        root = source if source.is_dir() else source.parent
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.suffix in {".py", ".c", ".h", ".S", ".ld", ".in", ".toml", ".j2"} and path.is_file():
                digest.update(path.relative_to(root).as_posix().encode() + b"\0")
                digest.update(path.read_bytes())
    return digest.hexdigest()


def stage_key(kind: str, inputs: Mapping[str, str], config: Mapping[str, Any], code: str) -> str:
    """The key of a stage: equal keys mean equal work."""
    return sha256_json({"kind": kind, "inputs": dict(inputs), "config": dict(config), "code": code})


def input_key(path: Path) -> str:
    """What identifies a stage's input: an artifact's key, or a hash over a model file and its companions.

    :raises ArtifactError: a folder that is no artifact
    """
    if not path.is_file():
        return read_manifest(path).key
    beside = (path.with_name(name) for name in COMPANIONS)
    return sha256_json({file.name: sha256_file(file) for file in beside if file.is_file()} | {"": sha256_file(path)})


def open_artifact(path: Path, kind: str | None = None) -> Artifact:
    """Read an artifact and check every file against its hash.

    :param kind: the stage that must have written it, if it matters
    :raises ArtifactError: missing, torn, altered, of another kind or schema version
    """
    manifest = read_manifest(path)
    if kind is not None and manifest.kind != kind:
        raise ArtifactError("artifact of another stage", where=path, expected=kind, got=manifest.kind)
    for name, expected in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise ArtifactError(
                f"torn artifact: {name} is missing",
                where=path,
                cure=f"run the {manifest.kind} stage again with --force",
            )
        got = sha256_file(file)
        if got != expected:
            raise ArtifactError(
                f"torn or altered artifact: {name} is not what was written",
                where=path,
                expected=f"sha256 {expected[:16]}...",
                got=f"sha256 {got[:16]}...",
                cure=f"run the {manifest.kind} stage again with --force",
            )
    return Artifact(path, manifest)


def read_manifest(path: Path) -> Manifest:
    """Read ``manifest.json`` of a folder without checking the files.

    :raises ArtifactError: missing, unreadable or of another schema version
    """
    file = path / MANIFEST
    if not file.is_file():
        raise ArtifactError("no artifact here", where=path, expected=f"a folder with {MANIFEST}")
    try:
        table = json.loads(file.read_text())
        schema = table.pop("schema")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ArtifactError("torn artifact: its manifest does not parse", where=file, got=error) from error
    if schema != MANIFEST_SCHEMA:
        raise ArtifactError("artifact of another schema version", where=file, expected=MANIFEST_SCHEMA, got=schema)
    try:
        return Manifest(**table)
    except TypeError as error:
        raise ArtifactError("torn artifact: its manifest lacks fields", where=file, got=error) from error


class ArtifactWriter:
    """The folder under construction: put files in :attr:`path`, numbers in :attr:`figures`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.figures: dict[str, Any] = {}
        self.tools: dict[str, str] = {}

    def copy(self, source: Path, name: str | None = None) -> Path:
        """Copy a file in, under its own name or another."""
        target = self.path / (name or source.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return target

    def carry(self, folder: Path) -> None:
        """Copy the companions of a model in that lie in ``folder``."""
        for name in COMPANIONS:
            if (folder / name).is_file():
                self.copy(folder / name)


def partial_folder(out: Path, key: str) -> Path:
    """Where a stage that writes ``out`` keeps what an interrupted run is to go on from, made where it is not there.

    What a run of another key left is removed.
    """
    partial = out.with_name(out.name + ".partial")
    folder = partial / key[:16]
    if partial.is_dir() and not folder.is_dir():
        shutil.rmtree(partial)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def write_artifact(
    path: Path, kind: str, *, inputs: Mapping[str, str], config: Mapping[str, Any], code: str
) -> Iterator[ArtifactWriter]:
    """Write an artifact atomically: files go to a temporary folder beside it, renamed at the end.

    If the body raises, the folder is removed and what lay at ``path`` before is untouched.
    """
    path = path.resolve()
    _remove_remains(path)
    building = path.with_name(f".{path.name}.building-{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    writer = ArtifactWriter(building)
    try:
        yield writer
        _finish(writer, kind, inputs, config, code)
        _replace(building, path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _remove_remains(path: Path) -> None:
    """Remove what processes that were killed left beside an artifact."""
    for folder in (*path.parent.glob(f".{path.name}.building-*"), *path.parent.glob(f".{path.name}.old-*")):
        pid = folder.name.rpartition("-")[2]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True


def _finish(writer: ArtifactWriter, kind: str, inputs: Mapping[str, str], config: Mapping[str, Any], code: str) -> None:
    files = {
        file.relative_to(writer.path).as_posix(): sha256_file(file)
        for file in sorted(writer.path.rglob("*"))
        if file.is_file()
    }
    manifest = {
        "schema": MANIFEST_SCHEMA,
        "kind": kind,
        "key": stage_key(kind, inputs, config, code),
        "files": files,
        "inputs": dict(inputs),
        "config": dict(config),
        "code": code,
        "tools": writer.tools,
        "figures": writer.figures,
    }
    (writer.path / MANIFEST).write_text(json.dumps(manifest, indent=2, default=str) + "\n")


def _replace(building: Path, path: Path) -> None:
    """Put ``building`` at ``path``; an old folder there is moved aside first and then removed."""
    aside = path.with_name(f".{path.name}.old-{os.getpid()}")
    if path.exists():
        path.rename(aside)
    building.rename(path)
    shutil.rmtree(aside, ignore_errors=True)
