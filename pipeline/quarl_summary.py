"""What each width of weights costs each policy, at a glance: without training, and where integers were trained.

Of each agent and width one method stands for all. The methods have an order that no result moves: the first that is no
worse than float32 is taken, else the one with the highest mean return. So among several that hold none is taken for its
luck on the seeds that were played.
"""

from __future__ import annotations

from collections.abc import Sequence

from policyport.pipeline.quarl_methods import OWN_STATES
from policyport.pipeline.quarl_rows import ACTIVATIONS, Row, Study
from policyport.pipeline.quarl_tables import lines_of

WIDTHS = (8, 4, 3, 2)

WIDE = f"{ACTIVATIONS}16"
"""Behind the name of a method whose hidden activations have 16 bits."""

UNTRAINED = tuple(
    f"{method}{width}" for method in ("lattice", "last-layer", "adaround", "integer") for width in ("", WIDE)
)
"""In the order in which they are tried: the default of ``policyport quantize`` comes first."""

TRAINED = tuple(f"{method}{width}" for method in (OWN_STATES, "qat") for width in ("", WIDE))

EITHER = UNTRAINED + TRAINED

CLOSE_SHARE = 1.0
"""Mean loss that still counts as close to float32, in % of the span."""

NONE_SHARE = 0.05
"""Loss that counts as none where the interval reaches it, in % of the span: what tables of one decimal show as 0.0."""


def chosen(study: Study, group: str, bits: int, methods: Sequence[str]) -> Row | None:
    """The row that stands for some methods; None where none of them was measured."""
    rows = [row for method in methods if (row := study.row(group, method, bits)) is not None]
    held = next((row for row in rows if row.equivalence.no_worse), None)
    return held or max(rows, key=lambda row: row.equivalence.difference, default=None)


def to_markdown(study: Study) -> str:
    """Both tables, where integers of these widths were measured."""
    counts = counts_table(study)
    if len(counts) == 1:
        return f"Nothing was measured as integers of {', '.join(map(str, WIDTHS))} bits.\n"
    parts = ["### Policies that keep their return, by width", "", *lines_of(counts), ""]
    parts += ["### Difference from float32 by width, in % of the span", "", *lines_of(summary_table(study)), ""]
    return "\n".join(parts).rstrip() + "\n"


def counts_table(study: Study) -> list[list[str]]:
    """How many of the agents measured at a width are no worse, equivalent, close, and without a measured loss.

    Where integers were trained, once more with those that were, in the place of what does not hold without.
    """
    lines = [["weights", "agents", "no worse", "equivalent", f"mean within {CLOSE_SHARE:g} %", "no loss measured"]]
    for bits in WIDTHS:
        trained = any(chosen(study, group, bits, TRAINED) for group in study.groups)
        kinds = {f"{bits} bits": UNTRAINED} | ({f"{bits} bits, trained where needed": EITHER} if trained else {})
        for name, methods in kinds.items():
            rows = [row for group in study.groups if (row := chosen(study, group, bits, methods)) is not None]
            if rows:
                lines.append([name, *map(str, _counts(study, rows))])
    return lines


def _counts(study: Study, rows: Sequence[Row]) -> list[int]:
    def at_least(share: float, ends: Sequence[float]) -> int:
        reached = (end >= -share * study.span(row.group) / 100.0 for row, end in zip(rows, ends, strict=True))
        return sum(reached)

    return [
        len(rows),
        sum(row.equivalence.no_worse for row in rows),
        sum(row.equivalence.equivalent for row in rows),
        at_least(CLOSE_SHARE, [row.equivalence.difference for row in rows]),
        at_least(NONE_SHARE, [row.equivalence.high for row in rows]),
    ]


def summary_table(study: Study) -> list[list[str]]:
    """Mean difference, half the width of the test's interval, what the test says, and the method, by width."""
    kinds = [(bits, methods) for bits in WIDTHS for methods in (UNTRAINED, TRAINED)]
    kinds = [kind for kind in kinds if any(chosen(study, group, *kind) for group in study.groups)]
    head = [f"{bits} bits{', trained' if methods is TRAINED else ''}" for bits, methods in kinds]
    lines = [["agent", *head]]
    for group in study.groups:
        lines.append([group, *(_shown(study, chosen(study, group, *kind)) for kind in kinds)])
    return lines


def _shown(study: Study, row: Row | None) -> str:
    if row is None:
        return ""
    test, unit = row.equivalence, study.span(row.group) / 100.0
    star = "*" if test.equivalent else "+" if test.no_worse else ""
    return f"{test.difference / unit:+.1f} ± {(test.high - test.low) / 2 / unit:.1f}{star} {row.method}"
