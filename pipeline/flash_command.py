"""What ``policyport flash IMAGE --dry-run`` takes and prints."""

from __future__ import annotations

import argparse

from policyport.core.errors import ConfigError
from policyport.core.options import from_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flag, beside the stage's own."""
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands that would flash the board; run none [default: no]"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the check and the command of the runner that would be taken.

    :raises ConfigError: no image, or one for another board
    :raises ToolError: no runner is installed
    """
    from policyport.deploy.config import FlashConfig
    from policyport.deploy.flash import plan

    if arguments.image is None:
        raise ConfigError("no image given", where="policyport flash --dry-run", expected="folder of a deploy artifact")
    print(*plan(arguments.image, from_arguments(FlashConfig, arguments)), sep="\n")
    return 0
