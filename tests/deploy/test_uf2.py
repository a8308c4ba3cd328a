"""UF2: what is written reads back, what is altered does not; the image goes to the one right volume."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import BoardError, ConfigError
from policyport.deploy import uf2_volume
from policyport.deploy.uf2 import BLOCK_BYTES, PAYLOAD_BYTES, read_uf2, uf2_bytes
from policyport.deploy.uf2_volume import Volume, choose_volume, copy_image, find_volumes

IMAGES = st.binary(min_size=1, max_size=5 * PAYLOAD_BYTES)
BASES = st.integers(0, (1 << 24) - 16).map(lambda page: page * PAYLOAD_BYTES)
FAMILIES = st.integers(0, 0xFFFFFFFF)


@given(IMAGES, BASES, FAMILIES)
def test_what_is_written_reads_back(image: bytes, base: int, family: int) -> None:
    data = uf2_bytes(image, base, family)
    read, read_base, read_family = read_uf2(data)
    pages = -(-len(image) // PAYLOAD_BYTES)
    assert (len(data), len(read)) == (pages * BLOCK_BYTES, pages * PAYLOAD_BYTES)
    assert (read_base, read_family) == (base, family)
    assert read[: len(image)] == image and set(read[len(image) :]) <= {0xFF}


@given(IMAGES, st.data())
def test_an_altered_header_does_not_read(image: bytes, data: st.DataObject) -> None:
    """Every word but the base and the family of the first block, which are for the reader to learn."""
    whole = bytearray(uf2_bytes(image, 0x10000000, 0xE48BFF56))
    words = [at for block in range(0, len(whole), BLOCK_BYTES) for at in (*range(block, block + 32, 4), block + 508)]
    at = data.draw(st.sampled_from([at for at in words if at not in (12, 28) or len(whole) > BLOCK_BYTES]))
    bit = data.draw(st.integers(0, 31))
    whole[at + bit // 8] ^= 1 << bit % 8
    with pytest.raises(ConfigError, match="is not one of an image"):
        read_uf2(bytes(whole))


@given(IMAGES, st.integers(1, BLOCK_BYTES - 1))
def test_a_torn_file_does_not_read(image: bytes, missing: int) -> None:
    for torn in (uf2_bytes(image, 0, 0)[:-missing], b""):
        with pytest.raises(ConfigError, match="no whole UF2 file"):
            read_uf2(torn)


def test_a_block_is_as_the_format_says() -> None:
    """Offsets of the fields, from the format's own page."""
    second = uf2_bytes(bytes(range(256)) + b"\x55", 0x10000000, 0xE48BFF56)[BLOCK_BYTES:]
    assert second[:4] == b"UF2\n" and second[508:] == bytes.fromhex("306fb10a")
    fields = struct.unpack_from("<7I", second, 4)
    assert fields == (0x9E5D5157, 0x2000, 0x10000100, 256, 1, 2, 0xE48BFF56)
    assert second[32:36] == b"\x55\xff\xff\xff" and second[32 + 256 : 508] == bytes(220)


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose subfolders are mounted, one with a space in its name; what lies in them says whose they are."""
    places = [tmp_path / name for name in ("RPI RP2", "FEATHER", "stick")]
    for place in places:
        place.mkdir()
    lines = [f"/dev/sd{n}1 {str(place).replace(' ', chr(92) + '040')} vfat rw 0 0" for n, place in enumerate(places)]
    (tmp_path / "mounts").write_text("\n".join(["proc /proc proc rw 0 0", *lines, ""]))
    monkeypatch.setattr(uf2_volume, "MOUNTS", tmp_path / "mounts")
    return tmp_path


def info(folder: Path, board_id: str) -> None:
    (folder / "INFO_UF2.TXT").write_text(f"UF2 Bootloader v3.0\r\nModel: a board\r\nBoard-ID: {board_id}\r\n")


def test_the_volume_of_the_board(mounts: Path) -> None:
    with pytest.raises(BoardError, match="no board waits for an image"):
        choose_volume("pico", ("RPI-RP2",))
    info(mounts / "FEATHER", "SAMD51-Feather")
    with pytest.raises(BoardError, match=f"{mounts / 'FEATHER'} of SAMD51-Feather"):
        choose_volume("pico", ("RPI-RP2",))
    info(mounts / "RPI RP2", "RPI-RP2")
    chosen = choose_volume("pico", ("RPI-RP2",))
    assert chosen == Volume(mounts / "RPI RP2", "RPI-RP2")
    assert len(find_volumes()) == 2
    assert copy_image(b"image", chosen, "pico.uf2").read_bytes() == b"image"
    info(mounts / "stick", "RPI-RP2")
    with pytest.raises(BoardError, match="several boards wait"):
        choose_volume("pico", ("RPI-RP2",))


def test_a_volume_that_takes_nothing(mounts: Path) -> None:
    info(mounts / "stick", "RPI-RP2")
    (mounts / "stick" / "pico.uf2").mkdir()
    with pytest.raises(BoardError, match="did not take the image"):
        copy_image(b"image", Volume(mounts / "stick", "RPI-RP2"), "pico.uf2")
