"""The ``report`` stage: one self-contained HTML page of what was measured.

No network, no script; light, dark and print by the reader's own setting. Figures that an artifact does not
hold are shown as not recorded. The same results give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core import page
from policyport.core.artifact import Artifact, code_version, open_artifact, write_artifact
from policyport.core.options import option, to_table

if TYPE_CHECKING:
    from policyport.hil.report.data import Evidence

_FOLDER = Path(__file__).resolve().parent

_READ = tuple(_FOLDER.parent / name for name in ("result.py", "coding_figures.py", "statistics.py"))
CODE = (_FOLDER, *_READ, _FOLDER.parents[1] / "core")
"""Source that the stage's key depends on."""

TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class ReportConfig:
    """Options of the ``report`` stage."""

    title: str = option("", "title of the page; empty for the model's name and the board's")
    note: str = option("", "a paragraph under the title")


def report(results: Path, config: ReportConfig, out: Path) -> Artifact:
    """Write ``report.html``, and ``result.json`` beside it.

    :param results: artifact of the hil stage
    :param out: folder to write
    :raises ArtifactError: no hil artifact, or a torn one
    """
    from policyport.hil.report.data import gather

    measured = open_artifact(results, "hil")
    evidence = gather(results)
    with write_artifact(
        out, "report", inputs={"results": measured.key}, config=to_table(config), code=code_version(*CODE)
    ) as writer:
        (writer.path / "report.html").write_text(render(evidence, config), encoding="utf-8")
        writer.copy(measured.file("result.json"))
    return open_artifact(out, "report")


def render(evidence: Evidence, config: ReportConfig) -> str:
    """The page as text."""
    from markupsafe import Markup
    from policyport.hil.report import views
    from policyport.hil.report.comparison import comparison, verdict, width_label
    from policyport.hil.report.text import FILTERS

    result = evidence.result
    values: dict[str, Any] = {
        "title": config.title or f"{result.model} on {result.board.name}",
        "note": config.note,
        "r": result,
        "width": width_label(evidence),
        "verdict": verdict(result),
        "tiles": views.tiles(evidence),
        "comparison": comparison(evidence),
        "figures": [(figure, Markup(figure.svg)) for figure in views.figures(evidence)],
        "pictures": views.pictures(evidence),
        "memory": views.memory_maps(evidence),
        "exports": views.exports(evidence),
        "layers": views.layers(evidence),
        "environment": evidence.table("env.json") or {},
        "lineage": [artifact.manifest for artifact in evidence.lineage],
    }
    return page.render(_FOLDER / TEMPLATE, values, FILTERS)
