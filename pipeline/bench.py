"""``policyport bench``: a set of networks on every emulated board, beside what is recorded of other tools.

Each network goes through the same stages as a run: quantize, deploy, flash, hil. What is done is kept under
``work/`` and not done again, so an interrupted benchmark goes on from there.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.artifact import MANIFEST, Artifact, input_key
from policyport.core.errors import ArtifactError, ConfigError, GateError, PolicyportError, ProtocolError, ToolError
from policyport.core.progress import progress
from policyport.deploy.board import Board, board_names, load_board
from policyport.pipeline.bench_live import live_agreement
from policyport.pipeline.bench_networks import NETWORKS, Network, write_network
from policyport.pipeline.bench_peers import PeerRow, load_peers
from policyport.pipeline.bench_row import Row, Variant, failed_row, row_of, rows_from_table, rows_to_table

if TYPE_CHECKING:
    from policyport.deploy import DeployConfig

ROWS = "bench.json"

VARIANTS = (Variant(), Variant(optimize="speed"), Variant("int16"))
"""Peers compute in int8; the first is what they are compared with."""

QUICK_BOARDS = ("microbit", "mps2-an386")

MODEL_ENDINGS = (".onnx", ".tflite")

OBSERVATIONS, IMAGES = 8, 2
"""Held-out inputs whose inference is counted, and whose every layer is compared; fewer where an input is an image."""

IMAGE_BYTES = 1024
"""Inputs from this size on count as images."""

TIMEOUT_S = 30.0
"""Until a request is sent again: an image takes a second or two over an emulated serial line."""


@dataclass(frozen=True)
class Request:
    """What to measure."""

    out: Path
    models: tuple[Path, ...] = ()
    """Model files, or folders of them; none for the built-in networks."""

    boards: tuple[str, ...] = ()
    """None for one of each Cortex-M that an emulator here runs."""

    quick: bool = False
    """Two small networks on two boards, in int8."""

    emulator: str = "auto"
    toolchain: str = "auto"

    peers: bool = False
    """Whether TFLite and onnxruntime are measured too, on the cores of Linux boards."""


@dataclass(frozen=True)
class Contender:
    """A network to measure."""

    id: str
    label: str
    source: Network | Path


def run_bench(request: Request, say: Callable[[Row], None], peers: Sequence[PeerRow] = ()) -> list[Row]:
    """Measure everything and write ``bench.json`` after every row.

    :param say: is told of each row
    :param peers: what was measured of other tools, to stand beside the rows
    :raises ConfigError: no such model or board
    :raises ToolError: no emulator here runs any board
    :raises ProtocolError: a board computed something else than the reference; all other rows are written
    """
    contenders, boards = find_contenders(request), find_boards(request)
    variants = VARIANTS[:1] if request.quick else VARIANTS
    rows: list[Row] = []
    wrong: list[ProtocolError] = []
    request.out.mkdir(parents=True, exist_ok=True)
    with progress("benchmark", len(contenders) * len(variants) * len(boards)) as advance:
        for contender in contenders:
            for variant in _variants(contender, variants):
                for row in _rows(contender, variant, boards, request, wrong):
                    rows.append(row)
                    advance(len(rows), f"{row.label} on {row.board}")
                    say(row)
                    _write(rows, peers, request.out / ROWS)
    if wrong:
        raise wrong[0]
    return rows


def find_contenders(request: Request) -> list[Contender]:
    """The networks that are asked for.

    :raises ConfigError: a path without a model
    """
    if not request.models:
        return [Contender(n.id, n.label, n) for n in NETWORKS if n.quick or not request.quick]
    peers = load_peers()
    found = []
    for path in request.models:
        files = sorted(f for f in path.rglob("*") if f.suffix in MODEL_ENDINGS) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise ConfigError("no model here", where=path, expected=f"a file or folder of {', '.join(MODEL_ENDINGS)}")
        for file in files:
            name = peers.network_of_file(file.stem)
            label = peers.networks[name].label if name in peers.networks else name
            found.append(Contender(name, label, file))
    return found


def find_boards(request: Request) -> list[Board]:
    """The boards that are asked for; of each Cortex-M that an emulator here runs, the first.

    :raises ToolError: there is none
    """
    from policyport.hil.rig import choose_emulator

    if request.boards:
        return [load_board(name) for name in request.boards]
    found: dict[str, Board] = {}
    missing: ToolError | None = None
    names = QUICK_BOARDS if request.quick else board_names()
    for board in sorted((board for board in map(load_board, names) if not board.linux), key=_bench_order):
        try:
            choose_emulator(board, request.emulator)
        except ToolError as error:
            missing = error
            continue
        found.setdefault(board.core.replace("m0plus", "m0"), board)  # the same instructions
    if missing is not None and not found:
        raise missing
    return sorted(found.values(), key=lambda board: board.name)


def _bench_order(board: Board) -> tuple[bool, int]:
    """A Cortex-M0 before an M0+, then by RAM, most first: not many networks fit into a small chip's."""
    return board.core == "cortex-m0plus", -board.ram.size


def compare(rows: Sequence[Row], baseline: Path) -> None:
    """Hold every instruction count against an earlier benchmark's.

    :raises ArtifactError: no benchmark there
    :raises GateError: a count has risen, or a network that was measured then is not now
    """
    if not baseline.is_file():
        raise ArtifactError("no benchmark to compare with", where=baseline, expected=f"a {ROWS}")
    before = {row.key: row for row in rows_from_table(json.loads(baseline.read_text()), baseline) if not row.error}
    worse = []
    for row in rows:
        old = before.get(row.key)
        if old is not None and (row.error or row.instructions > old.instructions):
            now = row.error or f"{row.instructions:,}"
            worse.append(f"{row.label} on {row.board}, {row.variant}: {old.instructions:,} before, {now} now")
    if worse:
        raise GateError(
            f"{len(worse)} of {len(rows)} instruction counts rose", where=baseline, got="\n            ".join(worse)
        )


def _variants(contender: Contender, variants: Sequence[Variant]) -> Iterator[Variant]:
    """Those that a network comes in: a quantized file has its widths."""
    for variant in variants:
        if isinstance(contender.source, Network) or variant.activations == "int8":
            yield variant


def _rows(
    contender: Contender, variant: Variant, boards: Sequence[Board], request: Request, wrong: list[ProtocolError]
) -> Iterator[Row]:
    """A row for each board; one that contradicts the reference is also put into ``wrong``."""
    names = (contender.id, contender.label)
    folder = work_folder(contender, variant, request)
    for board in boards:
        if variant.optimize == "speed" and not board.dsp:
            continue  # the same code
        try:
            yield _measure(quantized(contender, variant, folder), variant, board, request, folder, names)
        except PolicyportError as error:
            if isinstance(error, ProtocolError):
                wrong.append(error)
            yield failed_row(board.name, board.core, names, variant, error)


def work_folder(contender: Contender, variant: Variant, request: Request) -> Path:
    """Where what is done of a network is kept."""
    return request.out / "work" / contender.id / f"{variant.activations}-{variant.optimize}"


def quantized(contender: Contender, variant: Variant, folder: Path) -> Path:
    """What deploy takes: a quantize artifact, or the model file itself where that is quantized already."""
    from policyport.quantize import QuantizeConfig

    source = contender.source
    if isinstance(source, Path) and is_quantized(source):
        return source
    model = source if isinstance(source, Path) else write_network(source, folder.with_name("float"))
    # How random weights are rounded counts for nothing.
    method = "nearest" if isinstance(source, Network) else "lattice"
    config = QuantizeConfig(activations=variant.activations, method=method)  # type: ignore[arg-type]
    return _stage("quantize", {"model": model}, config, folder / "quantize").path


def is_quantized(model: Path) -> bool:
    """Whether a model file holds integers: every TFLite file here does, and an ONNX file with quantizers in it."""
    if model.suffix == ".tflite":
        return True
    import onnx

    return any(node.op_type == "QuantizeLinear" for node in onnx.load(str(model)).graph.node)


def _measure(
    model: Path, variant: Variant, board: Board, request: Request, folder: Path, names: tuple[str, str]
) -> Row:
    from policyport.deploy import DeployConfig, FlashConfig
    from policyport.deploy.program import read_program
    from policyport.hil import HilConfig
    from policyport.hil.result import Result

    place = folder / board.name
    deploy = DeployConfig(board=board.name, toolchain=request.toolchain, optimize=variant.optimize)  # type: ignore[arg-type]
    built, deploy_cpu_s = _timed_deploy(model, deploy, place)
    flashed = _stage("flash", {"image": built.path}, FlashConfig(verify=False), place / "flash")
    observations = OBSERVATIONS if read_program(built.path).input.size < IMAGE_BYTES else IMAGES
    hil = HilConfig(
        episodes=0,
        parity_observations=observations,
        latency_observations=observations,
        emulator=request.emulator,
        timeout_s=TIMEOUT_S,
    )
    measured = _stage("hil", {"image": built.path, "board": flashed.path}, hil, place / "hil")
    result = Result.read(measured.file("result.json"))
    exports = json.loads(measured.file("exports.json").read_text())
    known = load_peers().networks.get(names[0])
    macs = known.macs if known else int(built.manifest.figures["macs"])
    row = row_of(result, exports, macs, names, variant)
    return dataclasses.replace(row, runtimes=row.runtimes | live_agreement(built), deploy_cpu_s=deploy_cpu_s)


def _timed_deploy(model: Path, config: DeployConfig, place: Path) -> tuple[Artifact, float | None]:
    """The deploy stage, and the processor seconds that it took, now or when it was done."""
    out, kept = place / "deploy", place / "deploy.json"
    before = (out / MANIFEST).stat().st_mtime_ns if (out / MANIFEST).is_file() else None
    start = os.times()
    built = _stage("deploy", {"model": model}, config, out)
    if (out / MANIFEST).stat().st_mtime_ns != before:
        taken_s = sum(os.times()[:4]) - sum(start[:4])  # user and system, of this process and of its compilers
        kept.write_text(json.dumps({"key": built.key, "cpu_s": round(taken_s, 2)}) + "\n")
    said = json.loads(kept.read_text()) if kept.is_file() else {"key": None}
    return built, said["cpu_s"] if said["key"] == built.key else None


def _stage(name: str, inputs: dict[str, Path], config: Any, out: Path) -> Artifact:
    """Run a stage unless it is done."""
    from policyport.pipeline.run import run_stage
    from policyport.pipeline.speak import silent
    from policyport.pipeline.stages import stage_named

    stage = stage_named(name)
    keys = {stage.inputs[key]: input_key(path) for key, path in inputs.items()}
    return run_stage(stage, inputs, keys, config, out, silent)


def _write(rows: Sequence[Row], peers: Sequence[PeerRow], path: Path) -> None:
    building = path.with_suffix(".building")
    building.write_text(json.dumps(rows_to_table(rows, peers), indent=1) + "\n")
    building.replace(path)
