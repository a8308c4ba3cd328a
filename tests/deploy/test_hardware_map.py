"""The hardware map: a board is found by its serial number wherever it is plugged in, and never another one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import BoardError, ConfigError
from policyport.deploy import usb_ports
from policyport.deploy.board import load_board
from policyport.deploy.hardware_map import HEADER, Entry, entry_text, find_entry, new_entries, port_now, read_map
from policyport.deploy.usb_ports import UsbPort, attached_probes, candidates, is_probe

BOARDS = [load_board("microbit"), load_board("stm32f405")]
TWO = '[[boards]]\nboard = "stm32f405"\nid = "A1"\n[[boards]]\nboard = "stm32f405"\nid = "B2"\n'


def port(device: str, serial_number: str = "", vid: int = 0x0483, pid: int = 0x374B) -> Any:
    return SimpleNamespace(device=device, vid=vid, pid=pid, serial_number=serial_number, description="STM32 STLink")


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What pyserial finds; nothing at first."""
    ports: list[Any] = []
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: ports)
    return ports


@given(
    st.builds(
        Entry,
        board=st.sampled_from(["", "stm32f405"]),
        **{key: st.text(st.characters(codec="utf-8")) for key in ("id", "serial", "probe_id", "product", "notes")},
        runner=st.text(st.characters(codec="utf-8"), min_size=1),
    )
)
def test_what_is_written_reads_back(tmp_path_factory: pytest.TempPathFactory, entry: Entry) -> None:
    path = tmp_path_factory.mktemp("map") / "map.toml"
    path.write_text(HEADER + "\n" + entry_text(entry), encoding="utf-8")
    assert read_map(path) == [entry]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("boards = 1\n", "has no list of boards"),
        ("[[boards]]\n", "hardware map key boards.board is missing"),
        ('[[boards]]\nboard = "stm32f504"\n', "unknown board"),
        ('[[boards]]\nboard = ""\nprobe = "1"\n', "unknown hardware map key boards.probe "),
        ('[[boards]]\nboard = ""\nprobe_id = "1"\n' * 2, "two boards of the hardware map have the same probe_id"),
        ('[[boards]]\nboard = ""\nserial = "x"\n' * 2, "two boards of the hardware map have the same serial"),
        ("[[boards]\n", "hardware map does not parse"),
    ],
)
def test_a_map_that_does_not_hold(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "map.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=error) as caught:
        read_map(path)
    assert str(caught.value.where).startswith(str(path))
    with pytest.raises(ConfigError, match="hardware map cannot be read"):
        read_map(tmp_path / "none.toml")


def test_one_of_several_is_named(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text(TWO)
    assert find_entry(path, "stm32f405", "b2").id == "B2"
    with pytest.raises(ConfigError, match="has several stm32f405") as caught:
        find_entry(path, "stm32f405")
    assert caught.value.cure is not None and "--board-id" in caught.value.cure
    with pytest.raises(ConfigError, match="has no microbit"):
        find_entry(path, "microbit")


def test_a_board_is_found_where_it_is_plugged_in_now(plugged: list[Any]) -> None:
    with pytest.raises(BoardError, match="not plugged in"):
        port_now("stm32f405", "A1", "/dev/ttyACM0")
    plugged += [port("/dev/ttyACM0", "B2"), port("/dev/ttyACM1", "a1"), port("/dev/ttyACM2", "a1")]
    assert port_now("stm32f405", "A1", "/dev/ttyACM0") == "/dev/ttyACM1"
    assert port_now("stm32f405", "A1", "/dev/ttyACM2") == "/dev/ttyACM2"
    assert port_now("stm32f405", "", "socket://rig:4000") == "socket://rig:4000"
    with pytest.raises(BoardError, match="/dev/ttyACM0 B2"):
        port_now("stm32f405", "C3", "/dev/ttyACM0")


def usb(vid: int, pid: int, serial_number: str = "A1", device: str = "/dev/ttyACM0") -> UsbPort:
    return UsbPort(device, device, vid, pid, serial_number, "")


def test_usb_ids_tell_boards_apart() -> None:
    names = {key: [b.name for b in candidates(usb(*key), BOARDS)] for key in ((0x0483, 0x374B), (0x0403, 0x6001))}
    assert names == {(0x0483, 0x374B): ["stm32f405"], (0x0403, 0x6001): []}
    assert [b.name for b in candidates(usb(0x0D28, 0x0204, "9900ABCD"), BOARDS)] == ["microbit"]
    assert candidates(usb(0x0D28, 0x0204, "1234ABCD"), BOARDS) == []  # the DAPLink of another board
    assert is_probe(usb(0x0483, 0x374B), BOARDS) and not is_probe(usb(0x0403, 0x6001), BOARDS)
    assert (usb(0x0403, 0x6001).adapter, usb(0x0483, 0x374B).adapter) == ("FTDI FT232R", "")


def test_what_a_map_has_is_not_new() -> None:
    known = [Entry("stm32f405", id="a1"), Entry("stm32f405", serial="/dev/ttyUSB0")]
    ports = [
        usb(1, 1, "A1"),
        usb(1, 1, "B2", "/dev/ttyACM1"),
        usb(1, 1, "B2", "/dev/ttyACM2"),
        usb(1, 1, "", "/dev/ttyUSB0"),
        usb(1, 1, "", "/dev/ttyUSB1"),
        usb(1, 1, "", "/dev/ttyUSB2"),
    ]
    assert [p.device for p in new_entries(ports, known)] == ["/dev/ttyACM1", "/dev/ttyUSB1", "/dev/ttyUSB2"]


def test_probes_without_a_serial_port_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, pid, serial in (("1-1", "3748", "A1"), ("1-2", "374b", None), ("1-3", "df11", "C3"), ("usb1", "", "")):
        (tmp_path / folder).mkdir()
        if pid:
            values = {"idVendor": "0483", "idProduct": pid, "busnum": "1", "devnum": "7", "serial": serial}
            for name, value in values.items():
                if value is not None:
                    (tmp_path / folder / name).write_text(f"{value}\n")
    monkeypatch.setattr(usb_ports, "SYSFS", tmp_path)
    assert attached_probes(load_board("stm32f405")) == ["A1", ""]
    assert attached_probes(load_board("microbit")) == []
    assert usb_ports.usb_devices()[0].node == "/dev/bus/usb/001/007"


def test_a_port_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugged: list[Any]) -> None:
    for folder in ("by-id", "by-path", "dev"):
        (tmp_path / folder).mkdir()
    for number, names in enumerate((("by-id/usb-ST", "by-path/pci-1"), ("by-id/usb-CH340", "by-path/pci-2"), ())):
        device = tmp_path / f"dev/tty{number}"
        device.touch()
        for name in names:
            (tmp_path / name).symlink_to(device)
        plugged.append(port(str(device), "" if number else "A1"))
    monkeypatch.setattr(usb_ports, "BY_ID", tmp_path / "by-id")
    monkeypatch.setattr(usb_ports, "BY_PATH", tmp_path / "by-path")
    expected = ["by-id/usb-ST", "by-path/pci-2", "dev/tty2"]
    assert [p.path for p in usb_ports.usb_ports()] == [str(tmp_path / name) for name in expected]
