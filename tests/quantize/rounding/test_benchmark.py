"""The benchmark: it runs from end to end, and its tables say what was measured."""

from __future__ import annotations

import csv
import importlib.util
import json
import re

import numpy as np
import pytest
from policyport.core.errors import ArtifactError, ConfigError, ToolError
from policyport.core.lock import NamedLock
from policyport.quantize.graph import FloatGraph
from policyport.quantize.rounding import benchmark, benchmark_tables, cells, digits, live_peers, study
from policyport.quantize.rounding.study import Row


@pytest.fixture(scope="module")
def data() -> digits.Digits:
    return digits.load_digits()


def test_a_quick_run_writes_every_result(tmp_path, capsys):
    arguments = ["--quick", "--networks", "mlp", "--seeds", "0", "--bits", "2", "--out", str(tmp_path)]
    benchmark.main(arguments)
    shown = capsys.readouterr().out
    document = json.loads((tmp_path / "results.json").read_text())
    noise = {line["method"]: line["sqnr_db"] for line in document["means"]}
    assert noise["lattice"] > noise["nearest"] + 6
    assert noise["lattice"] > noise["AdaRound, converged"]
    assert noise["lattice, then blocks"] > noise["lattice"] - 3
    with (tmp_path / "results.csv").open() as stream:
        assert [row["method"] for row in csv.DictReader(stream)] == list(noise)
    table = (tmp_path / "results.md").read_text()
    assert table in shown and "| lattice |" in table and "AIMET AdaRound, recorded, seeds 0, 1, 2 | 15.3" in table
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    # Kept rows are not measured again, a torn one is; the table goes into a page.
    kept = (tmp_path / "rows.jsonl").read_text().splitlines()
    changed = [json.loads(line) for line in kept[1:-1]]
    changed[0]["row"]["sqnr_db"] = 99.0
    (tmp_path / "rows.jsonl").write_text("\n".join(["", *map(json.dumps, changed), kept[-1][:40]]))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures:rounding -->\nold\n<!-- /figures:rounding -->\nbehind\n")
    benchmark.main([*arguments, "--page", str(page)])
    assert "99.0, " in page.read_text() and page.read_text().startswith("before\n")
    assert "old" not in page.read_text() and page.read_text().endswith("-->\nbehind\n")
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(kept) + 1
    # What is there is summed up, and nothing is measured besides.
    benchmark.main([*arguments, "--measured-only", "--bits", "4", "2"])
    assert "w4" not in (tmp_path / "results.md").read_text() and "99.0, " in (tmp_path / "results.md").read_text()
    with pytest.raises(ArtifactError, match="nothing measured"):
        benchmark.main(["--quick", "--measured-only", "--networks", "resnet", "--out", str(tmp_path)])


def test_two_benchmarks_do_not_write_to_one_folder(tmp_path):
    held = NamedLock(tmp_path / "rows.lock")
    assert held.acquire() == ""
    try:
        with pytest.raises(ArtifactError, match="another benchmark") as refused:
            benchmark.main(["--quick", "--networks", "mlp", "--out", str(tmp_path)])
    finally:
        held.release()
    assert "pid" in str(refused.value) and not (tmp_path / "rows.jsonl").exists()


def test_an_unknown_method_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such method"):
        benchmark.main(["--methods", "guess", "--out", str(tmp_path)])


def test_means_are_over_seeds():
    rows = [Row("mlp", 4, "nearest", seed, 90.0 + seed, 95.0, 20.0 + 2 * seed, 1.0) for seed in range(3)]
    (line,) = benchmark_tables.means(rows)
    assert (line["seeds"], line["accuracy"], line["sqnr_db"]) == ([0, 1, 2], 91.0, 22.0)
    assert line["sqnr_db_spread"] == pytest.approx(np.std([20, 22, 24]))


def test_recorded_figures_name_their_source():
    peers = json.loads(benchmark_tables.PEERS.read_text())
    assert "AIMET 2.42.0" in peers["source"]
    assert all(row["network"] in digits.NETWORKS and row["bits"] in benchmark_tables.BITS for row in peers["rows"])


@pytest.mark.parametrize(("kind", "parameters"), [("mlp", 3466), ("resnet", 19642), ("depthwise", 5754)])
def test_graphs_are_the_networks(data, kind, parameters):
    import torch

    network = digits.trained(kind, data, seed=0, epochs=1)
    graph = digits.graph_of(network)
    assert isinstance(graph, FloatGraph) and graph.parameters == parameters
    images = data.test_images[:50]
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    assert np.allclose(graph.evaluate(images), expected, atol=1e-3)


def test_the_data_are_split_the_same_way_each_time(data):
    again = digits.load_digits()
    assert (len(data.train_images), len(data.test_images)) == (1078, 719)
    assert np.array_equal(data.test_images, again.test_images) and data.train_images.max() == 1.0


def test_a_peer_that_is_not_installed_says_how_to_get_it(data, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    network = digits.trained("mlp", data, seed=0, epochs=1)
    with pytest.raises(ToolError, match="pip install brevitas"):
        study.measure_live(network, data, "mlp", "Brevitas GPTQ", 4, 0, 10)


@pytest.mark.filterwarnings("default")  # theirs are no errors of ours
@pytest.mark.parametrize("method", list(live_peers.LIVE_PEERS))
def test_installed_peers_round_to_their_grid(data, method):
    if not live_peers.LIVE_PEERS[method].installed:
        pytest.skip(f"{live_peers.LIVE_PEERS[method].distribution} is not installed")
    network = digits.trained("mlp", data, seed=0, epochs=5)
    rows = [study.measure_live(network, data, "mlp", method, bits, 0, 100) for bits in (4, 2)]
    assert rows[0].sqnr_db > rows[1].sqnr_db + 6 and rows[0].agreement > 90


def test_a_live_figure_stands_for_the_recorded_one():
    figures = {"accuracy": 97.0, "sqnr_db": 30.5, "seconds": 9.0}
    line = {"network": "mlp", "bits": 4, "method": "AIMET AdaRound", "seeds": [0, 1, 2], **figures}
    peers = json.loads(benchmark_tables.PEERS.read_text())
    shown = benchmark_tables.markdown([line], peers, {"aimet-torch": "9.9"})
    assert "| mlp, seeds 0, 1, 2 |" in shown and "| AIMET AdaRound | 30.5, 97.0, 9.0 |" in shown
    assert "AIMET AdaRound, recorded" not in shown and "AIMET nearest, recorded |" in shown
    assert "aimet-torch 9.9" in shown


def test_the_table_says_which_trainings_a_figure_is_of():
    def line(method: str, bits: int, *seeds: int) -> benchmark_tables.Line:
        figures = {"accuracy": 97.0, "sqnr_db": 30.5, "seconds": 9.0}
        return {"network": "resnet", "bits": bits, "method": method, "seeds": list(seeds), **figures}

    lines = [line("ours", 4, 0, 1, 2), line("ours", 2, 0, 1, 2), line("one", 4, 0), line("one", 2, 0)]
    lines += [line("some", 4, 0, 1, 2), line("some", 2, 1)]
    peers = json.loads(benchmark_tables.PEERS.read_text())
    shown = benchmark_tables.markdown(lines, peers, {})
    assert "| resnet, seeds 0, 1, 2 | w4: dB, %, s | w2: dB, %, s |" in shown
    assert "| one, seed 0 | 30.5, 97.0, 9.0 | 30.5, 97.0, 9.0 |" in shown
    assert "| some | 30.5, 97.0, 9.0 | 30.5, 97.0, 9.0 (seed 1) |" in shown
    assert "| AIMET AdaRound, recorded, seed 0 | 23.9, 98.8, 1119.0 | 9.2, 97.2, 705.0 |" in shown


def test_a_peers_cell_goes_with_its_version(tmp_path, monkeypatch):
    row = Row("mlp", 4, "Brevitas GPTQ", 0, 97.0, 99.0, 30.0, 1.0)
    kept = cells.Cells(tmp_path, 60, 10_000)
    monkeypatch.setattr(cells, "versions", lambda methods: {"brevitas": "1.0"})
    kept.keep(row)
    assert kept.find("mlp", 4, "Brevitas GPTQ", 0) == row
    assert cells.Cells(tmp_path, 5, 200).find("mlp", 4, "Brevitas GPTQ", 0) is None
    monkeypatch.setattr(cells, "versions", lambda methods: {"brevitas": "1.1"})
    assert kept.find("mlp", 4, "Brevitas GPTQ", 0) is None


def test_no_figure_of_ours_depends_on_a_file_that_its_key_leaves_out():
    left_out = {name.removesuffix(".py") for name in cells.NOT_MEASURED}
    for path in cells.HERE.glob("*.py"):
        imported = re.findall(r"^from policyport\.quantize\.rounding(?:\.| import )(\w+)", path.read_text(), re.M)
        if path.name not in cells.NOT_MEASURED:
            # Other tools are called from the study, and measured under keys of their own.
            assert left_out & set(imported) <= ({"live_peers"} if path.name == "study.py" else set()), path.name
