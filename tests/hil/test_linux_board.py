"""A board that runs Linux: its program in QEMU's user mode, over every line that it has, and when it breaks."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from policyport.core.artifact import Artifact
from policyport.core.errors import BoardError, BoardFaultError, ConfigError, ToolError
from policyport.deploy import DeployConfig, FlashConfig, bootloader, deploy, flash
from policyport.deploy.board import load_board
from policyport.deploy.firmware import build_firmware, image_file
from policyport.deploy.host import find_compiler
from policyport.deploy.toolchain import find_toolchain
from policyport.firmware_bridge.client import Bridge
from policyport.hil import HilConfig, hil, open_board, qemu_user_board
from policyport.hil.policy import ReferencePolicy
from policyport.hil.result import Result
from policyport.hil.rig import EmulatedRig, SerialRig, choose_emulator
from policyport.pipeline.identify import running_build
from tiny import SHORT, Built

pytestmark = pytest.mark.skipif(not qemu_user_board.is_installed(), reason="qemu-aarch64 is not installed")

BOARD = load_board("raspberrypi3")

VERBS = Path(__file__).parents[1] / "board" / "fault_verbs.c"


@pytest.fixture(scope="module")
def image(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    try:
        find_toolchain(linux=True)
    except ToolError as error:
        pytest.skip(error.what)
    config = DeployConfig(board=BOARD.name)
    return deploy(built.quantized.path, config, tmp_path_factory.mktemp("linux") / "deploy")


@pytest.fixture(scope="module")
def broken(image: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with verbs that break it, and a watchdog of a second."""
    folder = tmp_path_factory.mktemp("broken")
    shutil.copytree(image.path / "src", folder / "src")
    shutil.copyfile(VERBS, folder / "src" / "pp_zz_verbs.c")
    platform = folder / "src" / "linux_platform.c"
    platform.write_text("#define PP_WATCHDOG_S 1u\n" + platform.read_text())
    return build_firmware(folder / "src", BOARD, find_toolchain(linux=True), folder).elf


def test_the_whole_of_hil_runs(image: Artifact, tmp_path: Path) -> None:
    flashed = flash(image.path, FlashConfig(), tmp_path / "flash", running_build)
    artifact = hil(image.path, flashed.path, SHORT, tmp_path / "hil")
    result = Result.read(artifact.path / "result.json")
    assert result.parity.equal and result.latency.repeats
    assert (result.board.unit, result.board.counter) == ("instructions", "emulator") and result.board.emulated
    assert 100 < result.latency.inference.max < 2000
    assert [layer.name for layer in result.latency.layers] == ["activated", "output", "other"]
    assert all(layer.count > 0 for layer in result.latency.layers)
    assert 0 < result.memory.stack_used_bytes < 4096 < result.memory.stack_bytes == BOARD.stack_bytes
    assert result.loop is not None and result.loop.steps > 100
    assert result.no_estimate == "no timing rules for this core"
    provenance = json.loads((artifact.path / "env.json").read_text())
    assert provenance["emulator"].startswith("qemu-user ")


def test_a_program_is_the_image(image: Artifact) -> None:
    assert image_file(image) == image.file("firmware.elf")
    assert {"firmware.map", "policyport.service", "src/linux_main.c"} <= set(image.manifest.files)
    assert not {"firmware.bin", "firmware.hex", "src/pp_startup.c"} & set(image.manifest.files)
    footprint = json.loads(image.file("footprint.json").read_text())
    assert footprint["policy_flash_bytes"] + footprint["bridge_flash_bytes"] == footprint["flash_bytes"]
    assert BOARD.stack_bytes <= footprint["stack_bytes"] < footprint["ram_bytes"]


def test_an_open_board_is_a_policy(image: Artifact) -> None:
    observations = np.random.default_rng(3).uniform(-0.15, 0.15, (4, 4)).astype(np.float32)
    with open_board(image.path) as board:
        expected = ReferencePolicy(board.program, board.task).predict(observations)[0]
        assert np.array_equal(board.policy.predict(observations)[0], expected)
        assert len(set(board.counts)) == 1


def test_blocks_count_as_single_instructions_do(image: Artifact, tmp_path: Path) -> None:
    """QEMU can be told to make every instruction a block of its own; the count is then one by one."""
    help_text = subprocess.run([qemu_user_board.QEMU, "--help"], capture_output=True, text=True, check=False).stdout
    one_by_one = next((flag for flag in ("-one-insn-per-tb", "-singlestep") if flag in help_text), None)
    if one_by_one is None:
        pytest.skip("this QEMU makes no blocks of one instruction")
    counted = []
    for more in ([], [one_by_one]):
        count_file = tmp_path / f"count{len(more)}"
        count_file.write_bytes(bytes(qemu_user_board.COUNT_BYTES))
        qemu, *rest = qemu_user_board.command_line(BOARD, image.file("firmware.elf"), count_file)
        with running([qemu, *more, *rest, "--listen", "127.0.0.1:0"]) as url, Bridge.open(url, timeout_s=20) as bridge:
            overhead = bridge.hello().counter_overhead_ticks
            q = np.zeros(4, np.int64)
            counted.append([bridge.infer(q).ticks - overhead, *(bridge.layer_ticks(n, q) - overhead for n in range(2))])
    assert counted[0] == counted[1] and all(count > 100 for count in counted[0])


@contextmanager
def running(command: list[str]) -> Iterator[str]:
    """A program that names its URL."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def test_tcp_serves_one_host_after_the_other(image: Artifact, tmp_path: Path) -> None:
    command = [qemu_user_board.QEMU, str(image.file("firmware.elf")), "--listen", "127.0.0.1:0"]
    with running(command) as url:
        assert url.startswith("socket://127.0.0.1:")
        for _ in range(2):
            with open_board(image.path, url) as board:
                assert not board.rig.emulated and board.rig.unit == "nanoseconds"  # it cannot know that QEMU runs it
                assert board.identity.tick_hz == 1_000_000_000
                with pytest.raises(BoardError, match="does not open"):
                    _connect(url)
            _await_free(url)


def _connect(url: str) -> None:
    """As another user of this machine, who does not see our lock, would."""
    from policyport.firmware_bridge import link

    link._open(url, 115200).close()


def _await_free(url: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            _connect(url)
        except BoardError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("the program does not listen again")


class Master:
    """The host's side of a pseudo terminal whose other side is the program's serial device."""

    def __init__(self, descriptor: int) -> None:
        self.url = f"fd:{descriptor}"
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        os.write(self._descriptor, data)

    def read(self, timeout_s: float) -> bytes:
        ready, _, _ = select.select([self._descriptor], [], [], timeout_s)
        return os.read(self._descriptor, 4096) if ready else b""

    def close(self) -> None:
        os.close(self._descriptor)


def test_serial_device(image: Artifact) -> None:
    ours, theirs = os.openpty()
    line = ["--serial", os.ttyname(theirs), "--baud", "921600"]
    command = [qemu_user_board.QEMU, str(image.file("firmware.elf")), *line]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process, Bridge(Master(ours), timeout_s=20) as bridge:
        try:
            everything = bytes(range(256)) * 3  # newlines, interrupts, XON and XOFF are bytes like others
            assert bridge.echo(everything) == everything
            assert bridge.hello().build_id == image.manifest.figures["build_id"]
        finally:
            process.kill()
            os.close(theirs)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--serial", "/dev/null"], 3, "cannot use the serial device /dev/null"),
        (["--serial", "/dev/ttyX9"], 3, "cannot use the serial device /dev/ttyX9: No such file or directory"),
        (["--serial", "/dev/null", "--baud", "1234"], 2, "no such speed: --baud 1234"),
        (["--listen", "pi:3333"], 2, "--listen takes PORT or IPV4-ADDRESS:PORT, not pi:3333"),
        (["--listen", "70000"], 2, "not 70000"),
        (["--listen", "203.0.113.1:1"], 3, "cannot listen on 203.0.113.1:1"),
        (["--listen", "1", "--serial", "/dev/null"], 2, "either --listen or --serial"),
        (["--liste", "1"], 2, "unknown option"),
        (["--listen"], 2, "an option without its value"),
        (["--count", "/nonexistent"], 3, "cannot read the counts in /nonexistent"),
    ],
)
def test_bad_arguments_end_it_with_a_reason(image: Artifact, arguments: list[str], code: int, words: str) -> None:
    command = [qemu_user_board.QEMU, str(image.file("firmware.elf")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert done.returncode == code and words in done.stderr


def test_standard_input_ends_it(image: Artifact) -> None:
    command = [qemu_user_board.QEMU, str(image.file("firmware.elf"))]
    done = subprocess.run(command, capture_output=True, input=b"", timeout=60, check=False)
    assert done.returncode == 0 and done.stdout[:1] == done.stdout[-1:] == b"\0" and len(done.stdout) > 10


def test_reset_starts_afresh(image: Artifact) -> None:
    with EmulatedRig(BOARD, image_file(image)) as rig, Bridge.open(rig.url, timeout_s=20) as bridge:
        assert bridge.hello().reset_cause == "power"
        bridge.reset()
        assert bridge.hello().reset_cause == "request"


@pytest.mark.parametrize(
    ("verb", "payload", "words", "cause"),
    [
        (0x40, b"", "SIGILL at pc 0x", "fault"),
        (0x41, b"", "SIGSEGV at pc 0x.*: stack overflow", "fault"),
        (0x42, b"", r"restarted in the middle of a session[\s\S]*watchdog", "watchdog"),
        (0x43, (0x1234).to_bytes(8, "little"), "SIGSEGV .*, address 0x00001234", "fault"),
    ],
    ids=["undefined instruction", "stack overflow", "hang", "no such address"],
)
def test_a_broken_program_says_so_and_comes_back(
    broken: Path, verb: int, payload: bytes, words: str, cause: str
) -> None:
    with EmulatedRig(BOARD, broken) as rig, Bridge.open(rig.url, timeout_s=60, retries=0) as bridge:
        bridge.hello()
        with pytest.raises(BoardFaultError, match=words):
            bridge.user(verb, payload)
        assert bridge.hello().reset_cause == cause


def test_nobody_is_left_behind(image: Artifact) -> None:
    with EmulatedRig(BOARD, image_file(image)) as rig, Bridge.open(rig.url, timeout_s=20) as bridge:
        bridge.hello()
        assert len(_emulators()) == 2  # one waits, one answers
    deadline = time.monotonic() + 10
    while _emulators() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _emulators()


def _emulators() -> list[str]:
    """Command lines of the user-mode QEMUs that this process has started, or that those have."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text()
        except OSError:
            continue  # it has ended meanwhile
        if qemu_user_board.QEMU in line.split("\0")[0] and _descends(path.parent.name):
            found.append(line)
    return found


def _descends(pid: str) -> bool:
    """Whether a process, or one of its parents, is this one's child."""
    while pid not in ("0", "1"):
        if pid == str(os.getpid()):
            return True
        try:
            pid = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            return False
    return False


def test_what_makes_no_sense_is_refused(built: Built, image: Artifact, tmp_path: Path) -> None:
    for config, words in [
        (DeployConfig(board=BOARD.name, ram="64K"), "activations need no limit"),
        (DeployConfig(board=BOARD.name, variant="dsp"), "is a cortex-a53: it does not run these kernels"),
        (DeployConfig(board="mps2-an386", variant="neon"), "is a cortex-m4f: it does not run these kernels"),
    ]:
        with pytest.raises(ConfigError, match=words):
            deploy(built.quantized.path, config, tmp_path / "deploy")
    with pytest.raises(ToolError, match="Unicorn runs no Linux programs"):
        choose_emulator(BOARD, "unicorn")
    with pytest.raises(ToolError, match="are not profiled"):
        EmulatedRig(BOARD, image_file(image), profile=tmp_path)


@pytest.mark.parametrize("link", ["pty", "socket"])
def test_a_closed_host_does_not_end_it(image: Artifact, link: str) -> None:
    with EmulatedRig(BOARD, image_file(image), link=link) as rig:
        for _ in range(3):
            with Bridge.open(rig.url, timeout_s=20) as bridge:
                assert bridge.hello().board == BOARD.name
            if link == "socket":
                _await_free(rig.url)
        rig.check_alive()


def test_no_period_is_held_on_an_emulated_board(image: Artifact, tmp_path: Path) -> None:
    flashed = flash(image.path, FlashConfig(), tmp_path / "flash")
    config = HilConfig(episodes=1, parity_observations=1, latency_observations=2, period_s=0.01)
    result = Result.read(hil(image.path, flashed.path, config, tmp_path / "hil").path / "result.json")
    assert result.deadline is None


def test_the_same_sources_give_the_same_program(image: Artifact, tmp_path: Path) -> None:
    toolchain = find_toolchain(linux=True)
    if toolchain.version != image.manifest.tools["compiler"]:
        pytest.skip("another compiler by now")
    shutil.copytree(image.path / "src", tmp_path / "src")
    again = build_firmware(tmp_path / "src", BOARD, toolchain, tmp_path)
    assert again.build_id == image.manifest.figures["build_id"]
    assert again.elf.read_bytes() == image.file("firmware.elf").read_bytes()


def test_it_has_no_bootloader() -> None:
    with pytest.raises(ConfigError, match="bootloader") as caught:
        bootloader.slots_of(BOARD)
    assert "stm32f405" in str(caught.value.expected)


def test_sources_build_on_the_board_itself(image: Artifact, tmp_path: Path) -> None:
    """The documentation's line, with this machine for the board: the same integers, in nanoseconds."""
    if sys.platform != "linux":
        pytest.skip("not Linux")
    program = tmp_path / "firmware"
    sources = sorted(str(path) for path in (image.path / "src").glob("*.c"))
    compiler = find_compiler()
    subprocess.run([*compiler, "-std=c99", "-O3", *sources, "-lpthread", "-o", str(program)], check=True)
    with running([str(program), "--listen", "127.0.0.1:0", "--count", "clock"]) as url:
        observations = np.random.default_rng(4).uniform(-0.15, 0.15, (4, 4)).astype(np.float32)
        with open_board(image.path, url) as board:
            expected = ReferencePolicy(board.program, board.task).predict(observations)[0]
            assert np.array_equal(board.policy.predict(observations)[0], expected)
            assert board.rig.unit == "nanoseconds" and max(board.counts) < 1_000_000_000
            assert 0 < board.bridge.memory().stack_used_bytes < BOARD.stack_bytes
    with running([str(program), "--listen", "127.0.0.1:0"]) as url, open_board(image.path, url) as board:
        assert board.identity.counter in ("perf", "clock")


@pytest.mark.parametrize(
    ("counter", "unit"),
    [("dwt", "cycles"), ("perf", "cycles"), ("clock", "nanoseconds"), ("emulator", "instructions")],
)
def test_a_counter_has_a_unit(counter: str, unit: str) -> None:
    rig = SerialRig(BOARD, "socket://pi:3333")
    rig.learn_counter(counter)
    assert rig.unit == unit and rig.instructions(500, 20) == 480
