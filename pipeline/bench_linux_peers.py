"""TFLite with XNNPACK and onnxruntime on AArch64 Linux: the instructions of one inference on one thread.

Both come as their published packages and run in QEMU's user mode, on the integers that the deploy stage exports. What
Python executes in between is not theirs and not counted, neither is what its binding costs, nor the quantization of the
input and of the output, which a board of ours does not do either.
"""

from __future__ import annotations

import json
import logging
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.artifact import sha256_file, sha256_json
from policyport.core.errors import ToolError, UnsupportedModelError
from policyport.core.progress import progress
from policyport.deploy.board import load_board
from policyport.hil.tcg_plugin import build_plugin
from policyport.pipeline import block_counts
from policyport.pipeline.arm64_root import LINUX_CORES, Arm64Root, LinuxCore, installed_version, make_root
from policyport.pipeline.bench_peers import PeerRow, Peers
from policyport.pipeline.block_counts import (
    COUNTER,
    QEMU,
    Region,
    count_words,
    library_instructions,
    qemu_version,
    read_maps,
    run_counted,
)

if TYPE_CHECKING:
    from policyport.core.semantics import Integers
    from policyport.deploy.program import Program
    from policyport.pipeline.bench import Request

log = logging.getLogger(__name__)

GUEST = Path(__file__).with_name("arm64_guest.py")

INFERENCES = 8
"""On random inputs, each counted."""

TIMEOUT_S = 600.0
"""Of an emulated program; the slowest of the networks here takes some twenty seconds."""

DOT_PRODUCTS = ((0xBFE0FC00, 0x0E809400), (0xBFE0FC00, 0x2E809400), (0xBFC0F400, 0x0F80E000), (0xBFC0F400, 0x2F80E000))
"""Mask and value of SDOT and UDOT, by vector and by element: Arm Architecture Reference Manual DDI 0487, C7.2."""


@dataclass(frozen=True)
class Tool:
    """A runtime for Linux boards."""

    name: str
    """As the tables say it."""

    runtime: str
    """As ``arm64_guest.py`` calls it."""

    package: str
    model: str
    """The file that it runs."""

    how: str

    @property
    def source(self) -> str:
        """Its key among the sources."""
        return f"{self.package}-aarch64"


TOOLS = (
    Tool(
        *("TFLite, XNNPACK", "tflite", "ai-edge-litert", "policy.tflite"),
        "its interpreter with the default delegates, XNNPACK among them, num_threads=1, one Invoke",
    ),
    Tool(
        *("onnxruntime", "onnxruntime", "onnxruntime", "policy.int8.onnx"),
        "CPU provider, all optimizations, one thread, bound input and output, the graph of policy.qdq.onnx between its"
        " input's and its output's integers",
    ),
)


def run_peers(request: Request, recorded: Peers, say: Callable[[PeerRow], None]) -> Peers:
    """Measure every runtime on every network that is asked for, on the cores of those of the boards that run Linux, or,
    where none of them does, on all that are known.

    :param recorded: into which the rows go
    :param say: is told of each row
    :raises ToolError: no QEMU that takes plugins, or no folder for AArch64 and none can be made
    """
    from policyport.pipeline.bench import VARIANTS, find_contenders, quantized, work_folder

    build_plugin(QEMU, COUNTER)
    contenders, cores, root = find_contenders(request), peer_cores(request.boards), make_root()
    rows: list[PeerRow] = []
    with progress("peers on AArch64", len(contenders)) as advance:
        for done, contender in enumerate(contenders):
            folder = work_folder(contender, VARIANTS[0], request)
            model = quantized(contender, VARIANTS[0], folder)
            for row in measure_peers(model, contender.id, cores, root, folder / "peers"):
                rows.append(row)
                say(row)
                advance(done, f"{row.tool}, {contender.label}")
    return recorded.beside(rows, peer_sources(root))


def peer_cores(boards: Sequence[str]) -> list[str]:
    """Of :data:`LINUX_CORES` those that boards have; all where they have none."""
    had = {load_board(name).core for name in boards}
    return [core for core in LINUX_CORES if core in had] or list(LINUX_CORES)


def peer_sources(root: Arm64Root) -> dict[str, str]:
    """Where the figures come from, by the rows' keys."""
    cores = " and ".join(f"-cpu {name}" for name in LINUX_CORES)
    return {
        tool.source: f"{tool.package} {installed_version(root, tool.package)} for AArch64 Linux from its package index:"
        f" {tool.how}; instructions of its libraries and of libc for them, the median of {INFERENCES} inferences,"
        f" counted by a TCG plugin on QEMU {qemu_version().split()[1]} in user mode, {cores}; policyport bench --peers"
        for tool in TOOLS
    }


def measure_peers(model: Path, network: str, cores: Sequence[str], root: Arm64Root, folder: Path) -> Iterator[PeerRow]:
    """Every runtime on every core; one that cannot hold the network or does not run it is left out with a warning.

    :param model: what deploy takes
    :param folder: where the models are written, and rows kept until something of what they follow from changes
    """
    from policyport.deploy.lower import lower
    from policyport.deploy.stage import model_file

    program = lower(model_file(model))
    folder.mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        try:
            path = _write_model(program, tool, folder)
            for core in cores:
                yield _kept(program, network, tool, path, LINUX_CORES[core], root)
        except (UnsupportedModelError, ToolError) as error:
            log.warning("%s does not run %s: %s", tool.name, network, error)


def _kept(program: Program, network: str, tool: Tool, model: Path, core: LinuxCore, root: Arm64Root) -> PeerRow:
    """A row, measured unless it stands beside the model already."""
    files = (model, GUEST, COUNTER.source, Path(block_counts.__file__))
    key = sha256_json([*map(sha256_file, files), INFERENCES, qemu_version(), root.path.name])
    kept = model.with_name(f"{tool.runtime}-{core.name}.json")
    if kept.is_file() and (table := json.loads(kept.read_text()))["key"] == key:
        return PeerRow(**table["row"])
    row = _measure(program, network, tool, model, core, root)
    building = kept.with_suffix(".building")
    building.write_text(json.dumps({"key": key, "row": row.to_table()}))
    building.replace(kept)
    return row


def _measure(program: Program, network: str, tool: Tool, model: Path, core: LinuxCore, root: Arm64Root) -> PeerRow:
    from policyport.deploy import reference

    q = random_inputs(program)
    regions, answer = _run(tool, model, _shaped(program, tool, q), core, root)
    maps = read_maps(answer["maps"])
    counts = [library_instructions(region, maps) for region in regions]
    binding = statistics.median_low(counts[:INFERENCES])
    inferences = [count - binding for count in counts[INFERENCES:]]
    return PeerRow(
        *(network, tool.name, core.name, statistics.median_low(inferences), tool.source),
        instructions_max=max(inferences),
        dot_products=count_words(regions[-1], maps, DOT_PRODUCTS),
        agreement=_agreement(program, tool, answer["outputs"], reference.run(program, q)[-1]),
    )


def _run(tool: Tool, model: Path, inputs: Any, core: LinuxCore, root: Arm64Root) -> tuple[list[Region], dict[str, Any]]:
    """The counted regions, the first half without an inference, and the guest's answer."""
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="policyport-peers-") as scratch:
        job = Path(scratch)
        (job / "job.json").write_text(json.dumps({"runtime": tool.runtime, "model": str(model.resolve())}))
        np.save(job / "inputs.npy", inputs)
        environment = {"PYTHONPATH": str(root.packages), "PYTHONHASHSEED": "0"}
        command = [str(root.python), str(GUEST.resolve()), str(job)]
        regions = run_counted(command, core.name, root.of_core(core), environment, TIMEOUT_S)
        answer: dict[str, Any] = json.loads((job / "answer.json").read_text())
    if len(regions) != 2 * len(inputs):
        raise ToolError("an emulated runtime was not counted", expected=2 * len(inputs), got=len(regions))
    return regions, answer


def random_inputs(program: Program) -> Integers:
    """[n, inputs] integers over all of the input's range, the same each time."""
    import numpy as np

    low, high = program.input.low, program.input.high
    return np.random.default_rng(0).integers(low, high, (INFERENCES, program.input.size), np.int64, endpoint=True)


def _shaped(program: Program, tool: Tool, q: Integers) -> Any:
    """[n, 1, ...] inputs as the tool's model takes them."""
    import numpy as np

    shaped = q.astype(f"int{program.input.bits}").reshape(len(q), 1, *program.input.shape)
    if tool.runtime == "onnxruntime" and program.host_input.order:
        if program.host_input.order == "CHW":
            shaped = np.moveaxis(shaped, -1, 2)
        shaped = shaped.reshape(len(q), 1, *program.host_input.shape)
    return np.ascontiguousarray(shaped)


def _agreement(program: Program, tool: Tool, outputs: list[list[int]], wanted: Integers) -> float:
    """Share of the outputs that equal the reference, in the device's order."""
    import numpy as np
    from policyport.deploy.exports import in_device_order

    got = np.array(outputs)
    if tool.runtime == "onnxruntime" and len(program.output.shape) == 3:
        height, width, channels = program.output.shape
        got = in_device_order(program.output, got.reshape(len(got), channels, height, width))
    return float((got == wanted).mean())


def _write_model(program: Program, tool: Tool, folder: Path) -> Path:
    """The model of a tool.

    :raises UnsupportedModelError: it cannot hold the network
    """
    from policyport.deploy.export_tflite import tflite_bytes

    content = tflite_bytes(program) if tool.runtime == "tflite" else integer_onnx(program)
    path = folder / tool.model
    path.write_bytes(content)
    return path


def integer_onnx(program: Program) -> bytes:
    """The QDQ ONNX file of a program from its input's integers to its output's, without the floats around them.

    :raises UnsupportedModelError: scales that ONNX has no place for
    """
    import onnx
    from onnx.utils import Extractor
    from policyport.deploy.export_onnx import onnx_bytes

    model = onnx.load_from_string(onnx_bytes(program))
    ends = [f"{tensor.name}_quantized" for tensor in (program.input, program.output)]
    return bytes(Extractor(model).extract_model(ends[:1], ends[1:]).SerializeToString())
