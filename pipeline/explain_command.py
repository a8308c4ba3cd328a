"""What ``policyport deploy MODEL --explain`` takes and prints."""

from __future__ import annotations

import argparse

from policyport.core.errors import ConfigError
from policyport.core.options import from_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of an explanation, beside the stage's own."""
    group = parser.add_argument_group("explanation of what the compiler does")
    group.add_argument(
        "--explain",
        action="store_true",
        help="print each lowering level down to the kernels, and why those; build nothing [default: no]",
    )
    group.add_argument(
        "--explain-layer",
        default="",
        metavar="LAYER",
        help="number or name of the one layer to explain [default: all]",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Lower the model, plan it for the board, print every level.

    :raises ConfigError: no model, no such board or layer
    """
    from policyport.deploy.config import DeployConfig
    from policyport.deploy.explain import explain
    from policyport.deploy.lower import lower_as_written
    from policyport.deploy.stage import kernels_for, model_file

    if arguments.model is None:
        raise ConfigError(
            "no model given", where="policyport deploy --explain", expected="a quantize folder, a QDQ ONNX or a TFLite"
        )
    config = from_arguments(DeployConfig, arguments, None)
    written = lower_as_written(model_file(arguments.model))
    text = explain(written, kernels_for(config), config.optimize, arguments.explain_layer, config.ram_bytes)
    print(text, end="")
    return 0
