"""Peers on Linux boards: the models they are given, the rows that are made of what they execute, the recorded file."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from policyport.core.errors import ToolError
from policyport.deploy import reference
from policyport.deploy.lower import lower
from policyport.deploy.program import Program
from policyport.pipeline import arm64_root, bench_linux_peers, bench_output, block_counts, cli, record_peers
from policyport.pipeline.arm64_root import LINUX_CORES, Arm64Root, cpuinfo, find_root, make_root
from policyport.pipeline.bench_linux_peers import TOOLS, integer_onnx, measure_peers, peer_cores, random_inputs
from policyport.pipeline.bench_networks import NETWORKS as BUILT_IN
from policyport.pipeline.bench_networks import Conv, Dense, Network, Pool, write_network
from policyport.pipeline.bench_peers import FILE, PeerRow, load_peers
from policyport.pipeline.bench_row import Row
from policyport.pipeline.bench_tables import linux_table
from policyport.quantize import QuantizeConfig, quantize

TFLITE, ONNX = TOOLS
NETWORKS = (
    Network("mlp", "mlp", (5,), (Dense(16), Dense(3, ""))),
    Network("image", "image", (3, 8, 6), (Conv(8), Pool(0), Dense(4, ""))),
    Network("map", "map", (2, 6, 8), (Conv(4), Conv(8, (1, 1), function=""))),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Quantize artifacts, by the networks' ids."""
    made = {}
    for network in NETWORKS:
        folder = tmp_path_factory.mktemp(network.id)
        model = write_network(network, folder / "float")
        made[network.id] = quantize(
            model, QuantizeConfig(activations="int8", method="nearest"), folder / "quantize"
        ).path
    return made


@pytest.fixture(params=[network.id for network in NETWORKS])
def program(models: dict[str, Path], request: pytest.FixtureRequest) -> Program:
    """The integers of each."""
    return lower(models[request.param] / "model.onnx")


def test_onnxruntime_is_given_the_integers_and_nothing_around_them(program: Program) -> None:
    content = integer_onnx(program)
    graph = onnx.load_from_string(content).graph
    ends = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert ends == [onnx.TensorProto.INT8] * 2
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    q = random_inputs(program)
    outputs = [session.run(None, {graph.input[0].name: row})[0] for row in bench_linux_peers._shaped(program, ONNX, q)]
    given = [output.reshape(-1).tolist() for output in outputs]
    wanted = reference.run(program, q)[-1]
    assert bench_linux_peers._agreement(program, ONNX, given, wanted) > 0.99
    given[0][0] += 1
    assert bench_linux_peers._agreement(program, ONNX, given, wanted) < 1


def test_dense_weights_have_the_zero_points_that_onnxruntime_fuses(models: dict[str, Path]) -> None:
    graph = onnx.load_from_string(integer_onnx(lower(models["mlp"] / "model.onnx"))).graph
    producers = {node.output[0]: node for node in graph.node}
    dense = [node for node in graph.node if node.op_type == "Gemm"]
    assert len(dense) == 2 and all(len(producers[node.input[1]].input) == 3 for node in dense)


def test_pooling_has_no_attribute_that_onnxruntime_refuses_where_it_fuses(models: dict[str, Path]) -> None:
    graph = onnx.load_from_string(integer_onnx(lower(models["image"] / "model.onnx"))).graph
    (pool,) = [node for node in graph.node if node.op_type == "AveragePool"]
    assert {attribute.name for attribute in pool.attribute} <= {"kernel_shape", "strides", "pads", "count_include_pad"}


def test_inputs_span_the_range(program: Program) -> None:
    q = random_inputs(program)
    assert q.shape == (bench_linux_peers.INFERENCES, program.input.size)
    assert program.input.low <= q.min() and q.max() <= program.input.high and np.ptp(q) > 200
    assert (q == random_inputs(program)).all()


def test_linux_describes_a_core_as_the_runtimes_read_it() -> None:
    text = cpuinfo(LINUX_CORES["cortex-a76"])
    assert text.count("CPU part\t: 0xd0b\n") == text.count("processor\t: ") == arm64_root.PROCESSORS
    assert " asimddp" in text and " asimddp" not in cpuinfo(LINUX_CORES["cortex-a53"])


def test_what_cannot_be_made_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(arm64_root, "SYSTEM_PACKAGES", ("no-such-package-for-arm64",))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda _: None)
        with pytest.raises(ToolError, match="apt-get is not installed"):
            make_root()
    broken = tmp_path / "bin"
    broken.mkdir()
    for name in ("apt-get", "dpkg-deb"):
        (broken / name).write_text("#!/bin/sh\necho no network >&2\nexit 100\n")
        (broken / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(broken), prepend=":")
    with pytest.raises(ToolError, match=r"cannot get what(?s:.*)no network"):
        make_root()
    assert list((tmp_path / "cache").iterdir()) == [] and find_root() is None


def test_peers_run_on_the_cores_of_the_boards(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peer_cores(()) == peer_cores(("microbit",)) == list(LINUX_CORES)
    monkeypatch.setattr(bench_linux_peers, "LINUX_CORES", {"cortex-m0": None, "cortex-a53": None})
    assert peer_cores(("microbit", "mps2-an386")) == ["cortex-m0"]


def row_of(network: str, tool: str = TFLITE.name, core: str = "cortex-a53", instructions: int = 100) -> PeerRow:
    return PeerRow(network, tool, core, instructions, TFLITE.source, instructions_max=101, agreement=0.5)


def test_a_row_is_measured_again_only_where_what_it_follows_from_changed(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def measure(program: Program, network: str, tool: object, *_: object) -> PeerRow:
        measured.append(network)
        return row_of(network)

    monkeypatch.setattr(bench_linux_peers, "_measure", measure)
    monkeypatch.setattr(bench_linux_peers, "qemu_version", lambda: "qemu 7")
    root = Arm64Root(tmp_path / "root")
    first = list(measure_peers(models["mlp"], "mlp", ["cortex-a53"], root, tmp_path / "peers"))
    again = list(measure_peers(models["mlp"], "mlp", ["cortex-a53"], root, tmp_path / "peers"))
    assert first == again == [row_of("mlp")] * len(TOOLS) and len(measured) == len(TOOLS)
    list(measure_peers(models["image"], "image", ["cortex-a53"], root, tmp_path / "peers"))
    monkeypatch.setattr(bench_linux_peers, "qemu_version", lambda: "qemu 8")
    list(measure_peers(models["image"], "image", ["cortex-a53"], root, tmp_path / "peers"))
    assert len(measured) == 3 * len(TOOLS)


def test_a_runtime_that_fails_is_left_out_and_told_of(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def measure(program: Program, network: str, tool: object, *_: object) -> PeerRow:
        if tool == ONNX:
            raise ToolError("an emulated program failed", got="invalid graph")
        return row_of(network)

    monkeypatch.setattr(bench_linux_peers, "_measure", measure)
    monkeypatch.setattr(bench_linux_peers, "qemu_version", lambda: "qemu 7")
    rows = list(measure_peers(models["mlp"], "mlp", ["cortex-a53"], Arm64Root(tmp_path), tmp_path / "peers"))
    assert rows == [row_of("mlp")]
    assert "onnxruntime does not run mlp" in caplog.text and "invalid graph" in caplog.text


def test_the_recorded_file_is_written_as_it_is() -> None:
    assert record_peers.peers_text(load_peers()) == FILE.read_text(encoding="utf-8")


def test_every_network_of_the_benchmark_has_recorded_peers_on_linux_boards() -> None:
    rows = [row for row in load_peers().rows if row.core in LINUX_CORES]
    wanted = {(network.id, tool.name, core) for network in BUILT_IN for tool in TOOLS for core in LINUX_CORES}
    assert {row.place for row in rows} == wanted and len(rows) == len(wanted)
    assert {row.source for row in rows} == {tool.source for tool in TOOLS}
    assert all(row.dot_products == 0 for row in rows if row.core == "cortex-a53")
    assert all(row.instructions <= (row.instructions_max or 0) for row in rows)


def test_what_is_measured_takes_the_place_of_what_is_recorded() -> None:
    recorded = dataclasses.replace(load_peers(), rows=(row_of("a"), row_of("b")))
    both = recorded.beside([row_of("b", instructions=7), row_of("c")], {TFLITE.source: "anew"})
    assert [(row.network, row.instructions) for row in both.rows] == [("a", 100), ("b", 7), ("c", 100)]
    assert both.sources[TFLITE.source] == "anew" and recorded.measured == ()


def test_ours_stands_beside_the_peers_on_linux_boards() -> None:
    ours = Row("fc-256", "dense", "raspberrypi3", "cortex-a53", "int8", macs=65536, instructions=50, parity=True)
    slow = dataclasses.replace(ours, variant="int16", instructions=75)
    other = Row("fc-256", "dense", "mps2-an386", "cortex-m4f", "int8", macs=65536, instructions=9)
    recorded = dataclasses.replace(load_peers(), rows=(row_of("fc-256"), row_of("fc-256", core="cortex-a76")))
    table = linux_table([other, ours, slow], recorded)
    assert [line[1:6] for line in table.lines] == [
        ("Cortex-A53", "policyport, int8", "50", "0.00", "1.00"),
        ("Cortex-A53", TFLITE.name, "100", "0.00", "2.00"),
        ("Cortex-A76", TFLITE.name, "100", "0.00", ""),
    ]
    assert [line[-1] for line in table.lines] == ["all", "50.00 %", "50.00 %"]
    assert linux_table([other], recorded).lines == []
    assert len(linux_table([other], recorded.beside([row_of("fc-256")], {})).lines) == 2
    headings = [heading for heading, _, _ in bench_output.tables([other, ours], recorded)]
    assert "Beside other tools, AArch64 Linux" in headings


def test_the_command_measures_peers_and_keeps_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulated runtimes are stood in for; the board is measured."""
    from policyport.pipeline import bench

    monkeypatch.setattr(bench, "NETWORKS", BUILT_IN[:1])
    monkeypatch.setattr(bench_linux_peers, "make_root", lambda: Arm64Root(tmp_path))
    monkeypatch.setattr(bench_linux_peers, "build_plugin", lambda *_: None)
    monkeypatch.setattr(bench_linux_peers, "qemu_version", lambda: "qemu 7")
    monkeypatch.setattr(bench_linux_peers, "peer_sources", lambda root: {TFLITE.source: "a stand-in"})
    monkeypatch.setattr(bench_linux_peers, "_measure", lambda program, network, *_: row_of(network))
    out = tmp_path / "bench"
    assert cli.main(["bench", "--quick", "--peers", "--boards", "mps2-an386", "--out", str(out)]) == 0
    kept = json.loads((out / "bench.json").read_text())["peers"]
    assert kept == [row_of(BUILT_IN[0].id).to_table()] * len(TOOLS) * len(LINUX_CORES)
    assert "a stand-in" in (out / "bench.md").read_text() and "AArch64" in (out / "bench.html").read_text()


@pytest.mark.slow
def test_the_real_runtimes_are_counted(tmp_path: Path, models: dict[str, Path]) -> None:
    """Dot products run on the core that has them and on no other; a larger network takes more."""
    root = find_root()
    if root is None or shutil.which(block_counts.QEMU) is None:
        pytest.skip("no qemu-aarch64, or no folder for AArch64 yet: policyport bench --peers makes it")
    rows = [
        row
        for name in ("mlp", "image")
        for row in measure_peers(models[name], name, list(LINUX_CORES), root, tmp_path / name)
    ]
    found = {(row.network, row.tool, row.core): row for row in rows}
    assert len(found) == 2 * len(TOOLS) * len(LINUX_CORES)
    for row in rows:
        assert (row.dot_products == 0) == (row.core == "cortex-a53"), row
        assert row.agreement is not None and row.agreement > 0.9
        assert (
            row.instructions_max is not None and row.instructions_max - row.instructions < 0.05 * row.instructions + 200
        )
    for tool in TOOLS:
        assert found["mlp", tool.name, "cortex-a76"].instructions < found["image", tool.name, "cortex-a76"].instructions
