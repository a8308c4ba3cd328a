"""``policyport keys``, ``sign`` and ``update`` as a user types them, on an emulated board whose flash is a file."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from policyport.core.artifact import write_artifact
from policyport.core.errors import ToolError
from policyport.deploy.board import load_board
from policyport.deploy.codegen import write_sources
from policyport.deploy.embed import write_manifests
from policyport.deploy.firmware import PORTS, add_device_sources
from policyport.deploy.program import write_program
from policyport.deploy.toolchain import find_toolchain
from policyport.deploy.vectors import Spec, model_vectors, random_program
from policyport.firmware_bridge.client import Bridge
from policyport.firmware_bridge.image import Image, read_images, write_images
from policyport.firmware_bridge.updater import update
from policyport.hil.flash_model import PowerSupply
from policyport.hil.inline_board import InlineBoard, PowerLostError
from policyport.pipeline.cli import main


def write_deployed(folder: Path, board_name: str, seed: int) -> Path:
    """A deploy artifact of a network 2-2, as far as an update needs one."""
    board = load_board(board_name)
    program = random_program(Spec((2, 2), (8, 8), ("",)), np.random.default_rng(seed))
    with write_artifact(folder, "deploy", inputs={}, config={}, code="") as writer:
        src = writer.path / "src"
        src.mkdir()
        write_sources(program, "dsp", src)
        add_device_sources(src, board)
        write_manifests(src, program.name, PORTS[board.uart.driver])
        write_program(program, writer.path)
        vectors = model_vectors(program, np.arange(-8, 8).reshape(8, 2))
        np.savez(writer.path / "vectors.npz", **vectors)  # type: ignore[arg-type]
        writer.figures.update(board=board_name)
    return folder


@dataclass(frozen=True)
class Field:
    """What lies on the disk of somebody who updates boards."""

    folder: Path
    deployed: Path
    key: Path
    old: Path
    new: Path
    factory: bytes


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Field:
    pytest.importorskip("unicorn", reason="the package unicorn is not installed")
    try:
        find_toolchain()
    except ToolError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("field")
    deployed, key = write_deployed(folder / "deploy", "stm32f405", 5), folder / "key"
    old, new, factory = folder / "old.ppu", folder / "new.ppu", folder / "new-board"
    assert main(["keys", "new", str(key)]) == 0
    common = ["sign", str(deployed), "--key", str(key)]
    assert main([*common, "--version-number", "7", "--out", str(old), "--factory", str(factory)]) == 0
    assert main([*common, "--version-number", "8", "--out", str(new)]) == 0
    return Field(folder, deployed, key, old, new, factory.read_bytes())


@pytest.fixture
def flash(field: Field, tmp_path: Path) -> Path:
    """The flash of a board as it came from the factory."""
    path = tmp_path / "factory.bin"
    path.write_bytes(field.factory)
    return path


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_an_update_is_installed_checked_and_kept(field: Field, flash: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = read_images(field.new)[1].header.size
    assert run("update", field.new, "--flash", flash, "--check", field.deployed) == 0
    assert f"runs version 8, build {read_images(field.new)[1].header.build_id[:12]}" in (out := capsys.readouterr().out)
    assert f"{size:,} bytes sent, 0 were there" in out
    assert run("update", field.new, "--flash", flash) == 0  # the file holds it: the same line does no harm
    assert f"0 bytes sent, {size:,} were there" in capsys.readouterr().out
    assert run("update", field.old, "--flash", flash) == 2
    assert "not newer than the confirmed image" in capsys.readouterr().err


def test_an_interrupted_update_goes_on(field: Field, flash: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = read_images(field.new)
    board = InlineBoard(load_board("stm32f405"), field.factory, PowerSupply(cut_at=700), counts=False)
    with pytest.raises(PowerLostError):
        update(Bridge(board), images, lambda done, note="": None)
    flash.write_bytes(board.content)
    assert run("update", field.new, "--flash", flash) == 0
    sent, there = numbers(capsys.readouterr().out)
    assert sent + there == images[1].header.size
    assert 2500 < there < 2700


def numbers(text: str) -> tuple[int, int]:
    """Bytes sent, and bytes that were there."""
    words = text.replace(",", "").split()
    return int(words[words.index("bytes") - 1]), int(words[words.index("were") - 1])


def test_integers_that_differ_leave_an_image_unconfirmed(
    field: Field, flash: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_deployed(tmp_path / "other", "stm32f405", 6)
    assert run("update", field.new, "--flash", flash, "--check", other) == 4
    assert "integers differ" in capsys.readouterr().err
    with_old_firmware = InlineBoard(load_board("stm32f405"), flash.read_bytes(), counts=False)
    assert Bridge(with_old_firmware).hello().build_id == read_images(field.old)[0].header.build_id


def test_a_board_without_bootloader_is_refused(
    field: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed = write_deployed(tmp_path / "deploy", "mps2-an386", 5)
    assert run("sign", deployed, "--key", field.key, "--version-number", "1") == 2
    assert "expected: nucleo-f746zg or stm32f405" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["0", str(1 << 32), "-1"])
def test_versions_have_a_range(field: Field, version: str) -> None:
    assert run("sign", field.deployed, "--key", field.key, f"--version-number={version}") == 2


def test_a_factory_trusts_the_key_that_signs(field: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keys", "new", tmp_path / "second") == 0
    words = ("sign", field.deployed, "--key", field.key, "--version-number", "1", "--out", tmp_path / "x.ppu")
    factory = ("--factory", tmp_path / "x.hex", "--trust")
    assert run(*words, *factory, tmp_path / "second.pub") == 2
    assert "would not start its own image" in capsys.readouterr().err
    assert run(*words, *factory, f"{field.key}.pub", tmp_path / "second.pub") == 0
    assert "2 public keys" in capsys.readouterr().out
    assert (tmp_path / "x.hex").read_text().startswith(":020000040800F2\n")


def test_keys_are_for_their_owner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "sub" / "key"
    assert run("keys", "new", key) == 0
    made = capsys.readouterr().out
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for shown in (key, key.with_name("key.pub")):
        assert run("keys", "show", shown) == 0
        assert capsys.readouterr().out == made
    before = key.read_bytes()
    assert run("keys", "new", key) == 2
    assert "not overwritten" in capsys.readouterr().err and key.read_bytes() == before
    for mode in (0o640, 0o604, 0o620):
        key.chmod(mode)
        assert run("keys", "show", key) == 2
        assert "chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff" * 40]
)
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    assert run("keys", "show", path) == 2
    assert "key" in capsys.readouterr().err
    assert run("keys", "show", tmp_path / "nothing") == 2


def test_a_file_with_one_byte_changed_is_refused_here_or_by_the_board(
    field: Field, flash: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = read_images(field.new)
    wrong = bytes([second.signature[0] ^ 1]) + second.signature[1:]
    forged = tmp_path / "forged.ppu"
    write_images(forged, (first, Image(second.header, wrong, second.firmware)))
    assert run("update", forged, "--flash", flash) == 2
    assert "the signature does not match" in capsys.readouterr().err
    content = bytearray(field.new.read_bytes())
    content[-5] ^= 1
    forged.write_bytes(content)
    assert run("update", forged, "--flash", flash) == 2
    assert "an altered image" in capsys.readouterr().err
    assert flash.read_bytes().rstrip(b"\xff") == field.factory.rstrip(b"\xff")


def test_a_file_that_is_no_flash_is_left_as_it_was(
    field: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A firmware, say, whose folder would be altered; and none at all."""
    firmware = tmp_path / "firmware.bin"
    firmware.write_bytes(field.factory[: field.factory.index(b"PPUI")])
    content = firmware.read_bytes()
    for path in (firmware, tmp_path / "nothing.bin"):
        assert main(["update", str(field.new), "--flash", str(path)]) == 2
        said = capsys.readouterr().err
        assert f"no flash of an emulated board with a bootloader ({path})" in said and "sign DEPLOY" in said
    assert firmware.read_bytes() == content


def test_the_flash_of_another_board_is_left_as_it_was(
    field: Field, flash: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = flash.with_name("other.bin")
    content = flash.read_bytes().replace(b"stm32f405", b"stm32f415")
    other.write_bytes(content)
    assert main(["update", str(field.new), "--flash", str(other)]) == 2
    assert "the flash of another board" in capsys.readouterr().err and other.read_bytes() == content


def test_sign_makes_the_folders_it_writes_into(field: Field, tmp_path: Path) -> None:
    out, factory = tmp_path / "a" / "update.ppu", tmp_path / "b" / "factory.hex"
    line = ["sign", str(field.deployed), "--key", str(field.key), "--version-number", "9", "--out", str(out)]
    assert main([*line, "--factory", str(factory)]) == 0
    assert len(read_images(out)) == 2 and factory.read_text().startswith(":")
