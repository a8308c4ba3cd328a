"""The hardware map: what it may hold, and which boards and images a command line means by it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import BoardError, ConfigError
from policyport.deploy import hardware_map
from policyport.deploy.board import board_names
from policyport.deploy.usb_ports import UsbPort
from policyport.hil.rack.places import Place, choose, image_of, places_of, port_of

MAP = """
[[boards]]
name = "left"
board = "stm32f405"
serial = "/dev/ttyACM0"

[[boards]]
board = "mps2-an386"

[[boards]]
name = "right"
board = "stm32f405"
id = "0670ff48"
probe_id = "0670FF48"
"""


@pytest.fixture
def places(tmp_path: Path) -> tuple[Place, ...]:
    (tmp_path / "boards.toml").write_text(MAP)
    return places_of(tmp_path / "boards.toml")


def test_a_map_is_read(places: tuple[Place, ...]) -> None:
    left, emulated, right = places
    assert left == Place("left", "stm32f405", "/dev/ttyACM0") and not left.emulated
    assert emulated == Place("mps2-an386", "mps2-an386") and emulated.emulated
    assert right == Place("right", "stm32f405", "", "0670ff48") and not right.emulated


def test_a_name_is_one_board(tmp_path: Path) -> None:
    path = tmp_path / "boards.toml"
    path.write_text('[[boards]]\nboard = "microbit"\nname = "a"\n' * 2)
    with pytest.raises(ConfigError, match="named twice"):
        places_of(path)
    path.write_text('[[boards]]\nboard = "microbit"\n' * 2 + '[[boards]]\nboard = ""\nserial = "/dev/ttyUSB0"\n')
    assert [place.name for place in places_of(path)] == ["microbit", "microbit-2"]


def test_boards_are_chosen_by_name(places: tuple[Place, ...]) -> None:
    assert choose(["right,left"], places) == (places[2], places[0])
    assert choose([], places) == places and choose([]) == ()
    (far,) = choose(["stm32f405=socket://rack:4001"], places)
    assert far == Place("stm32f405", "stm32f405", "socket://rack:4001")
    (moved,) = choose(["left=rfc2217://rack:4002"], places)
    assert moved == Place("left", "stm32f405", "rfc2217://rack:4002")
    (unknown,) = choose(["mine=/dev/ttyUSB7"])
    assert unknown == Place("mine", "", "/dev/ttyUSB7")


def test_an_emulated_board_can_be_there_often_and_a_real_one_once(places: tuple[Place, ...]) -> None:
    assert [place.name for place in choose(["mps2-an386,mps2-an385", "mps2-an386"])] == [
        "mps2-an386",
        "mps2-an385",
        "mps2-an386-2",
    ]
    with pytest.raises(ConfigError, match="named twice"):
        choose(["left,left"], places)


def test_an_unknown_board_is_named_with_its_neighbours(places: tuple[Place, ...]) -> None:
    with pytest.raises(ConfigError, match="did you mean left"):
        choose(["lefd"], places)


@given(st.lists(st.sampled_from(board_names()), max_size=12))
def test_names_of_emulated_boards_are_always_apart(names: list[str]) -> None:
    chosen = choose([",".join(names)])
    assert [place.board for place in chosen] == names
    assert len({place.name for place in chosen}) == len(names)


def image(board: str) -> Any:
    return SimpleNamespace(path=Path(board), manifest=SimpleNamespace(figures={"board": board}))


def test_a_board_gets_the_image_that_was_built_for_it() -> None:
    m4, m3 = image("mps2-an386"), image("mps2-an385")
    assert image_of(Place("x", "mps2-an385"), [m4, m3]) is m3
    assert image_of(Place("mine", ""), [m4]) is m4
    for place, images, said in (
        (Place("x", "microbit"), [m4, m3], "no image for this board"),
        (Place("mine", ""), [m4, m3], "several images"),
        (Place("mine", ""), [], "no image"),
    ):
        with pytest.raises(ConfigError, match=said):
            image_of(place, images)


def test_a_serial_number_finds_its_port(places: tuple[Place, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    plugged = [
        UsbPort("/dev/ttyACM3", "/dev/ttyACM3", 0x0483, 0x374B, "0670FF48", "ST-LINK"),
    ]
    monkeypatch.setattr(hardware_map, "usb_ports", lambda: plugged)
    assert port_of(places[2]) == "/dev/ttyACM3"
    assert [port_of(place) for place in places[:2]] == ["/dev/ttyACM0", ""]
    monkeypatch.setattr(hardware_map, "usb_ports", lambda: [])
    with pytest.raises(BoardError, match="not plugged in"):
        port_of(places[2])
