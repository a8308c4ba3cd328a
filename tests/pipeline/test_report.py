"""The report: one page that stands alone, says what was measured, and says where nothing was."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from policyport.core.artifact import Artifact
from policyport.core.errors import ArtifactError
from policyport.hil import stage as hil_stage
from policyport.hil.coding_figures import BoardFile, CodingFigures, QualityFigures, Rate
from policyport.hil.report import ReportConfig, report
from policyport.hil.report import stage as report_stage
from policyport.hil.report.comparison import verdict
from policyport.hil.report.data import gather
from policyport.hil.report.text import number, percent
from policyport.hil.result import (
    EstimateFigures,
    FunctionEstimate,
    Gate,
    LayerEstimate,
    LayerParity,
    Mismatch,
    ParityFigures,
    Result,
)
from policyport.pipeline.speak import print_summary

WriteRun = Callable[..., Path]
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Its tags in balance, its ids, its references, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data.strip())

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("href", "xlink:href", "src") and value:
                self.references.append(value)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def made(results: Path, config: ReportConfig | None = None) -> tuple[Artifact, str]:
    artifact = report(results, config or ReportConfig(), results.parent / "report")
    return artifact, artifact.file("report.html").read_text(encoding="utf-8")


def test_the_page_stands_alone(tmp_path: Path, write_run: WriteRun) -> None:
    _, text = made(write_run(tmp_path))
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert all(reference.startswith("#") and reference[1:] in page.ids for reference in page.references)
    assert "<script" not in text and "@import" not in text
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    assert "#01020" not in text  # no stand-in colour is left


def test_the_page_says_what_was_measured(tmp_path: Path, write_run: WriteRun) -> None:
    page = Page(made(write_run(tmp_path))[1])
    for expected in (
        "PPO-CartPole-v1 on mps2-an386",
        "emulated",
        "emulated by qemu 7.2.22: counts of instructions, never seconds",
        "499.0 ± 1.4",
        "500.0 ± 0.0",
        "99.85 %",
        "11,022",
        "layer1.tanh, int16 4,096 of 4,096",
        "Held Choosing every action of 2 episodes, the board returns 499.0 where float32 returns 500.0",
        "all 4,096 integers of 1 layer equal the reference",
        "712 B",
        "18,440 B",
        "5,000 B",
        "gcc <12>",
        "passed: required at least 0.9900, got 0.9985",
        "p = 0.01",
        "seeds 1000 to 1001, 998 steps",
        "tool torch 2.13.0",
    ):
        assert expected in page.text, expected


def test_what_was_not_recorded_is_said_to_be_so(tmp_path: Path, write_run: WriteRun, measurement: Result) -> None:
    results = write_run(tmp_path, dataclasses.replace(measurement, loop=None))
    page = Page(made(results)[1])
    assert "Closed loop not recorded" in page.text and "No closed loop was played" in page.text
    assert "Split of flash and RAM: not recorded" in page.text
    assert "Agreement with onnxruntime and TFLite: not recorded" in page.text


def test_the_same_results_give_the_same_bytes(tmp_path: Path, write_run: WriteRun) -> None:
    results = write_run(tmp_path)
    first, text = made(results)
    again, same = made(results)
    assert (first.key, text) == (again.key, same)


def test_title_and_note_are_text(tmp_path: Path, write_run: WriteRun) -> None:
    page = Page(made(write_run(tmp_path), ReportConfig("A <b> & c", "Mind the gap"))[1])
    assert "A <b> & c" in page.text and "Mind the gap" in page.text


def test_a_failure_is_not_hidden(tmp_path: Path, write_run: WriteRun, measurement: Result) -> None:
    first = Mismatch(3, 0, "layer1.tanh", 17, -5, -4)
    parity = ParityFigures(64, False, (LayerParity("layer1.tanh", 64, 16, 4096, 4095),), first)
    gate = Gate("min_return", "at least 500", "499", False)
    results = write_run(tmp_path, dataclasses.replace(measurement, parity=parity, gates=(gate,), gate="failed"))
    page = Page(made(results)[1])
    assert "Gate failed: min_return." in page.text
    assert "observation 3, layer 0 (layer1.tanh), index 17: expected -5, got -4" in page.text
    assert "not every integer equals the reference" in page.text and "99.98 %" in page.text
    assert "Failed 1 of 1 gate failed." in page.text


def test_a_real_board_is_not_marked_emulated(tmp_path: Path, write_run: WriteRun, measurement: Result) -> None:
    board = dataclasses.replace(measurement.board, emulated=False, emulator="", counter="dwt", unit="cycles")
    page = Page(made(write_run(tmp_path, dataclasses.replace(measurement, board=board)))[1])
    assert "emulated" not in page.text and "measured in cycles on the board" in page.text


def test_ancestors_are_those_whose_keys_are_named(tmp_path: Path, write_run: WriteRun) -> None:
    results = write_run(tmp_path)
    assert [artifact.manifest.kind for artifact in gather(results).lineage] == ["train", "quantize", "deploy", "hil"]
    table = json.loads((tmp_path / "quantize" / "manifest.json").read_text())
    (tmp_path / "quantize" / "manifest.json").write_text(json.dumps({**table, "key": "another"}))
    assert [artifact.manifest.kind for artifact in gather(results).lineage] == ["deploy", "hil"]


def test_an_altered_file_of_an_ancestor_is_not_shown(tmp_path: Path, write_run: WriteRun) -> None:
    results = write_run(tmp_path)
    assert gather(results).columns("curve.csv")["mean_return"] == [109.5, 500.0]
    (tmp_path / "train" / "curve.csv").write_text("steps,mean_return\n1,2\n")
    assert gather(results).columns("curve.csv") == {}


def test_a_torn_result_is_refused(tmp_path: Path, write_run: WriteRun) -> None:
    results = write_run(tmp_path)
    (results / "result.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"result\.json"):
        report(results, ReportConfig(), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_the_terminal_shows_the_same_rows(
    tmp_path: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    results = write_run(tmp_path)
    artifact, _ = made(results)
    print_summary({"hil": Artifact(results, gather(results).lineage[-1].manifest), "report": artifact})
    text = capsys.readouterr().out
    for expected in (
        "499.0 ± 1.4",
        "99.85 %",
        "of 4,096",
        "11,028",
        "712 B",
        "of 4,096 B reserved",
        "held: Choosing every action",
    ):
        assert expected in text
    assert text.rstrip().endswith("report.html")
    assert max(len(line) for line in text.splitlines()) <= max(100, len(str(artifact.path)) + 12)


def test_without_gates_nothing_is_said_to_hold(measurement: Result) -> None:
    assert verdict(measurement).state == "held"
    assert verdict(dataclasses.replace(measurement, gates=(), gate="none")).state == "measured"


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100 %"), (0.99999, "99.99 %"), (0.9985, "99.85 %"), (0.5, "50 %"), (0.0, "0 %")]
)
def test_all_is_said_only_where_it_is_all(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(("value", "text"), [(11022, "11,022"), (500.0, "500"), (0.01234, "0.0123"), (499.26, "499.3")])
def test_numbers_have_the_decimals_they_deserve(value: Any, text: str) -> None:
    assert number(value) == text


def covered(code: tuple[Path, ...]) -> set[Path]:
    """The source files whose change changes a stage's key."""
    found = (path for root in code for path in (root.rglob("*") if root.is_dir() else [root]))
    return {path.resolve() for path in found if path.is_file() and "__pycache__" not in path.parts}


def test_an_edit_of_the_page_measures_nothing_again() -> None:
    page = set(covered((Path(report_stage.__file__).parent,)))
    assert len(page) > 4 and page <= covered(report_stage.CODE)
    assert not page & covered(hil_stage.CODE)
    hil = Path(hil_stage.__file__).parent
    measuring = {path for path in covered((hil,)) - page - covered((hil / "rack",)) if path.suffix == ".py"}
    assert len(measuring) > 20 and measuring <= covered(hil_stage.CODE)


def test_the_key_of_the_report_covers_what_it_imports() -> None:
    code = (
        "import sys, policyport.hil; before = set(sys.modules)\n"
        "import policyport.hil.report.data, policyport.hil.report.views\n"
        "for name in set(sys.modules) - before:\n"
        "    if name.startswith('policyport.'): print(sys.modules[name].__file__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {Path(line).resolve() for line in done.stdout.splitlines()} <= covered(report_stage.CODE)


def test_the_estimate_is_shown_or_said_to_be_missing(tmp_path: Path, write_run: WriteRun, measurement: Result) -> None:
    layers = (LayerEstimate("layer1.tanh", 4096, 4096, 4089, 5900, 0.8), LayerEstimate("other", 0, 0, -5, 1475, 0.2))
    functions = (FunctionEstimate("pp_blocks_pairs_s8_table", 4084, 7300),)
    estimate = EstimateFigures("Arm DDI 0439", 4084, 7375, 1.26, 1.4, "published runs", layers, functions)
    shown = Page(made(write_run(tmp_path / "one", dataclasses.replace(measurement, estimate=estimate)))[1])
    for expected in ("Arm DDI 0439", "7,375", "1.44", "80.0 %", "by 1.26 to 1.4: published runs", "never a time"):
        assert expected in shown.text, expected
    assert "pp_blocks_pairs_s8_table" in shown.text
    missing = Page(made(write_run(tmp_path / "two", dataclasses.replace(measurement, no_estimate="no rules")))[1])
    assert "None: no rules." in missing.text


def test_coded_pictures_are_shown(
    tmp_path: Path, write_run: WriteRun, measurement: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = Rate(0.25, 28.125, 0.9123), Rate(0.2, 28.5, 0.9234)
    rows = (QualityFigures(6, *rates, 300.75), QualityFigures(9, Rate(0.5, 31.0, None), Rate(0.5, 31.0, None), None))
    coding = CodingFigures("photographs of A", 2, rows, (BoardFile("lake", 320, 240, 6, 2880, 23_097_600),))
    results = write_run(tmp_path, dataclasses.replace(measurement, loop=None, coding=coding))
    artifact, text = made(results)
    page = Page(text)
    for expected in (
        "Coding 1 picture at 301 instructions per pixel, the board makes the same 2,880 bytes as the reference.",
        "Quality 6, mean over 2 pictures bits per pixel 0.200 0.250 PSNR, dB 28.50 28.12 MS-SSIM 0.9234 0.9123",
        "Quality 9, mean over 2 pictures bits per pixel 0.500 0.500 PSNR, dB 31.00 31.00 Pictures coded by the board",
        "bytes as the reference's 2,880 of 2,880, 1 file",
        "lake 320 x 240 6 2,880 0.300 23,097,600 300.8",
        "Photographs of A, cut to what the firmware takes.",
    ):
        assert expected in page.text, expected
    assert len(page.ids) == len(set(page.ids)) and "Closed loop" not in page.text
    print_summary({"hil": Artifact(results, gather(results).lineage[-1].manifest), "report": artifact})
    assert "Quality 6, mean over 2 pictures" in capsys.readouterr().out
