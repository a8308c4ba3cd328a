"""``junit.xml``: one suite per board, one case per check, measured values as properties."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

from policyport.hil.result import Result


def write(result: Result, path: Path) -> None:
    """Write ``junit.xml`` for a CI server."""
    name = f"{result.model} on {result.board.name}"
    write_suite(path, name, f"policyport.hil.{result.board.name}", _cases(result), _properties(result))


def write_suite(
    path: Path, name: str, classname: str, cases: list[tuple[str, str]], properties: Mapping[str, object]
) -> None:
    """Write one suite.

    :param cases: name of each check, and why it failed; empty where it held
    :param properties: what was measured, by name
    """
    failures = sum(1 for _, message in cases if message)
    suite = ET.Element("testsuite", name=name, tests=str(len(cases)), failures=str(failures), errors="0")
    listed = ET.SubElement(suite, "properties")
    for key, value in properties.items():
        ET.SubElement(listed, "property", name=key, value=str(value))
    for case, message in cases:
        element = ET.SubElement(suite, "testcase", classname=classname, name=case)
        if message:
            ET.SubElement(element, "failure", message=message)
    tree = ET.ElementTree(suite)
    ET.indent(tree)
    tree.write(path, encoding="utf-8", xml_declaration=True)


def _cases(result: Result) -> list[tuple[str, str]]:
    """Name of each check, and why it failed; empty where it held."""
    cases = [("identity", "")]  # a board with another firmware stops the stage
    for layer in result.parity.layers:
        missing = layer.compared - layer.equal
        cases.append((f"parity {layer.name}", f"{missing} of {layer.compared} integers differ" if missing else ""))
    if result.coding is not None:  # a byte that differs stops the stage
        cases += [(f"bytes {file.picture}, quality {file.quality}", "") for file in result.coding.files]
    repeats = result.latency.repeats or not result.board.emulated
    cases.append(("latency repeats", "" if repeats else "a second run counted differently"))
    for gate in result.gates:
        cases.append((f"gate {gate.name}", "" if gate.passed else f"expected {gate.required}, got {gate.got}"))
    return cases


def _properties(result: Result) -> dict[str, object]:
    inference, memory = result.latency.inference, result.memory
    unit = f"{'emulated ' if result.board.emulated else ''}{result.board.unit}"
    figures: dict[str, object] = {f"inference {name} ({unit})": getattr(inference, name) for name in ("min", "max")}
    figures |= {f"inference {name} ({unit})": getattr(inference, name) for name in ("p50", "p95", "p99")}
    figures |= {"stack used (bytes)": memory.stack_used_bytes, "static RAM (bytes)": memory.ram_static_bytes}
    figures |= {"build id": result.firmware.build_id, "resends": result.link.resends}
    if result.loop is not None:
        figures |= {"mean return, board": result.loop.board.mean, "mean return, float32": result.loop.float32.mean}
        figures |= {"action agreement": result.loop.agreement}
        figures |= {f"mean return, {late.delay_steps} steps late": late.board.mean for late in result.loop.delays}
        if result.loop.board_success is not None:
            figures |= {"success, board": result.loop.board_success, "success, float32": result.loop.float_success}
    if result.recognition is not None:
        found = result.recognition
        figures |= {"mean F1, board": found.board_f1, "mean F1, float32": found.float_f1}
        figures |= {"label agreement": found.agreement}
    if result.coding is not None:
        figures |= {f"{result.board.unit} per pixel": result.coding.per_pixel}
        for row in result.coding.qualities:
            figures |= {f"bits per pixel, quality {row.quality}": row.board.bits_per_pixel}
            figures |= {f"PSNR (dB), quality {row.quality}": row.board.psnr_db}
    return figures
