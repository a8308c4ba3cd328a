"""An open board in a few lines, and the pytest plugin that hands it to tests."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ArtifactError, IdentityError
from policyport.deploy.board import load_board
from policyport.hil import Line, open_board
from policyport.hil.policy import ReferencePolicy
from policyport.hil.rig import EmulatedRig
from tiny import Built

pytest_plugins = ["pytester"]

SUITE = Path(__file__).parents[1] / "board" / "test_board.py"
"""The tests that hold on any board."""


def test_an_open_board_is_a_policy(built: Built) -> None:
    observations = np.random.default_rng(3).uniform(-0.15, 0.15, (4, 4)).astype(np.float32)
    with open_board(built.image.path) as board:
        expected = ReferencePolicy(board.program, board.task).predict(observations)[0]
        assert np.array_equal(board.policy.predict(observations)[0], expected)
        assert board.identity.build_id == built.image.manifest.figures["build_id"]
        assert (board.name, board.rig.emulated) == ("mps2-an386", True)
        assert len(board.counts) == 4 and all(100 < count < 5000 for count in board.counts)


def test_a_board_at_a_port_must_run_the_image(built: Built, other: Built) -> None:
    with EmulatedRig(load_board("mps2-an386"), built.image.file("firmware.bin")) as rig:
        with open_board(str(built.image.path), rig.url, Line(timeout_s=1.0)) as board:
            assert not board.rig.emulated and board.rig.unit == "cycles"
        with pytest.raises(IdentityError, match="flash again"), open_board(other.image.path, rig.url):
            pass
    with pytest.raises(ArtifactError, match="another stage"), open_board(built.flashed.path):
        pass


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """``run(*flags)``: pytest in a process of its own on the tests that hold on any board, with the plugin alone."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nmarkers = board: needs hardware\nfilterwarnings = error")
    pytester.makepyfile(test_board=SUITE.read_text())
    return lambda *flags: pytester.runpytest_subprocess("-p", "policyport.hil.rack.pytest_plugin", "-v", *flags)


def test_tests_run_on_every_board_of_the_map(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester, built: Built
) -> None:
    far = '[[boards]]\nboard = "mps2-an386"\nname = "far"\nid = "no such number"\n'
    (pytester.path / "map.toml").write_text(f'[[boards]]\nname = "near"\nboard = "mps2-an386"\n{far}')
    done = run("--deploy", str(built.image.path), "--hardware-map", "map.toml", "--junit-xml", "junit.xml")
    done.assert_outcomes(passed=5, skipped=5)
    done.stdout.fnmatch_lines(["*test_one_by_one_is_many_at_once[[]near[]]*PASSED*"])
    cases = {case.get("name"): case for case in ET.parse(pytester.path / "junit.xml").iter("testcase")}
    (case,) = (case for name, case in cases.items() if name == "test_one_by_one_is_many_at_once[near]")
    properties = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert properties["build id"] == built.image.manifest.figures["build_id"]
    assert (properties["board"], properties["emulated"], properties["inferences"]) == ("mps2-an386", "True", "16")
    assert int(properties["instructions, most"] or 0) > 100


def test_a_missing_board_is_skipped_or_required(run: Callable[..., pytest.RunResult], built: Built) -> None:
    run().assert_outcomes(skipped=5)
    away = ("--deploy", str(built.image.path), "--port", "/dev/no-such-port")
    done = run(*away, "-rs")
    done.assert_outcomes(skipped=5)
    done.stdout.fnmatch_lines(["*this port does not open*"])
    run(*away, "--require-board").assert_outcomes(errors=5)


def test_another_firmware_is_an_error_and_not_a_missing_board(
    run: Callable[..., pytest.RunResult], built: Built, other: Built
) -> None:
    with EmulatedRig(load_board("mps2-an386"), built.image.file("firmware.bin")) as rig:
        done = run("--deploy", str(other.image.path), "--port", rig.url, "-k", "many_at_once")
    done.assert_outcomes(errors=1, deselected=4)
    done.stdout.fnmatch_lines(["*IdentityError*"])


def test_a_wrong_command_line_is_said_once(run: Callable[..., pytest.RunResult], built: Built) -> None:
    done = run("--deploy", str(built.image.path), "--board", "mps2-an38")
    assert done.ret != 0
    done.stdout.fnmatch_lines(["*did you mean mps2-an386*"])


def test_a_folder_that_is_no_image_is_said_without_a_trace(run: Callable[..., pytest.RunResult]) -> None:
    done = run("--deploy", "nowhere", "-k", "many_at_once")
    done.assert_outcomes(errors=1, deselected=4)
    done.stdout.fnmatch_lines(["no artifact here (*nowhere)"])
    assert "Traceback" not in done.stdout.str() and "artifact.py" not in done.stdout.str()


def test_tests_with_a_board_of_their_own_are_left_alone(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.mark.parametrize("board", ["a", "b"])
        def test_names(board):
            assert board in "ab"
    """
    )
    run("test_own.py").assert_outcomes(passed=2)
