"""``layers.html``: one self-contained page that shows every operator."""

from __future__ import annotations

import re

import numpy as np
import pytest
from policyport.quantize.calibrate import collect
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.layers import layer_rows
from policyport.quantize.layers_page import write_page
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph

FIGURES = {"held_out": 20, "float_bytes": 4000, "weight_bytes": 500, "sqnr_db": 31.4, "action_error": 0.01}


def page_of(path, observations, folder, config):
    graph = read_onnx(path)
    network = quantize_graph(graph, observations, config, 8)
    rows = layer_rows(graph, network, observations)
    figures = {**FIGURES, "action_agreement": None}
    write_page(folder / "layers.html", network, rows, collect(graph, observations), figures)
    return network, rows, (folder / "layers.html").read_text(encoding="utf-8")


def test_the_page_shows_every_operator_and_needs_nothing_else(image_model, image_observations, tmp_path):
    observations = image_observations(image_model)
    network, rows, page = page_of(image_model, observations, tmp_path, QuantizeConfig(weight_bits=4))
    assert [row["name"] for row in rows] == [node.name for node in network.nodes]
    for row in rows:
        assert page.count(f"<code>{row['name']}</code>") == 2
        assert f"{row['sqnr_db']:.1f} dB" in page
    assert page.count("<svg") == len(network.nodes) + len(network.layers)
    assert not re.search(r'(?:src|href)="(?!#)', page) and "<script" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_rows_know_weights_only_where_there_are_some(image_model, image_observations):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    network = quantize_graph(graph, observations, QuantizeConfig(), 8)
    rows = layer_rows(graph, network, observations)
    for node, row in zip(network.nodes, rows, strict=True):
        assert (row["weight_bits"] is None) == (node not in network.layers)
        assert row["operator"] == type(node.node).__name__


def test_values_that_a_range_cuts_off_are_counted(make_graph, tmp_path, save_graph):
    path = save_graph(make_graph((4, 8, 2), ("Relu", "")), tmp_path / "net.onnx")
    calm = np.random.default_rng(0).uniform(-1, 1, (200, 4)).astype(np.float32)
    graph = read_onnx(path)
    network = quantize_graph(graph, calm, QuantizeConfig(), 8)
    wild = calm * np.float32(5)
    figures = {**FIGURES, "action_agreement": 0.5}
    shares = []
    for observations in (calm, wild):
        rows = layer_rows(graph, network, observations)
        write_page(tmp_path / "layers.html", network, rows, collect(graph, observations), figures)
        cells = re.findall(r'<td class="n">([\d.]+) %</td>', (tmp_path / "layers.html").read_text(encoding="utf-8"))
        shares.append([float(cell) for cell in cells])
    assert max(shares[0]) == 0 and min(shares[1]) > 10


def test_what_few_levels_behind_a_table_cut_off_is_counted(make_graph, tmp_path, save_graph):
    path = save_graph(make_graph((4, 8, 2), ("Tanh", "")), tmp_path / "net.onnx")
    seen = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    network, _, page = page_of(path, seen, tmp_path, QuantizeConfig(activation_bits=2))
    output = network.nodes[0].output
    values = read_onnx(path).trace(seen)[output.name]
    low, high = output.range
    beyond = np.mean((values < low - output.scale / 2) | (values > high + output.scale / 2))
    assert beyond > 0.01
    assert float(re.findall(r'<td class="n">([\d.]+) %</td>', page)[0]) == pytest.approx(100 * beyond, abs=0.5)
