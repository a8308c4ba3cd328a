"""Runners: the exact command lines, and nothing is written to what is not the board.

The programs are stand-ins on PATH that record how they were called and print what the real ones print; what a real one
does with its arguments is not seen here.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
import sys
from pathlib import Path

import pytest
from policyport.core.errors import BoardBusyError, BoardError, ConfigError, PolicyportError, ToolError
from policyport.deploy import runners, uf2_volume
from policyport.deploy.board import Board, Runner, board_names, load_board
from policyport.deploy.runners import Place, choose_runner, command_lines, run_runner, script_files
from policyport.deploy.uf2 import read_uf2

TOOL = """#!{python}
import json, sys
with open({calls!r}, "a") as stream:
    stream.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
print({printed!r})
sys.exit({code})
"""

STLINKS = """Found 2 stlink programmers
  version:    V2J37S7
  serial:     {}
  flash:      1048576 (pagesize: 16384)
  chipid:     0x{:04x}
  version:    V2J28S7
  serial:     {}
  chipid:     0x{:04x}
"""
FILES = {name: Path(f"/image/firmware.{name}") for name in ("bin", "hex", "elf")} | {"unit": Path("/image/a.service")}
REAL = [load_board(name) for name in board_names() if load_board(name).runners]
PROGRAMS = [(board, runner) for board in REAL for runner in board.runners if runner.command]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of PATH, and no probe on USB."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(runners, "attached_probes", lambda board: [])
    return folder


def put(tools: Path, name: str, printed: str = "", code: int = 0) -> None:
    path = tools / name
    calls = str(tools.parent / "calls")
    path.write_text(TOOL.format(python=sys.executable, calls=calls, name=name, printed=printed, code=code))
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def calls(tools: Path) -> list[list[str]]:
    path = tools.parent / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def named(board: str, name: str) -> tuple[Board, Runner]:
    found = load_board(board)
    return found, next(runner for runner in found.runners if runner.name == name)


@pytest.mark.parametrize(("board", "runner"), PROGRAMS, ids=lambda value: value.name)
@pytest.mark.parametrize("probe", ["", "0670FF"])
def test_every_runner_checks_and_writes_nothing_to_another_chip(
    tools: Path, board: Board, runner: Runner, probe: str
) -> None:
    for program in {runner.check[0], runner.command[0]}:
        put(tools, program, "serial: 0670FF chipid: 0x999  e0042000:  10006999")
    place = Place("socket://pi:3333" if board.linux else "/dev/ttyACM0", probe)
    with pytest.raises(BoardError, match="is not this board; nothing was written"):
        run_runner(board, runner, FILES, place, 60)
    check, write, *_ = command_lines(board, runner, FILES, place)
    (called,) = calls(tools)
    assert [Path(part).name if part.endswith(".script") else part for part in called] == check
    written = " ".join((*write, *script_files(board, runner, FILES, place).values()))
    assert any(path in written for path in ("/image/firmware.", "mass_erase"))
    assert bool(probe) == ("0670FF" in " ".join(write)) or not runner.select
    assert not any("{" in part and "}" in part for part in (*check, *write))


@pytest.mark.parametrize(
    ("place", "host"),
    [(Place("socket://pi:3333", ""), "pi"), (Place("/dev/ttyACM0", "me@192.168.1.9"), "me@192.168.1.9")],
)
def test_linux_board_is_copied_to_and_started(tools: Path, place: Place, host: str) -> None:
    board, runner = named("raspberrypi3", "ssh")
    put(tools, "ssh", "Linux aarch64")
    put(tools, "scp")
    assert choose_runner(board, "auto", place) == runner
    run_runner(board, runner, FILES, place, 60)
    batch = ["-o", "BatchMode=yes"]
    look, copy, start = calls(tools)
    assert look == ["ssh", *batch, host, "uname -sm"]
    assert copy == ["scp", "-q", *batch, "/image/firmware.elf", "/image/a.service", f"{host}:"]
    assert start[:4] == ["ssh", *batch, host] and "systemctl restart policyport" in start[4]


def test_linux_board_needs_a_name_in_the_network() -> None:
    with pytest.raises(ConfigError, match="name in the network is not known") as caught:
        choose_runner(load_board("raspberrypi3"), "auto", Place("/dev/ttyACM0", ""))
    assert caught.value.cure is not None and "--probe USER@HOST" in caught.value.cure


@pytest.mark.parametrize(
    ("board", "name", "printed", "write"),
    [
        (
            "stm32f405",
            "openocd",
            "0xe0042000: 10076413 ",
            "openocd -f interface/stlink.cfg -c 'adapter serial 0670FF' -f target/stm32f4x.cfg"
            " -c 'program /image/firmware.elf verify reset exit'",
        ),
        (
            "stm32f405",
            "st-flash",
            STLINKS.format("0670FF", 0x413, "066DFF", 0x410),
            "st-flash --serial 0670FF --reset write /image/firmware.bin 0x8000000",
        ),
        (
            "stm32f405",
            "pyocd",
            "e0042000:  10076413    |.d..|",
            "pyocd flash --no-wait --uid 0670FF --target stm32f405rg /image/firmware.hex",
        ),
        (
            "stm32f405",
            "dfu-util",
            'Found DFU: [0483:df11] ver=2200, devnum=5, cfg=1, intf=0, path="1-1", alt=0, '
            'name="@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg", serial="0670FF"',
            "dfu-util -d 0483:df11 -S 0670FF -a 0 -s 0x8000000:leave -D /image/firmware.bin",
        ),
        (
            "stm32f405",
            "stm32loader",
            "Bootloader version: 0x31\nChip id: 0x413 (STM32F405xx/07xx and STM32F415xx/17xx)",
            "stm32loader --port /dev/ttyACM0 --family F4 --erase --write --verify --go-address 0x8000000"
            " /image/firmware.bin",
        ),
        (
            "lm3s6965evb",
            "openocd",
            "0x400fe004: 1073402e ",
            "openocd -f board/ek-lm3s6965.cfg -c 'adapter serial 0670FF'"
            " -c 'program /image/firmware.elf verify reset exit'",
        ),
        (
            "pico",
            "openocd",
            "0x40000000: 20002927 ",
            "openocd -f interface/cmsis-dap.cfg -c 'adapter serial 0670FF' -f target/rp2040.cfg -c 'adapter speed 5000'"
            " -c 'program /image/firmware.elf verify reset exit'",
        ),
        (
            "nucleo-f746zg",
            "openocd",
            "0xe0042000: 10016449 ",
            "openocd -f interface/stlink.cfg -c 'adapter serial 0670FF' -f target/stm32f7x.cfg"
            " -c 'program /image/firmware.elf verify reset exit'",
        ),
        (
            "stm32f405",
            "jlink",
            "J-Link V11\nS/N: 0670FF\nVTref=3.3V\nJ-Link>mem32 0xE0042000, 1\nE0042000 = 10076413 ",
            "JLinkExe -NoGui 1 -ExitOnError 1 -AutoConnect 1 -If SWD -Speed 4000 -SelectEmuBySN 0670FF"
            " -Device STM32F405RG -CommandFile write.script",
        ),
        (
            "microbit",
            "jlink",
            "S/N: 0670FF\n10000010 = 00000400 00000100 ",
            "JLinkExe -NoGui 1 -ExitOnError 1 -AutoConnect 1 -If SWD -Speed 4000 -SelectEmuBySN 0670FF"
            " -Device nRF51822_xxAA -CommandFile write.script",
        ),
        (
            "microbit",
            "pyocd",
            "10000010:  00000400 00000100    |........|",
            "pyocd flash --no-wait --uid 0670FF --target nrf51 /image/firmware.hex",
        ),
    ],
)
def test_the_command_line(tools: Path, board: str, name: str, printed: str, write: str) -> None:
    found, runner = named(board, name)
    for program in {runner.check[0], runner.command[0]}:
        put(tools, program, printed)
    run_runner(found, runner, FILES, Place("/dev/ttyACM0", "0670FF"), 60)
    check, last = calls(tools)
    assert shlex.join(Path(part).name if part.endswith(".script") else part for part in last) == write
    assert check[0] == runner.check[0] and check != last


def test_the_named_probe_is_on_another_chip(tools: Path) -> None:
    """Both chips are there: the board's is on the other probe."""
    board, runner = named("stm32f405", "st-flash")
    put(tools, "st-info", STLINKS.format("066DFF", 0x413, "0670FF", 0x410))
    with pytest.raises(BoardError, match="is not this board"):
        run_runner(board, runner, FILES, Place("", "0670FF"), 60)
    assert [call[0] for call in calls(tools)] == ["st-info"]


def test_a_program_that_takes_its_commands_from_a_file(tools: Path) -> None:
    board, runner = named("stm32f405", "jlink")
    path = tools / "JLinkExe"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\n"
        f"open({str(tools.parent / 'scripts')!r}, 'a').write(Path(sys.argv[-1]).read_text())\n"
        "print('S/N: 123456\\nE0042000 = 10076413')\n"
    )
    path.chmod(0o755)
    run_runner(board, runner, FILES, Place("", ""), 60)
    check, write = ["mem32 0xE0042000, 1", "exit"], ["loadfile /image/firmware.hex", "r", "g", "exit"]
    assert (tools.parent / "scripts").read_text().splitlines() == [*check, *write]
    with pytest.raises(BoardError, match="is not this board"):
        run_runner(board, runner, FILES, Place("", "999999"), 60)
    assert (tools.parent / "scripts").read_text().splitlines() == [*check, *write, *check]


def test_several_probes_and_none_named(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board, runner = named("stm32f405", "st-flash")
    monkeypatch.setattr(runners, "attached_probes", lambda board: ["0670FF", ""])
    with pytest.raises(BoardBusyError, match="0670FF, one without a serial number"):
        run_runner(board, runner, FILES, Place("", ""), 60)
    assert calls(tools) == []


@pytest.mark.parametrize(("fails", "error"), [("check", BoardError), ("write", ToolError)])
def test_a_program_that_fails_is_quoted(tools: Path, fails: str, error: type[PolicyportError]) -> None:
    """Where it looks there is no board, where it writes there was one."""
    board, runner = named("stm32f405", "st-flash")
    put(tools, "st-info", STLINKS.format("0670FF", 0x413, "", 0), code=int(fails == "check"))
    put(tools, "st-flash", "no such probe", code=255)
    with pytest.raises(error) as caught:
        run_runner(board, runner, FILES, Place("", "0670FF"), 60)
    assert f"exit code {1 if fails == 'check' else 255}" in caught.value.got
    assert [call[0] for call in calls(tools)] == ["st-info", "st-flash"][: 1 + (fails == "write")]
    assert "boards doctor" in str(caught.value.cure)


def test_a_linux_board_that_is_not_reached_is_asked_for_by_hand(tools: Path) -> None:
    board, runner = named("raspberrypi3", "ssh")
    put(tools, "ssh", "Could not resolve hostname", code=255)
    with pytest.raises(BoardError, match="the board was not found") as caught:
        run_runner(board, runner, FILES, Place("socket://pi.lab:3333", ""), 60)
    assert str(caught.value.cure).endswith("ssh pi.lab true")


def test_a_program_that_hangs_is_ended(tools: Path) -> None:
    board, runner = named("stm32f405", "st-flash")
    (tools / "st-info").write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
    os.chmod(tools / "st-info", 0o755)
    with pytest.raises(ToolError, match="flashing took too long"):
        run_runner(board, runner, FILES, Place("", ""), 0.3)


def test_the_first_that_is_installed_and_can_reach_the_board(tools: Path) -> None:
    board = load_board("stm32f405")
    put(tools, "stm32loader")
    assert choose_runner(board, "auto", Place("/dev/ttyACM0", "")).name == "stm32loader"
    with pytest.raises(ToolError, match="no program that flashes") as caught:
        choose_runner(board, "auto", Place("", ""))
    assert (
        caught.value.cure is not None and "install openocd" in caught.value.cure and "pip install" in caught.value.cure
    )
    put(tools, "dfu-util")
    put(tools, "st-flash")
    assert choose_runner(board, "auto", Place("", "")).name == "st-flash"
    assert choose_runner(board, "dfu-util", Place("", "")).name == "dfu-util"


def test_what_would_be_run_is_shown_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the runner that is named, else of the first that needs nothing that is not known."""
    monkeypatch.setenv("PATH", str(tmp_path))
    board = load_board("stm32f405")
    assert choose_runner(board, "auto", Place("", ""), to_run=False).name == "openocd"
    assert choose_runner(board, "stm32loader", Place("/dev/ttyACM0", ""), to_run=False).name == "stm32loader"
    with pytest.raises(ToolError, match="no program that flashes"):
        choose_runner(load_board("mps2-an386"), "auto", Place("/dev/ttyACM0", ""), to_run=False)


@pytest.mark.parametrize(
    ("wanted", "error"), [("stm32loader", "flashes by the serial port"), ("esptool", "has no such runner")]
)
def test_a_runner_that_does_not_do(tools: Path, wanted: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        choose_runner(load_board("stm32f405"), wanted, Place("", ""))


def test_a_uf2_volume_takes_the_image(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pico, runner = named("pico", "uf2")
    volume = tmp_path / "RPI-RP2"
    volume.mkdir()
    (tmp_path / "mounts").write_text(f"/dev/sda1 {volume} vfat rw 0 0\n")
    monkeypatch.setattr(uf2_volume, "MOUNTS", tmp_path / "mounts")
    (tmp_path / "firmware.bin").write_bytes(b"image")
    files = {"bin": tmp_path / "firmware.bin"}
    (volume / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\nBoard-ID: SAMD51-Feather\n")
    with pytest.raises(BoardError, match="no board waits for an image"):
        run_runner(pico, runner, files, Place("", ""), 60)
    assert [path.name for path in volume.iterdir()] == ["INFO_UF2.TXT"]
    (volume / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\nBoard-ID: RPI-RP2\n")
    assert choose_runner(pico, "auto", Place("", "")) == runner
    run_runner(pico, runner, files, Place("", ""), 60)
    image, base, family = read_uf2((volume / "pico.uf2").read_bytes())
    assert (image[:5], base, family) == (b"image", 0x10000000, 0xE48BFF56)
    assert command_lines(pico, runner, files, Place("", "")) == [["cp", "pico.uf2", "<volume of RPI-RP2>"]]
