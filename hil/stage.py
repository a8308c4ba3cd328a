"""The ``hil`` stage: what a deployed policy does on a board, measured over the board's serial port."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.artifact import (
    Artifact,
    code_version,
    open_artifact,
    read_manifest,
    sha256_json,
    stage_key,
    write_artifact,
)
from policyport.core.options import to_table
from policyport.hil.config import HilConfig

if TYPE_CHECKING:
    from policyport.hil.result import Result

_ROOT = Path(__file__).resolve().parent.parent

CODE = (*sorted((_ROOT / "hil").glob("*.py")), _ROOT / "firmware_bridge", _ROOT / "core")
"""Source that the stage's key depends on: not ``report/``, which changes no measurement."""

CARRIED = (
    "task.json",
    "footprint.json",
    "exports.json",
    "layers.json",
    "returns.json",
    "recognition.json",
    "curve.csv",
)
"""Files that the report reads, copied from the deploy artifact where it has them."""


def hil(image: Path, board: Path, config: HilConfig, out: Path) -> Artifact:
    """Measure a deployed model on a board: identity, parity, latency, memory; closed loop, recognition or pictures.

    An interrupted run keeps its finished episodes in ``<out>.partial`` and goes on from there.

    :param image: artifact of the deploy stage
    :param board: artifact of the flash stage: what lies on the board
    :param out: folder to write: ``result.json``, ``episodes.jsonl``, ``delays.jsonl``, ``latency.csv``,
        ``parity.json``, ``env.json``, ``junit.xml``, ``serial.log``, with a power meter ``power.npz``, and of an image
        encoder ``coded/``: the files that the board made, and a picture as it is decoded at each quality
    :raises IdentityError: the board runs another firmware than the image
    :raises ParityError: an integer, or a byte of a coded picture, differs from the reference; what was compared is kept
        in ``<out>.partial``
    :raises GateError: the artifact is complete, and a gate of the configuration failed
    :raises BoardError: no board, a busy port, no answer, a fault
    :raises ToolError: no emulator for this board
    :raises ConfigError: gymnasium does not know the environment, or photographs cannot be judged on
    """
    from policyport.hil import gates
    from policyport.hil.campaign import Campaign
    from policyport.hil.partial import open_partial

    deployed, flashed = open_artifact(image, "deploy"), open_artifact(board, "flash")
    inputs = {"image": deployed.key, "board": flashed.key, **machine_inputs(config, flashed.path)}
    code = code_version(*CODE)
    partial = open_partial(out, stage_key("hil", inputs, to_table(config), code))
    with write_artifact(out, "hil", inputs=inputs, config=to_table(config), code=code) as writer:
        result = Campaign(deployed, flashed, config, partial.path).run(writer)
        for name in CARRIED:
            if name in deployed.manifest.files:
                writer.copy(deployed.file(name))
        writer.figures.update(_figures(result))
    partial.remove()
    artifact = open_artifact(out, "hil")
    gates.require_passed(result.gates, artifact.path / "result.json")
    return artifact


def machine_inputs(config: HilConfig, board: Path) -> dict[str, str]:
    """What of this machine the figures depend on: the emulator that is to run the board, and its version; photographs.

    :param board: folder of the flash artifact, which may be missing yet
    """
    return _emulator(config, board) | _photographs(config)


def _photographs(config: HilConfig) -> dict[str, str]:
    """Hash over path, size and time of the files in ``test_images``."""
    if config.test_images is None:
        return {}
    found = [(path, path.stat()) for path in sorted(config.test_images.rglob("*")) if path.is_file()]
    return {"test_images": sha256_json([f"{path} {at.st_size} {at.st_mtime_ns}" for path, at in found])}


def _emulator(config: HilConfig, board: Path) -> dict[str, str]:
    from policyport.core.errors import PolicyportError
    from policyport.deploy.board import load_board
    from policyport.deploy.flash import EMULATOR
    from policyport.hil.provenance import emulator_version
    from policyport.hil.rig import choose_emulator

    try:
        flashed = read_manifest(board).figures
        if config.port or config.hardware_map is not None or flashed["runner"] != EMULATOR:
            return {}
        return {"emulator": emulator_version(choose_emulator(load_board(flashed["board"]), config.emulator))}
    except (PolicyportError, KeyError):  # no board yet, of another kind of artifact, or nothing here runs it
        return {"emulator": "none"}


def _figures(result: Result) -> dict[str, Any]:
    """The numbers of the manifest."""
    inference, loop = result.latency.inference, result.loop
    figures: dict[str, Any] = {
        "parity_equal": result.parity.equal,
        f"{result.board.unit}_p50": inference.p50,
        f"{result.board.unit}_max": inference.max,
        "stack_used_bytes": result.memory.stack_used_bytes,
        "gate": result.gate,
    }
    if loop is not None:
        figures |= {"mean_return": loop.board.mean, "float_return": loop.float32.mean, "agreement": loop.agreement}
        if loop.board_success is not None:
            figures |= {"success": loop.board_success, "float_success": loop.float_success}
    if result.recognition is not None:
        found = result.recognition
        figures |= {"f1": found.board_f1, "float_f1": found.float_f1, "agreement": found.agreement}
    if result.coding is not None:
        middle = result.coding.qualities[len(result.coding.qualities) // 2].board
        figures |= {"bits_per_pixel": middle.bits_per_pixel, "psnr_db": middle.psnr_db}
        figures |= {f"{result.board.unit}_per_pixel": result.coding.per_pixel}
    return figures
