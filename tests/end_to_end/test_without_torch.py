"""A rig controller: deploy, flash, measure and report where torch and Stable-Baselines3 cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(("torch", "stable_baselines3")))
from policyport.pipeline.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_every_stage_behind_quantize_runs(runs: Path, tmp_path: Path) -> None:
    commands = (
        ("deploy", str(runs / "int8" / "quantize"), "--out", "deploy"),
        ("flash", "deploy", "--out", "flash"),
        ("hil", "deploy", "flash", "--out", "hil", "--episodes", "1", "--latency-observations", "8"),
        ("report", "hil", "--out", "report"),
    )
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "report.html").is_file()
