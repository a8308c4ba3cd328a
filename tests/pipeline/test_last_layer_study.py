"""The study of the last layer: gains are measured as the product would gain them, and counted right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ConfigError
from policyport.pipeline import last_layer_study
from policyport.pipeline.cli import main
from policyport.pipeline.last_layer_study import HEADER, LastLayerRequest, LastLayerRow, study_last_layer, table

pytest.importorskip("torch")
pytest.importorskip("sklearn")
FLAGS = ["--networks", "mlp", "--bits", "2", "--methods", "nearest", "gptq", "--epochs", "15"]


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of one short training."""
    out = tmp_path_factory.mktemp("study") / "last-layer"
    (out.parent / "page.md").write_text("a\n<!-- figures:last-layer -->\nold\n<!-- /figures:last-layer -->\nz\n")
    assert main(["study", "last-layer", *FLAGS, "--out", str(out), "--page", str(out.parent / "page.md"), "-q"]) == 0
    return out


def test_every_cell_is_written_and_one_body_is_repaired(studied: Path) -> None:
    rows = [LastLayerRow(**row) for row in json.loads((studied / "last-layer.json").read_text())["rows"]]
    assert [(row.method, row.bits) for row in rows] == [("nearest", 2), ("gptq", 2)]
    assert any(row.taken and row.sqnr_db_gain > 1 for row in rows)
    assert "| mlp | nearest | w2 | 1 |" in (studied / "last-layer.md").read_text()
    page = (studied.parent / "page.md").read_text()
    assert "old" not in page and (studied / "last-layer.md").read_text() in page and page.endswith("-->\nz\n")
    assert "<svg" in (studied / "last-layer.html").read_text()
    assert len((studied / "last-layer.csv").read_text().splitlines()) == 3


def test_nothing_is_measured_twice(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(last_layer_study, "_measured")
    request = LastLayerRequest(studied, ("mlp",), ("nearest", "gptq"), (2,), epochs=15)
    assert len(study_last_layer(request, lambda _: None)) == 2


def test_what_is_there_can_be_summed_up(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(last_layer_study, "_measured")
    request = LastLayerRequest(studied, ("mlp", "resnet"), bits=(2, 3), epochs=15, measured_only=True)
    assert {(row.network, row.method, row.bits) for row in study_last_layer(request, lambda _: None)} == {
        ("mlp", "nearest", 2),
        ("mlp", "gptq", 2),
    }
    with pytest.raises(ConfigError, match="nothing is measured"):
        study_last_layer(replace(request, epochs=14), lambda _: None)


def test_layers_that_have_not_changed_are_not_rounded_again() -> None:
    """All layers but the last, with their outcome; the last has other weights and is rounded anew."""
    from policyport.pipeline.adaround_study import network_of
    from policyport.quantize.config import QuantizeConfig
    from policyport.quantize.layer_data import nearest
    from policyport.quantize.ptq import quantize_graph

    graph, data = network_of("mlp", 0, 2)
    calls: list[str] = []

    def counted(layer):  # type: ignore[no-untyped-def]
        calls.append(layer.node.name)
        return nearest(layer)

    rounding = last_layer_study._remembering(counted)
    images, config = data.train_images[:100], QuantizeConfig(weight_bits=4)
    first = quantize_graph(graph, images, config, 8, rounding)
    last = graph.weighted[-1]
    other = graph.replaced(replace(last, weights=-last.weights))
    second = quantize_graph(other, images, config, 8, rounding)
    assert calls == ["first", "second", "logits", "logits"]
    assert np.array_equal(first.layers[0].weights, second.layers[0].weights)
    assert not np.array_equal(first.layers[2].weights, second.layers[2].weights)


def test_what_is_gained_and_lost_is_counted() -> None:
    rows = [
        LastLayerRow("mlp", "nearest", 4, seed, taken, 90.0, 90.0 + gain, 20.0, 21.0 - seed)
        for seed, (taken, gain) in enumerate(((True, 1.0), (True, -0.5), (False, 0.0)))
    ]
    head, line, whole = table(rows)
    assert tuple(head) == HEADER and line[3:] == whole[3:]
    assert line[3:6] == ["3", "1, 1, 1", "+0.17 (-0.50 to +1.00)"]
    assert line[6:] == ["1", "+0.00 (-1.00 to +1.00)", "2", "1"]


@pytest.mark.parametrize("wrong", [{"networks": ("vgg",)}, {"bits": (8,)}, {"methods": ("qat",)}])
def test_what_is_not_there_is_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ConfigError):
        study_last_layer(LastLayerRequest(tmp_path, **wrong), lambda _: None)
