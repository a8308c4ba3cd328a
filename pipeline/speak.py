"""What the command line prints: a line per stage, the table at the end, status, findings, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.artifact import Artifact
from policyport.pipeline.run import Event

if TYPE_CHECKING:
    from policyport.pipeline.finding import Finding
    from policyport.pipeline.status import StageStatus
    from rich.table import Table

NAME_WIDTH = 9
STATE_WIDTH = 8


def silent(_: Event) -> None:
    """Say nothing."""


def say(event: Event) -> None:
    """One line on a stage: what happens, why, and its main figures once it is there."""
    words = [event.because] if event.because else []
    if event.artifact is not None:
        words += [f"{event.seconds:.1f} s"] if event.seconds else []
        words += [main_figures(event.stage, event.artifact.manifest.figures)]
    _line(event.stage, event.what, "; ".join(word for word in words if word))


def _line(stage: str, state: str, words: str) -> None:
    print(f"{stage:<{NAME_WIDTH}} {state:<{STATE_WIDTH}} {words}".rstrip(), flush=True)


def main_figures(stage: str, figures: Mapping[str, Any]) -> str:
    """The few numbers of a manifest that tell how a stage went."""
    shown = FIGURES.get(stage, ())
    return ", ".join(pattern.format(figures[key]) for key, pattern in shown if figures.get(key) is not None)


_POLICY = (
    ("mean_return", "float32 return {:.1f}"),
    ("return_deviation", "deviation {:.1f}"),
    ("steps", "{:,} steps"),
    ("f1", "mean F1 {:.3f}"),
    ("auc", "AUC {:.3f}"),
    ("integers_f1", "as integers mean F1 {:.3f}"),
)

FIGURES: dict[str, tuple[tuple[str, str], ...]] = {
    "train": _POLICY,
    "import": (("algorithm", "{}"), *_POLICY),
    "quantize": (
        ("activations", "activations {}"),
        ("action_agreement", "agreement {:.2%}"),
        ("action_error", "action error {:.2%}"),
        ("sqnr_db", "SQNR {:.1f} dB"),
        ("weight_bytes", "weights {:,} B"),
    ),
    "deploy": (("flash_bytes", "flash {:,} B"), ("ram_bytes", "RAM {:,} B")),
    "flash": (("board", "{}"), ("build_id", "build {}")),
    "hil": (
        ("mean_return", "return {:.1f}"),
        ("float_return", "float32 {:.1f}"),
        ("success", "success {:.1%}"),
        ("f1", "mean F1 {:.3f}"),
        ("float_f1", "float32 {:.3f}"),
        ("agreement", "agreement {:.2%}"),
        ("bits_per_pixel", "{:.3f} bits per pixel"),
        ("psnr_db", "{:.2f} dB"),
        ("instructions_per_pixel", "{:.0f} instructions per pixel"),
        ("cycles_per_pixel", "{:.0f} cycles per pixel"),
        ("instructions_p50", "{:,} instructions"),
        ("cycles_p50", "{:,} cycles"),
        ("gate", "gates {}"),
    ),
    "report": (),
}
"""Stage to the manifest figures that are shown, and how."""


def print_place(artifact: Artifact) -> None:
    """Where an artifact lies."""
    page = artifact.path / "report.html"
    print(page if page.is_file() else artifact.path)


def print_json(artifacts: Mapping[str, Artifact]) -> None:
    """Folders, keys and figures of artifacts, and the whole result where there is one."""
    table: dict[str, Any] = {
        name: {"path": str(a.path), "key": a.key, "figures": a.manifest.figures} for name, a in artifacts.items()
    }
    for name, artifact in artifacts.items():
        if name.split("/")[-1] == "hil":  # a variant's is VARIANT/hil
            table[name.removesuffix("hil") + "result"] = json.loads(artifact.file("result.json").read_text())
    print(json.dumps(table, indent=2))


def print_summary(artifacts: Mapping[str, Artifact]) -> None:
    """The table at the end of a run, and the path of the page."""
    if "hil" in artifacts:
        from policyport.pipeline.summary import summary_table
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else 100)
        console.print()
        console.print(summary_table(artifacts))
    if "report" in artifacts:
        print(f"\n{artifacts['report'].path / 'report.html'}")


def print_status(folder: Path, lines: Sequence[StageStatus], *, as_json: bool) -> None:
    """A line per stage, each further reason on its own."""
    if as_json:
        print(json.dumps({"run": str(folder), "stages": [line.as_table() for line in lines]}, indent=2))
        return
    print(folder)
    for line in lines:
        standing = line.standing
        shown = standing.reasons
        if standing.state == "done" and standing.manifest is not None:
            shown = (main_figures(line.stage, standing.manifest.figures),)
        _line(line.stage, standing.state, shown[0] if shown else "")
        for reason in shown[1:]:
            _line("", "", reason)


def print_findings(findings: Sequence[Finding], *, as_json: bool, verdict: bool = True) -> None:
    """What the machine has and lacks, then the cures, unbroken so that they can be pasted.

    :param verdict: end with whether the main job can run
    """
    if as_json:
        print(json.dumps([finding.as_table() for finding in findings], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table: Table = Table(box=None, pad_edge=False, show_header=False)
    for column in ("state", "what", "found"):
        table.add_column(column, no_wrap=column != "found", overflow="fold")
    colour = {"ok": "green", "optional": "yellow", "missing": "red"}
    for finding in findings:
        table.add_row(f"[{colour[finding.state]}]{finding.state}[/]", finding.what, finding.found)
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)
    lacks: dict[tuple[str, ...], list[str]] = {}
    for finding in findings:
        lacks.setdefault(finding.cures, []).append(finding.what)
    for cures, whats in lacks.items():
        if cures:
            print(f"\nfor {', '.join(whats)}{', one of' if len(cures) > 1 else ''}:")
            print(*(f"  {cure}" for cure in cures), sep="\n")
    if not verdict:
        return
    missing = ", ".join(finding.what for finding in findings if finding.state == "missing")
    print(f"\nmissing for the main job: {missing}" if missing else "\nthe main job can run on this machine")
