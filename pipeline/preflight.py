"""What a stage will need, asked before the first stage of a run starts: minutes of training are not spent
on a run that cannot end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policyport.core.errors import ConfigError
from policyport.deploy.board import load_board


def deploy(configs: Mapping[str, Any]) -> None:
    """The board is known, and there is a compiler for it.

    :param configs: stage to its configuration
    :raises ConfigError: unknown board
    :raises ToolError: no compiler
    """
    from policyport.deploy.toolchain import find_toolchain

    board = load_board(configs["deploy"].board)
    find_toolchain(configs["deploy"].toolchain, board.linux)


def flash(configs: Mapping[str, Any]) -> None:
    """The board that is flashed is the one that is built for.

    :raises ConfigError: unknown board, or another one
    """
    built, flashed = configs["deploy"].board, configs["flash"].board
    if flashed and load_board(flashed).name != built:
        raise ConfigError("the image is built for another board", where="[flash] board", expected=built, got=flashed)


def hil(configs: Mapping[str, Any]) -> None:
    """There is an emulator for the board, where it is no real one; the codec can be judged on the photographs named.

    :raises ToolError: there is none
    :raises ConfigError: the hardware map does not know the board, or the photographs are not there, too small, trained
        on, or for another task
    :raises BoardError: it is not plugged in
    """
    from policyport.deploy.flash import EMULATOR, find_place
    from policyport.hil.rig import choose_emulator

    hil, flash, board = configs["hil"], configs["flash"], load_board(configs["deploy"].board)
    if not (hil.port or hil.hardware_map) and find_place(board, flash)[0] == EMULATOR:
        choose_emulator(board, hil.emulator)
    if hil.test_images is not None:
        _require_photographs(hil.test_images, configs["train"])


def _require_photographs(folder: Path, training: Any) -> None:
    from policyport.pipeline.codec_judged import require_judgeable
    from policyport.train.codec.config import CodecConfig

    if not isinstance(training, CodecConfig):
        raise ConfigError(
            "photographs for a model that is no image encoder",
            where="[hil] test_images",
            expected='[train] task = "codec"',
            got=folder,
        )
    require_judgeable(folder, training.images, training.packages_root)
