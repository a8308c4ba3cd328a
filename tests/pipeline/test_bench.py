"""The benchmark: rows from real boards, resuming, comparing, tables, page."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ArtifactError, ConfigError, GateError, ToolError
from policyport.deploy import DeployConfig, deploy, reference
from policyport.deploy.board import load_board
from policyport.deploy.program import read_program
from policyport.hil import qemu_board
from policyport.pipeline import bench, bench_output, cli, figures
from policyport.pipeline.bench import Contender, Request, compare, find_boards, find_contenders
from policyport.pipeline.bench_live import live_agreement
from policyport.pipeline.bench_networks import NETWORKS, OBSERVATIONS, Conv, Dense, Network, Pool, write_network
from policyport.pipeline.bench_peers import Published, load_peers
from policyport.pipeline.bench_plot import bars
from policyport.pipeline.bench_row import Row, Variant, agreement, failed_row, rows_from_table, rows_to_table
from policyport.pipeline.bench_tables import (
    YARDSTICK,
    core_name,
    cores_table,
    markdown,
    peers_table,
    published_table,
    summary_table,
    write_csv,
)
from policyport.quantize import QuantizeConfig, quantize

RELU, TANH = NETWORKS[0], NETWORKS[1]
ROW = Row(
    RELU.id,
    RELU.label,
    "mps2-an386",
    "cortex-m4f",
    "int8",
    "qemu 7.2.22",
    "gcc 12",
    4480,
    4908,
    4910,
    7384,
    840,
    5768,
    256,
    240,
    True,
    {"onnxruntime": 1.0},
)
ROWS = [
    ROW,
    dataclasses.replace(ROW, variant="int16", instructions=5997, cycles=9000),
    dataclasses.replace(ROW, board="mps3-an547", core="cortex-m55f", instructions=4909, cycles=None),
    dataclasses.replace(ROW, network="mine", label="mine", instructions=99),
    Row("mlperf-ad", "MLPerf Tiny AD", "microbit", "cortex-m0", "int8", error="does not fit: 290000 bytes"),
    dataclasses.replace(ROW, network="mlperf-ad", label="MLPerf Tiny AD", macs=264192, cycles=396288),
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.id)
def test_a_network_has_the_macs_that_its_peers_had(network: object, tmp_path: Path) -> None:
    """Counted in the written file, by the shapes of the weights and of what they are applied to."""
    import onnx
    from onnx import numpy_helper

    assert isinstance(network, type(RELU))
    model = onnx.load(str(write_network(network, tmp_path)))
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in [*inferred.value_info, *inferred.output]
    }
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    macs = 0
    for node in model.graph.node:
        if node.op_type in ("Gemm", "Conv"):
            pixels = int(np.prod(shapes[node.output[0]][2:]))
            macs += weights[node.input[1]].size * pixels
    assert macs == load_peers().networks[network.id].macs
    with np.load(tmp_path / "observations.npz") as arrays:
        assert arrays["held_out"].shape == (bench.OBSERVATIONS * 16, int(np.prod(network.shape)))


def test_a_network_is_the_same_file_again(tmp_path: Path) -> None:
    one, other = (write_network(RELU, tmp_path / name).read_bytes() for name in ("one", "other"))
    assert one == other


def test_rows_come_from_a_board_and_are_not_measured_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "NETWORKS", (RELU,))
    out = tmp_path / "bench"
    command = ["bench", "--quick", "--boards", "mps2-an386", "--out", str(out)]
    assert cli.main(command) == 0
    (row,) = rows_from_table(json.loads((out / "bench.json").read_text()), out)
    assert (row.network, row.board, row.macs, row.parity, row.error) == (RELU.id, "mps2-an386", 4480, True, "")
    assert row.instructions < 17_178 / 3  # the yardstick's count
    assert row.cycles is None or row.cycles > row.instructions
    assert row.deploy_cpu_s is not None and row.deploy_cpu_s > 0
    assert {path.name for path in out.iterdir()} >= {"bench.csv", "bench.md", "bench.html", "bench.png"}
    before = (out / "work" / RELU.id / "int8-size" / "mps2-an386" / "hil" / "manifest.json").stat().st_mtime_ns
    assert cli.main([*command, "--compare", str(out / "bench.json")]) == 0
    (again,) = rows_from_table(json.loads((out / "bench.json").read_text()), out)
    assert again == row, "the time is that of the deploy that was done"
    assert (out / "work" / RELU.id / "int8-size" / "mps2-an386" / "hil" / "manifest.json").stat().st_mtime_ns == before
    assert "instructions" in capsys.readouterr().out


def test_a_file_from_elsewhere_is_measured_on_random_inputs(tmp_path: Path) -> None:
    """A convolution of more input than 1024 bytes, as a QDQ ONNX file with nothing beside it."""
    image = Network("image", "image", (8, 12, 12), (Conv(4), Pool(0), Dense(3, "")))
    model = write_network(image, tmp_path / "float")
    quantized = quantize(model, QuantizeConfig(activations="int8"), tmp_path / "quantize")
    (tmp_path / "bare").mkdir()
    bare = shutil.copyfile(quantized.file("model.onnx"), tmp_path / "bare" / "image.onnx")
    (row,) = bench.run_bench(Request(tmp_path / "out", (bare,), ("mps2-an386",), quick=True), lambda row: None)
    assert (row.network, row.error, row.parity) == ("image", "", True)
    assert row.macs == 12 * 12 * 8 * 9 * 4 + 4 * 3 < row.instructions * 4


def test_a_count_that_rose_fails(tmp_path: Path) -> None:
    baseline = tmp_path / "bench.json"
    baseline.write_text(json.dumps(rows_to_table(ROWS)))
    compare(ROWS, baseline)
    compare([dataclasses.replace(ROW, instructions=4907)], baseline)
    for worse in (dataclasses.replace(ROW, instructions=4909), dataclasses.replace(ROW, error="does not fit")):
        with pytest.raises(GateError, match=r"1 of 1 instruction counts rose") as caught:
            compare([worse], baseline)
        assert "4,908 before" in str(caught.value)
    with pytest.raises(ArtifactError, match="no benchmark"):
        compare(ROWS, tmp_path / "missing.json")


def test_rows_read_back_as_written() -> None:
    assert rows_from_table(json.loads(json.dumps(rows_to_table(ROWS))), "here") == ROWS
    for torn in ({}, {"schema": 0, "rows": []}, {"schema": 1, "rows": [{"no": 1}]}, {"schema": 1}):
        with pytest.raises(ArtifactError):
            rows_from_table(torn, "here")


def test_what_is_measured_is_what_is_asked_for(tmp_path: Path) -> None:
    assert [c.id for c in find_contenders(Request(tmp_path, quick=True))] == [RELU.id, TANH.id]
    for name in ("cartpole_4-64-64-2.tflite", "own.onnx", "notes.txt"):
        (tmp_path / name).touch()
    found = find_contenders(Request(tmp_path, (tmp_path,)))
    assert found == [
        Contender(RELU.id, RELU.label, tmp_path / "cartpole_4-64-64-2.tflite"),
        Contender("own", "own", tmp_path / "own.onnx"),
    ]
    for missing in (tmp_path / "none.onnx", tmp_path / "empty"):
        with pytest.raises(ConfigError, match="no model here"):
            find_contenders(Request(tmp_path, (missing,)))


def test_one_board_of_each_core_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = frozenset({"mps2-an386", "netduinoplus2", "microbit"})
    monkeypatch.setattr(qemu_board, "machines", lambda: machines)
    found = find_boards(Request(tmp_path, emulator="qemu"))
    assert [board.name for board in found] == ["microbit", "mps2-an386"]
    assert find_boards(Request(tmp_path, boards=("stm32f405",))) == [load_board("stm32f405")]
    with pytest.raises(ConfigError, match="unknown board"):
        find_boards(Request(tmp_path, boards=("stm32f406",)))


def test_peers_are_whole() -> None:
    peers = load_peers()
    assert {row.source for row in peers.rows} <= set(peers.sources)
    assert {entry.network for entry in (*peers.rows, *peers.published)} <= set(peers.networks)
    assert {network.id for network in NETWORKS} <= set(peers.networks)
    assert all(row.cycles is None or row.cycles >= row.instructions for row in peers.rows)
    assert peers.network_of_file("kws_ref_model") == "mlperf-kws" and peers.network_of_file("mine") == "mine"
    counts = [row.instructions for row in peers.of("cartpole-relu", "cortex-m4f")]
    assert len(counts) > 2 and counts == sorted(counts)


@given(st.integers(1, 500), st.integers(1, 10_000))
def test_published_cycles_are_latency_times_clock(clock_mhz: int, latency_us: int) -> None:
    entry = Published("n", "w", "s", "r", "b", "c", clock_mhz * 1_000_000, latency_us / 1000)
    assert entry.cycles == clock_mhz * latency_us


def test_tables_say_what_the_rows_say(tmp_path: Path) -> None:
    peers = load_peers()
    table = peers_table(ROWS, peers)
    assert all(len(line) == len(table.head) for line in table.lines)
    assert table.lines[0][:6] == (RELU.label, "policyport, int8", "4,908", "1.10", "3.50", "7,384")
    assert YARDSTICK in {line[1] for line in table.lines}
    cores = cores_table(ROWS, peers)
    assert cores.head == ("network", "M4", "M55", "M0")
    assert cores.lines[0] == (RELU.label, "4,908 (peer 17,178)", "4,909 (peer 6,095)", "")
    published = published_table(ROWS, peers)
    assert published.lines[0][:3] == ("policyport", "Cortex-M4, estimated", "1.50")
    assert summary_table(ROWS, peers).lines[0][:4] == (RELU.label, "4,908", "17,178", "3.5")
    lines = markdown(table).splitlines()
    assert len({line.count("|") for line in lines}) == 1 and lines[1].startswith("| --- | --- | ---: |")
    write_csv(ROWS, tmp_path / "bench.csv")
    with (tmp_path / "bench.csv").open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [row["instructions"] for row in read] == [str(row.instructions) for row in ROWS]
    assert core_name("cortex-m33f") == "M33"


def test_a_network_without_a_measurement_says_why(tmp_path: Path) -> None:
    failed = dataclasses.replace(ROWS[4], board="mps2-an386", core="cortex-m4f")
    assert failed.error in peers_table([failed], load_peers()).lines[0]
    assert failed.error in bench_output.page_html([failed], load_peers())
    written = bench_output.write_files([failed], tmp_path)
    assert [path.name for path in written] == ["bench.csv", "bench.md", "bench.html"]


def test_the_page_stands_alone() -> None:
    text = bench_output.page_html(ROWS, load_peers())
    assert "<script" not in text and not re.search(r"https?://(?!www\.w3\.org/)", text)
    assert "#01020" not in text and "<svg" in text and "4,908" in text
    assert bench_output.page_html(ROWS, load_peers()) == text


def test_bars_are_grouped_and_sorted() -> None:
    drawn, names = bars(ROWS, load_peers())
    assert [name for _, name in names] == [RELU.label, "mine", "MLPerf Tiny AD"]
    first = [bar for bar in drawn if bar.place < names[1][0]]
    assert [bar.instructions for bar in first] == sorted(bar.instructions for bar in first)
    assert [bar.colour for bar in first[:3]] == ["ours", "ours", "yardstick"]


def test_the_slowest_deploy_is_told() -> None:
    timed = [dataclasses.replace(ROW, deploy_cpu_s=seconds) for seconds in (2.0, 9.96, None)]
    assert "No deploy took more than 10.0 processor seconds" in bench_output.provenance(timed)
    assert "No deploy" not in bench_output.provenance([ROW])


def test_a_reason_is_more_than_an_exit_code() -> None:
    linker = ToolError("the firmware does not link", got="1\nld: region RAM overflowed by 60 bytes\nmore")
    for error, reason in (
        (linker, "the firmware does not link: ld: region RAM overflowed by 60 bytes"),
        (ToolError("no emulator"), "no emulator"),
    ):
        row = failed_row("microbit", "cortex-m0", ("n", "N"), Variant(), error)
        assert (row.error, row.instructions, row.key) == (reason, 0, ("n", "microbit", "int8"))


def test_agreement_sums_the_layers() -> None:
    rows = [
        {"runtime": "a", "values": 10, "equal": 9},
        {"runtime": "a", "values": 30, "equal": 30},
        {"runtime": "b", "values": 4, "equal": 1},
    ]
    assert agreement({"rows": rows}) == {"a": 39 / 40, "b": 1 / 4}


def test_a_variant_is_named_by_what_is_unusual() -> None:
    assert [v.label for v in bench.VARIANTS] == ["int8", "int8, for speed", "int16"]
    assert Variant() == bench.VARIANTS[0]


def test_a_block_of_a_page_is_replaced_and_nothing_else() -> None:
    text = "a\n<!-- figures:peers -->\nold\n<!-- /figures:peers -->\nb\n"
    assert figures.replace_block(text, "peers", "new") == text.replace("old", "new")
    assert figures.replace_block(text, "other", "new") == text


def test_an_installed_peer_is_asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the package, whose first output is one too large, on a real artifact."""
    network = Network("small", "small", (3,), (Dense(2, ""),))
    model = write_network(network, tmp_path / "float")
    quantized = quantize(model, QuantizeConfig(activations="int8"), tmp_path / "quantize")
    built = deploy(quantized.path, DeployConfig(), tmp_path / "deploy")
    program = read_program(built.path)

    class Interpreter:
        def __init__(self) -> None:
            self.inputs: list[np.ndarray] = []  # type: ignore[type-arg]

        @classmethod
        def from_file(cls, path: str) -> Interpreter:
            assert Path(path).is_file()
            return cls()

        def get_input_details(self, index: int) -> dict[str, object]:
            return {"dtype": np.int8, "shape": np.array([1, 3])}

        def get_output_details(self, index: int) -> dict[str, object]:
            return {"dtype": np.int8, "shape": np.array([1, 2])}

        def set_input(self, value: np.ndarray, index: int) -> None:  # type: ignore[type-arg]
            self.inputs.append(value)

        def invoke(self) -> None:
            self.output = reference.run(program, self.inputs[-1].reshape(1, -1).astype(np.int64))[-1]
            self.output[0, 0] += len(self.inputs) == 1

        def get_output(self, index: int) -> np.ndarray:  # type: ignore[type-arg]
            return self.output

    monkeypatch.setitem(sys.modules, "tflite_micro", SimpleNamespace(runtime=SimpleNamespace(Interpreter=Interpreter)))
    assert live_agreement(built) == {"tflite-micro": 1 - 1 / (2 * OBSERVATIONS)}
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    assert live_agreement(built) == {}
