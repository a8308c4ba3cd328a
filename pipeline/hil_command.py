"""The verbs of ``policyport hil``: a first word that is one of them does something else than the whole stage."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from policyport.pipeline import hil_boards_command, hil_compare_command, hil_faults_command


@dataclass(frozen=True)
class Verb:
    """One verb: what ``--help`` says of it, its flags, and what it does."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    execute: Callable[[argparse.Namespace], int]


VERBS = {
    **{
        name: Verb(summary, hil_boards_command.add_arguments, hil_boards_command.execute)
        for name, summary in hil_boards_command.SUMMARIES.items()
    },
    "compare": Verb(hil_compare_command.SUMMARY, hil_compare_command.add_arguments, hil_compare_command.execute),
    "faults": Verb(hil_faults_command.SUMMARY, hil_faults_command.add_arguments, hil_faults_command.execute),
}

EPILOG = (
    "The first word can be a verb: "
    + "; ".join(f"{name}: {verb.summary}" for name, verb in VERBS.items())
    + ". policyport hil VERB --help says more. A folder of that name is written ./VERB."
)
"""For the help of the stage."""


def add_arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """The flags of a verb."""
    parser.description = f"{VERBS[verb].summary[0].upper()}{VERBS[verb].summary[1:]}."
    parser.add_argument("verb", choices=(verb,), metavar=verb, help="this verb")
    VERBS[verb].add_arguments(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Do what the verb does; returns the exit code."""
    return VERBS[arguments.verb].execute(arguments)
