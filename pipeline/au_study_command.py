"""The studies of networks that see action units as ``policyport study au`` runs them."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policyport.pipeline.run import Say
    from policyport.pipeline.study_command import Files, Tell


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Its flags."""
    add = group.add_argument
    add("--variants", nargs="+", metavar="LOSSES", help="labels, +mv, +cr, +gcn, all [default: each]")
    add("--regimes", nargs="+", metavar="REGIME", help="same, gap, noise: how labelled faces differ [default: each]")
    add("--labelled", nargs="+", type=int, default=(25,), metavar="PERSONS", help="with labels [default: 25]")
    add("--unlabelled", nargs="+", type=int, default=(200,), metavar="PERSONS", help="without [default: 200]")
    add("--relation-steps", type=int, default=600, help="batches with the relation network [default: 600]")
    add("--agreement-weight", type=float, default=50.0, help="of the co-regularization loss [default: 50]")
    add("--view-weight", type=float, default=400.0, help="of the multi-view loss [default: 400]")
    add("--shared-augmentation", action="store_true", help="both views see the same variant of a picture [default: no]")
    add(
        "--trained",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="with --bits: finished train artifacts [default: those of recipes/au.toml and recipes/au-depthwise.toml]",
    )
    add("--test-persons", type=int, default=192, help="with --bits: who are looked at, 32 times each [default: 192]")
    add("--selective", action="store_true", help="selective learning in the label loss [default: no]")


def study_name(arguments: argparse.Namespace) -> str:
    """Folder of the study, and its block of a page; ``au`` alone is a recipe's run."""
    return "au-bits" if arguments.bits else "au-study"


def study_au(arguments: argparse.Namespace, stages: Say, tell: Tell) -> Files:
    """Run the study.

    :param stages: is told of the stages that it runs
    """
    if arguments.bits:
        return _bits(arguments, stages, tell)
    from policyport.pipeline import au_study as study
    from policyport.pipeline.au_study_page import render_page

    def said(cell: study.AuCell, result: study.AuResult) -> None:
        tell(f"{cell.name:<32} mean F1 {result.f1:.3f}, AUC {result.auc:.3f}")

    cells = study.grid(
        arguments.variants or study.VARIANTS,
        arguments.regimes or study.REGIMES,
        arguments.labelled,
        arguments.unlabelled,
        arguments.seeds,
        arguments.steps or 1000,
        arguments.relation_steps,
        arguments.agreement_weight,
        arguments.view_weight,
    )
    chosen = {"shared_augmentation": arguments.shared_augmentation, "selective": arguments.selective}
    cells = [dataclasses.replace(cell, **chosen) for cell in cells]
    found = study.run_au_study(cells, arguments.out / "cells", arguments.workers, said)
    rows = study.rows_of(found)
    tables = [study.markdown(rows), *map(study.units_markdown, rows)]
    return {"study.csv": study.to_csv(found), "study.md": "\n\n".join(tables) + "\n", "study.html": render_page(rows)}


def _bits(arguments: argparse.Namespace, stages: Say, tell: Tell) -> Files:
    from policyport.pipeline import au_bits as study

    request = study.BitsRequest(
        arguments.out,
        tuple(arguments.trained or study.TRAINED),
        tuple(arguments.bits),
        tuple(arguments.methods or study.METHODS),
        arguments.steps,
        arguments.test_persons,
        arguments.measured_only,
    )
    rows = study.run_au_bits(request, stages, lambda row: tell(study.line_of(row)))
    return {
        "bits.json": study.to_json(rows),
        "bits.csv": study.to_csv(rows),
        "bits.md": study.to_markdown(rows),
        "bits.html": study.render_page(rows),
    }
