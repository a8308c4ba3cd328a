"""kill -9 at random moments of a run, whichever stage it is in: the next run completes with the same result.

``POLICYPORT_KILLS=50 pytest -m slow -n 0 -s tests/end_to_end/test_kills.py``; with ``POLICYPORT_KILLS_OUT=FILE`` its
counts go into a JSON file, for ``python -m policyport.pipeline.hil_figures``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("POLICYPORT_KILLS", "50"))

STAGES = ("train", "quantize", "deploy", "flash", "hil", "report")

SAME = {"train": "policy.onnx", "quantize": "model.onnx", "deploy": "firmware.bin", "flash": "flash.bin"}
"""Stage to the file that must come out byte for byte."""


def start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "policyport", "run", str(recipe), "--out", str(out), "-q"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def complete(recipe: Path, out: Path) -> None:
    process = start(recipe, out)
    said = process.communicate(timeout=600)[1]
    assert process.returncode == 0, said.decode()


def outcome(out: Path) -> dict[str, Any]:
    """What must be the same: the artifacts' bytes, and everything measured but how often the line was asked."""
    result = json.loads((out / "hil" / "result.json").read_text())
    del result["link"]
    manifests = {stage: json.loads((out / stage / "manifest.json").read_text()) for stage in STAGES}
    return {"result": result, **{stage: manifests[stage]["files"][name] for stage, name in SAME.items()}}


def stage_under_way(out: Path) -> str:
    """The first stage that is not finished."""
    return next((stage for stage in STAGES if not (out / stage / "manifest.json").exists()), "none")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_killed_run_completes_with_the_same_result(runs: Path, tmp_path: Path) -> None:
    recipe, out, chance = runs / "int8.toml", tmp_path / "run", random.Random(0)
    expected = outcome(runs / "int8")
    began = time.monotonic()
    complete(recipe, out)
    whole_s = time.monotonic() - began
    assert outcome(out) == expected
    shutil.rmtree(out)
    killed: Counter[str] = Counter()
    completed = 0
    while sum(killed.values()) < KILLS:
        process = start(recipe, out)
        try:
            process.communicate(timeout=chance.uniform(0.0, whole_s))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed[stage_under_way(out)] += 1
        if process.returncode == 0 or sum(killed.values()) == KILLS:
            complete(recipe, out)
            assert outcome(out) == expected, killed
            completed += 1
            assert not [path.name for path in out.iterdir() if "building" in path.name or ".old-" in path.name]
            shutil.rmtree(out)
    print(f"{sum(killed.values())} kills: {dict(killed)}")
    if written := os.environ.get("POLICYPORT_KILLS_OUT"):
        counts = {stage: killed[stage] for stage in (*STAGES, "none") if killed[stage]}
        Path(written).write_text(json.dumps({"killed": counts, "completed": completed}, indent=2) + "\n")
    assert len(killed) > 1 or KILLS < 10, "kills fall into several stages"
