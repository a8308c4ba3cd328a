"""The pytest plugin: tests of your own on boards.

    def test_it_balances(board):
        action, _ = board.policy.predict(observation)

``pytest --deploy runs/cartpole/deploy`` runs that on the emulated board; with ``--board left,right`` and
``--hardware-map boards.toml`` it runs on two real ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from policyport.core.errors import BoardError, BoardFaultError, ConfigError, PolicyportError, ToolError, UsageError

if TYPE_CHECKING:
    from policyport.hil.rack.places import Place
    from policyport.hil.session import OpenBoard

OPENED = "policyport_board"
"""The fixture that holds one board open for all tests that use it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the group ``policyport``."""
    add = parser.getgroup("policyport", "boards that policyport deploys to").addoption
    add(
        "--deploy",
        action="append",
        default=[],
        metavar="FOLDER",
        help="deploy artifact that the fixture 'board' runs; again, for boards of another kind",
    )
    add(
        "--board",
        action="append",
        default=[],
        metavar="NAME[=URL],...",
        help="boards that each test runs on: of the hardware map, or a kind of board, which is then emulated",
    )
    add("--port", default="", metavar="URL", help="pyserial URL of the one board; without it, an emulated one")
    add(
        "--hardware-map",
        type=Path,
        metavar="FILE.toml",
        help="of the boards, by policyport boards map",
    )
    add("--require-board", action="store_true", help="a board that is missing is a failure; else its tests are skipped")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that asks for ``board`` on every board."""
    if OPENED in metafunc.fixturenames:
        try:
            places = _places(metafunc.config)
        except PolicyportError as error:
            raise pytest.UsageError(str(error)) from error
        metafunc.parametrize(OPENED, places, indirect=True, scope="session", ids=[place.name for place in places])


@pytest.fixture(scope="session")
def policyport_board(request: pytest.FixtureRequest) -> Iterator[OpenBoard]:
    """A board held open; ``board`` is for tests."""
    with _opened(request.param, request.config) as opened:
        yield opened


@pytest.fixture
def board(policyport_board: OpenBoard, request: pytest.FixtureRequest) -> Iterator[OpenBoard]:
    """A board that runs the firmware of ``--deploy``: its bridge, its policy, its rig, who it is.

    What it is and what it counted in this test are properties of the test in JUnit files.
    """
    # Not by record_property, which warns of schema xunit2: that has no place for them, and its readers take them.
    opened, record = policyport_board, request.node.user_properties
    before = len(opened.policy.ticks)
    record += [("build id", opened.identity.build_id), ("board", opened.name), ("emulated", opened.rig.emulated)]
    yield opened
    counts = opened.counts[before:]
    record += [("inferences", len(counts)), *([(f"{opened.rig.unit}, most", max(counts))] if counts else [])]


@contextlib.contextmanager
def _opened(place: Place, config: pytest.Config) -> Iterator[OpenBoard]:
    """A board of the command line; skips, or fails, where it is missing."""
    from policyport.hil.session import open_board

    with contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(open_board(*_image_and_port(place, config)))
        except BoardFaultError:
            raise
        except (BoardError, ToolError) as error:
            _missing(config, str(error))
        except UsageError as error:
            pytest.fail(str(error), pytrace=False)
        yield opened


def _missing(config: pytest.Config, why: str) -> NoReturn:
    if config.getoption("--require-board"):
        pytest.fail(f"--require-board: {why}", pytrace=False)
    pytest.skip(why)


def _places(config: pytest.Config) -> tuple[Place, ...]:
    """The boards of the command line; without any, an emulated one for the image."""
    from policyport.hil.rack.places import Place, choose, places_of

    path, port = config.getoption("--hardware-map"), str(config.getoption("--port") or "")
    places = choose(config.getoption("--board") or (), places_of(path) if path else ()) or (Place("board", ""),)
    if port and len(places) > 1:
        raise ConfigError("one port for several boards", where="--port", cure="--board NAME=URL,NAME=URL")
    return tuple(place.at(port) for place in places)


def _image_and_port(place: Place, config: pytest.Config) -> tuple[Path, str]:
    from policyport.core.artifact import open_artifact
    from policyport.hil.rack.places import image_of, port_of

    folders = config.getoption("--deploy") or ()
    if not folders:
        _missing(config, "no image for the board: pytest --deploy FOLDER")
    images = [open_artifact(config.invocation_params.dir / folder, "deploy") for folder in folders]
    return image_of(place, images).path, port_of(place)
