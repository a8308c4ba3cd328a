"""How a stage of a run stands, and why: what ``run`` skips by, and what ``status`` says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from policyport.core.artifact import Manifest, open_artifact, read_manifest, stage_key
from policyport.core.errors import ArtifactError

State = Literal["done", "stale", "altered", "partial", "missing"]


@dataclass(frozen=True)
class Wanted:
    """What a stage's artifact would say if the stage ran now."""

    kind: str
    inputs: Mapping[str, str | None]
    """Name to key; None where the input itself is not up to date, so its key is not known yet."""

    config: Mapping[str, Any]
    code: str

    @property
    def key(self) -> str | None:
        """The key; None where an input's is not known."""
        known = {name: key for name, key in self.inputs.items() if key is not None}
        if len(known) < len(self.inputs):
            return None
        return stage_key(self.kind, known, self.config, self.code)


@dataclass(frozen=True)
class Standing:
    """The state of a stage's folder."""

    state: State
    """``done``; ``stale``: it would come out otherwise now; ``altered``: not what was written;
    ``partial``: interrupted, and resumes; ``missing``: never ran."""

    reasons: tuple[str, ...] = ()
    """Why it is not done, each in a few words."""

    manifest: Manifest | None = None
    """Of the artifact that is there, whatever its state."""

    @property
    def because(self) -> str:
        """All reasons in one line."""
        return "; ".join(self.reasons)


def partial_key(out: Path) -> str | None:
    """The key of the interrupted run that left ``<out>.partial``, if there is one; "" where it does not say."""
    folder = out.with_name(out.name + ".partial")
    if (folder / "key").is_file():
        return (folder / "key").read_text().strip()
    if (folder / "state.json").is_file():
        return str(json.loads((folder / "state.json").read_text()).get("key", ""))
    return "" if folder.is_dir() else None


def assess(out: Path, wanted: Wanted) -> Standing:
    """Compare what lies at ``out`` with what is wanted there; nothing is changed."""
    manifest, broken = _read(out)
    interrupted = partial_key(out)
    if interrupted is not None and interrupted == wanted.key:
        return Standing("partial", ("unfinished; goes on from there",), manifest)
    if broken:
        return Standing("altered", (broken,), manifest)
    if manifest is None:
        reason = "unfinished, and changed since: starts afresh" if interrupted else "not run yet"
        return Standing("missing", (reason,))
    reasons = differences(manifest, wanted)
    if reasons:
        return Standing("stale", tuple(reasons), manifest)
    try:
        open_artifact(out, wanted.kind)
    except ArtifactError as error:
        return Standing("altered", (error.what,), manifest)
    return Standing("done", (), manifest)


def differences(manifest: Manifest, wanted: Wanted) -> list[str]:
    """Why an artifact is not what the stage would write now, most telling first; empty where it is."""
    reasons = []
    if manifest.kind != wanted.kind:
        return [f"this folder holds a {manifest.kind} artifact"]
    for name, key in wanted.inputs.items():
        was = manifest.inputs.get(name)
        if key is None:
            reasons.append(f"input {name} is not up to date")
        elif was != key:
            reasons.append(f"input {name} changed from {_short(was)} to {_short(key)}")
    reasons += config_differences(manifest.config, wanted.config)
    if manifest.code != wanted.code:
        reasons.append("code changed")
    if not reasons and manifest.key != wanted.key:
        reasons.append("its manifest was altered: the key is not that of its inputs, configuration and code")
    return reasons


def config_differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One reason per configuration key that differs."""
    reasons = []
    for key in sorted({*was, *now}):
        if key not in now:
            reasons.append(f"configuration key {key} is gone, was {was[key]!r}")
        elif key not in was:
            reasons.append(f"configuration key {key} is new, is {now[key]!r}")
        elif was[key] != now[key]:
            reasons.append(f"configuration key {key} changed from {was[key]!r} to {now[key]!r}")
    return reasons


def _read(out: Path) -> tuple[Manifest | None, str]:
    """The manifest, and what is wrong with it; (None, "") where there is no artifact."""
    if not (out / "manifest.json").exists():
        return None, "" if not out.exists() else "a folder without a manifest is in the way"
    try:
        return read_manifest(out), ""
    except ArtifactError as error:
        return None, error.what


def _short(key: str | None) -> str:
    """The beginning of a hash; a version as it is."""
    return "none" if key is None else key[:12] if len(key) == 64 else key
