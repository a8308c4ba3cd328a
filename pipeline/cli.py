"""The command line: ``policyport <command>``, and ``python -m policyport.<stage>``.

Exit codes: 0 held, 1 a gate failed, 2 usage or configuration, 3 no board, busy or timed out, 4 protocol or
parity error, 130 interrupted. Human lines and JSON go to standard output, errors and progress to standard error.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from policyport.core.errors import PolicyportError, UsageError
from policyport.pipeline import (
    agent_model,
    au_command,
    bench_command,
    boards_command,
    codec_command,
    compare_command,
    explain_command,
    flash_command,
    hil_command,
    study_command,
    update_command,
)
from policyport.pipeline.stages import IMPORT, POLICY, STAGES, TRAINERS, Stage, stage_named, stages_for

INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """One command: what ``--help`` says of it, its flags, and what it does."""

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    execute: Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    :param argv: arguments without the program's name; None for the process's own
    :returns: the exit code
    """
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser(given).parse_args(given)
    _set_up_logging(arguments.verbose - arguments.quiet)
    try:
        return int(arguments.execute(arguments))
    except PolicyportError as error:
        print(f"policyport: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.filename is None:
            raise
        logging.getLogger(__name__).debug("where it was", exc_info=True)
        refused = UsageError("this cannot be read or written", where=error.filename, got=error.strerror)
        print(f"policyport: {refused}", file=sys.stderr)
        return refused.exit_code
    except KeyboardInterrupt:
        again = shlex.join(["policyport", *given])
        print(f"policyport: interrupted; what was finished is kept, and this goes on: {again}", file=sys.stderr)
        return INTERRUPTED


def stage_main(stage: str) -> NoReturn:
    """Run a stage's command on the process's arguments and exit: for ``python -m policyport.<stage>``."""
    raise SystemExit(main([stage, *sys.argv[1:]]))


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; only the command that is asked for gets its flags, so the others' options are not imported."""
    from policyport import __version__

    parser = argparse.ArgumentParser(
        prog="policyport",
        description="Put a trained network on an ARM board and prove that it still works there.",
        epilog="policyport COMMAND --help names each flag with its default. Exit codes: 0 held, 1 a gate failed, "
        "2 usage or configuration, 3 no board, busy or timed out, 4 protocol or parity error, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"policyport {__version__}")
    after = dict(itertools.pairwise(given))
    task = after.get("train", POLICY)
    commands = _commands(task if task in TRAINERS else POLICY, after.get("hil", ""))
    asked = next((word for word in given if any(word == command.name for command in commands)), None)
    below = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands:
        sub = below.add_parser(command.name, help=command.summary, description=_sentence(command.summary))
        sub.set_defaults(execute=command.execute)
        if command.name == asked:
            command.add_arguments(sub)
            _add_verbosity(sub)
    return parser


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _add_verbosity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say more; twice: everything [default: 0]")
    parser.add_argument("-q", "--quiet", action="count", default=0, help="only errors [default: 0]")


def _set_up_logging(verbosity: int) -> None:
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(max(-1, verbosity), logging.DEBUG)
    logging.basicConfig(level=level, format="%(name)s: %(message)s", stream=sys.stderr, force=True)
    logging.getLogger("policyport.progress").setLevel(logging.INFO if verbosity >= 0 else logging.ERROR)
    for noisy in ("matplotlib", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _commands(task: str, verb: str) -> tuple[Command, ...]:
    """All commands.

    :param task: what ``train`` trains
    :param verb: the word after ``hil``, which is another command where it is one of its verbs
    """
    stages = tuple(
        Command(stage.name, stage.summary, lambda parser, s=stage: _add_stage(parser, s), _run_stage)  # type: ignore[misc]
        if stage.name != "hil" or verb not in hil_command.VERBS
        else Command("hil", stage.summary, lambda parser: hil_command.add_arguments(parser, verb), hil_command.execute)
        for stage in (IMPORT, *stages_for(task, STAGES))
    )
    return (
        Command("run", "do every stage of a recipe, skipping what is done", _add_run, _run),
        *stages,
        Command("status", "say how each stage of a run stands, and why one is stale", _add_status, _status),
        Command("bench", bench_command.SUMMARY, bench_command.add_arguments, bench_command.execute),
        Command("study", study_command.SUMMARY, study_command.add_arguments, study_command.execute),
        Command("au", au_command.SUMMARY, au_command.add_arguments, au_command.execute),
        Command("encode", codec_command.ENCODE_SUMMARY, codec_command.add_encode, codec_command.encode),
        Command("decode", codec_command.DECODE_SUMMARY, codec_command.add_decode, codec_command.decode),
        Command("boards", boards_command.SUMMARY, boards_command.add_arguments, boards_command.execute),
        Command("keys", update_command.KEYS_SUMMARY, update_command.add_keys, update_command.keys),
        Command("sign", update_command.SIGN_SUMMARY, update_command.add_sign, update_command.sign),
        Command("update", update_command.UPDATE_SUMMARY, update_command.add_update, update_command.update),
        Command("doctor", "say what this machine lacks, and the command that cures it", _add_doctor, _doctor),
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    names = tuple(stage.name for stage in STAGES)
    parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="the recipe, see recipes/")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run [default: runs/<recipe's name>]")
    parser.add_argument(
        "--force",
        nargs="?",
        const=names[0],
        choices=names,
        metavar="STAGE",
        help="run this stage and all after it from scratch; alone: all of them [default: none]",
    )
    parser.add_argument("--until", choices=names, metavar="STAGE", help="the last stage to run [default: report]")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, nothing else [default: no]")


def _run(arguments: argparse.Namespace) -> int:
    from policyport.pipeline import speak
    from policyport.pipeline.recipe import read_recipe
    from policyport.pipeline.run import Asked, run_recipe, run_variants

    recipe = read_recipe(arguments.recipe, STAGES)
    folder = arguments.out or recipe.folder
    quiet = arguments.json or arguments.quiet > arguments.verbose
    asked = Asked(arguments.force, arguments.until)
    say = speak.silent if quiet else speak.say
    outcome = run_recipe(recipe, folder, say, asked)
    outcomes = {"": outcome} | run_variants(recipe, folder, outcome, say, asked)
    if arguments.json:
        speak.print_json({f"{name}/{s}".lstrip("/"): a for name, o in outcomes.items() for s, a in o.artifacts.items()})
    elif not quiet:
        for done in outcomes.values():
            speak.print_summary(done.artifacts)
    for done in outcomes.values():
        if done.gate_error is not None:
            raise done.gate_error
    return 0


def _add_stage(parser: argparse.ArgumentParser, stage: Stage) -> None:
    from policyport.core.options import add_arguments

    if stage.name == "train":
        tasks = (POLICY, *TRAINERS)
        parser.add_argument("task", nargs="?", default=POLICY, choices=tasks, help="what to train [default: policy]")
    for name in stage.inputs:
        parser.add_argument(
            name,
            nargs="?",
            type=Path,
            metavar=name.upper(),
            help=f"{stage.takes[name]} [default: {_default_input(stage, name)}]",
        )
    parser.set_defaults(stage=stage.name, recipe=None)
    if stage != IMPORT:
        parser.add_argument("--recipe", type=Path, metavar="RECIPE.toml", help="take options from it [default: none]")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"folder to write [default: {_default_out(stage)}]")
    parser.add_argument("--force", action="store_true", help="run from scratch, though it be done [default: no]")
    parser.add_argument("--json", action="store_true", help="print the artifact's figures as JSON [default: no]")
    if stage.name == "quantize":
        agent_model.add_arguments(parser)
        compare_command.add_arguments(parser)
    if stage.name == "deploy":
        explain_command.add_arguments(parser)
    if stage.name == "flash":
        flash_command.add_arguments(parser)
    if stage.name == "hil":
        parser.epilog = hil_command.EPILOG
    place = "" if stage == IMPORT else f", in a recipe under [{stage.name}]"
    options = parser.add_argument_group("options of this stage" + place)
    add_arguments(options, stage.config_type())  # type: ignore[arg-type]


def _default_input(stage: Stage, name: str) -> str:
    if stage == IMPORT:
        return "none"
    first = next(iter(stage.inputs))
    beside = "" if name == first else f", or {stage.inputs[name]} beside the {first}"
    return f"that of the recipe's run{beside}"


def _default_out(stage: Stage) -> str:
    if not stage.inputs:
        return "runs/<algorithm>-<environment>/train"
    return f"{stage.name} beside the {next(iter(stage.inputs))}'s folder, or runs/<file's name>/{stage.name}"


def _run_stage(arguments: argparse.Namespace) -> int:
    from policyport.pipeline import speak
    from policyport.pipeline.single import run_single

    stage = stage_named(arguments.stage, (*stages_for(getattr(arguments, "task", POLICY), STAGES), IMPORT))
    quiet = arguments.json or arguments.quiet > arguments.verbose
    say = speak.silent if quiet else speak.say
    if stage.name == "quantize":
        agent_model.import_first(arguments, say)
    if getattr(arguments, "compare", False):
        return compare_command.execute(arguments)
    if getattr(arguments, "explain", False):
        return explain_command.execute(arguments)
    if getattr(arguments, "dry_run", False):
        return flash_command.execute(arguments)
    artifact = run_single(stage, arguments, say, STAGES)
    if arguments.json:
        speak.print_json({stage.name: artifact})
    elif not quiet:
        speak.print_place(artifact)
    return 0


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a recipe, or the folder of a run")
    parser.add_argument("--json", action="store_true", help="print it as JSON [default: no]")


def _status(arguments: argparse.Namespace) -> int:
    from policyport.pipeline import speak
    from policyport.pipeline.status import status

    folder, lines = status(arguments.run, STAGES)
    speak.print_status(folder, lines, as_json=arguments.json)
    return 0


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print it as JSON [default: no]")


def _doctor(arguments: argparse.Namespace) -> int:
    from policyport.pipeline import speak
    from policyport.pipeline.doctor import examine, exit_code

    findings = examine()
    speak.print_findings(findings, as_json=arguments.json)
    return exit_code(findings)
