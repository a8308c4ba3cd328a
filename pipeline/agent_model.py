"""An agent's own file as MODEL of ``policyport quantize``: it is imported first."""

from __future__ import annotations

import argparse
from pathlib import Path

from policyport.core.artifact import input_key
from policyport.core.errors import ConfigError
from policyport.pipeline.recipe import RUNS
from policyport.pipeline.run import Say, run_stage
from policyport.pipeline.stages import IMPORT

ENDINGS = (".zip", ".h5", ".hdf5")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the import needs to know; ``policyport import`` has all its options."""
    add = parser.add_argument_group("an agent as MODEL").add_argument
    add("--environment", help="Gymnasium environment id that the agent was trained in [default: none]")
    add("--vecnormalize", type=Path, metavar="FILE", help="its VecNormalize statistics (.pkl or .npz) [default: none]")


def import_first(arguments: argparse.Namespace, say: Say) -> None:
    """Where the model is an agent's file, import it to ``runs/<file's name>/import`` and go on from there.

    :raises ConfigError: an environment, and no agent that was trained in it
    :raises PolicyportError: as the import
    """
    model: Path | None = arguments.model
    given = {name: getattr(arguments, name) for name in ("environment", "vecnormalize") if getattr(arguments, name)}
    if model is None or model.suffix not in ENDINGS:
        if given:
            raise ConfigError(
                "the model is no agent's file", where=f"--{next(iter(given))}", expected=", ".join(ENDINGS), got=model
            )
        return
    config = IMPORT.config_type()(**given)
    out = RUNS / model.resolve().stem / IMPORT.name
    arguments.model = run_stage(IMPORT, {"agent": model}, {"agent": input_key(model)}, config, out, say).path
