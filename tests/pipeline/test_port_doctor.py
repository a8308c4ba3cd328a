"""The doctor of ports: each lack is said with its cure, and no port is opened."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from policyport.core.port_lock import PortLock
from policyport.deploy.board import load_board
from policyport.deploy.usb_ports import UsbDevice, UsbPort
from policyport.pipeline import port_doctor
from policyport.pipeline.port_doctor import examine_port, examine_ports, flash_programs, udev_rules

BOARDS = [load_board("stm32f405"), load_board("microbit")]


def port(device: str = "/dev/null", vid: int = 0x0483, pid: int = 0x374B) -> UsbPort:
    return UsbPort(device, device, vid, pid, "0670FF", "STM32 STLink")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What is installed; st-flash at first. Nothing is plugged in, and nobody has /dev/null open."""
    there = {"st-flash"}
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in there else None)
    monkeypatch.setattr(port_doctor, "processes_with", lambda device: [])
    monkeypatch.setattr(port_doctor, "usb_ports", lambda: [])
    monkeypatch.setattr(port_doctor, "usb_devices", lambda: [])
    return there


@pytest.mark.parametrize(
    ("vid", "pid", "whose"),
    [
        (0x0483, 0x374B, "stm32f405"),
        (0x0403, 0x6001, "serial adapter FTDI FT232R, any board; say which in a hardware map"),
        (0x1234, 0x5678, "of no board that is known; say which in a hardware map"),
    ],
)
def test_a_port_with_nothing_wrong_is_described(programs: set[str], vid: int, pid: int, whose: str) -> None:
    (finding,) = examine_port(port(vid=vid, pid=pid), BOARDS)
    expected = f"STM32 STLink {vid:04x}:{pid:04x} serial 0670FF; {whose}"
    assert (finding.what, finding.state, finding.found, finding.cures) == ("/dev/null", "ok", expected, ())


def test_a_port_that_is_not_yours(programs: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_doctor.os, "access", lambda *_: False)
    (finding,) = examine_port(port("/dev/none"), BOARDS)
    assert finding.state == "optional" and "group dialout" in finding.found
    assert finding.cures[0] == "sudo usermod -aG dialout $USER" and "--udev" in finding.cures[1]


def test_a_port_that_somebody_has(programs: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path / "ttyACM0"
    device.touch()
    lock = PortLock(str(device))
    lock.acquire(0)
    (finding,) = examine_port(port(str(device)), BOARDS)
    assert finding.state == "optional" and re.search(r"; held by pid \d+: .*", finding.found) and finding.cures == ()
    lock.release()
    monkeypatch.setattr(port_doctor, "processes_with", lambda device: ["pid 7: /usr/sbin/ModemManager"])
    (finding,) = examine_port(port(str(device)), BOARDS)
    assert finding.found.endswith("held by pid 7: /usr/sbin/ModemManager")
    assert finding.cures[1] == "sudo systemctl disable --now ModemManager" and "--udev" in finding.cures[0]


def test_who_writes_to_new_ports_is_named(programs: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_doctor, "runs", lambda program: program == "ModemManager")
    assert [finding.what for finding in examine_ports()] == ["serial ports"]
    monkeypatch.setattr(port_doctor, "usb_ports", lambda: [port()])
    assert [finding.what for finding in examine_ports()] == ["/dev/null", "ModemManager"]


def test_a_board_that_nothing_here_flashes(programs: set[str]) -> None:
    programs.clear()
    (finding,) = examine_port(port(), BOARDS)
    assert "nothing that flashes it is installed: openocd, st-flash" in finding.found
    assert any("install openocd" in cure for cure in finding.cures)
    assert any("pip install" in cure and cure.endswith("stm32loader") for cure in finding.cures)


def test_a_probe_that_is_not_yours(programs: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def plugged(node: str) -> Any:
        return lambda: [UsbDevice(0x0483, 0x3748, "A1", node), UsbDevice(0x1D6B, 2, "", "/dev/none")]

    monkeypatch.setattr(port_doctor, "usb_devices", plugged("/dev/none"))
    (finding,) = examine_ports()
    assert finding.found == "ST-LINK/V2 0483:3748 serial A1; not yours to open" and "--udev" in finding.cures[0]
    monkeypatch.setattr(port_doctor, "usb_devices", plugged("/dev/null"))
    (finding,) = examine_ports()
    assert finding.found == "no board is plugged in; boards are emulated"


def test_udev_rules_are_for_every_device() -> None:
    rules = udev_rules().splitlines()
    matched = [line for line in rules if 'ATTRS{idVendor}=="0d28", ATTRS{idProduct}=="0204"' in line]
    assert [line.split(",")[0] for line in matched] == ['SUBSYSTEM=="tty"', 'SUBSYSTEM=="usb"']
    assert all('GROUP="' in line and 'TAG+="uaccess"' in line and "ID_MM_" in line for line in matched)
    assert all(line.startswith("#") or re.fullmatch(r'(\w+(\{\w+\})?(==|\+?=)"[^"]*"(, )?)+', line) for line in rules)


def test_flash_programs_are_the_boards_runners(programs: set[str]) -> None:
    assert flash_programs().found == "st-flash (/usr/bin/st-flash)"
    programs.clear()
    finding = flash_programs()
    assert finding.state == "optional" and "openocd" in finding.found and len(finding.cures) > 1
