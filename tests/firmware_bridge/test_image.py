"""Update files and headers: what is written reads back, what is torn or altered is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from boot_rig import FIRST, release, releases
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ArtifactError, ProtocolError
from policyport.firmware_bridge.image import FLAGS, Header, read_images, sign_image, write_images
from policyport.firmware_bridge.updater import BootStatus

IMAGES = releases(5)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("image") / "update.ppu"


@given(
    st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=31),
    st.integers(0, 2**32 - 1),
    st.integers(1, 2**32 - 1),
    st.binary(min_size=16, max_size=16),
    st.binary(max_size=70),
)
def test_images_read_back(file: Path, board: str, address: int, version: int, build: bytes, firmware: bytes) -> None:
    image = sign_image(firmware, FIRST, board=board, address=address, version=version, build_id=build.hex())
    write_images(file, (image, image))
    assert read_images(file) == (image, image)
    assert image.firmware.startswith(firmware) and len(image.firmware) % 4 == 0
    assert len(image.header.pack()) == 128 and len(image.header_bytes) == 192


@given(st.data())
def test_a_torn_or_altered_file_is_refused(file: Path, data: st.DataObject) -> None:
    write_images(file, IMAGES)
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        found = read_images(file)
    except ArtifactError:
        return
    # Left are bytes that only the signature covers, which is for the board to check, and a smaller number of images.
    assert found != IMAGES
    for image, whole in zip(found, IMAGES, strict=False):
        assert image.firmware == whole.firmware


@given(st.binary(max_size=300))
def test_random_bytes_are_no_header_and_no_status(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        Header.parse(data, "here")
    with pytest.raises(ProtocolError):
        BootStatus.parse(data)


def test_a_slot_holds_header_flags_and_firmware() -> None:
    image = release(5, 1)
    content = image.slot_content(FLAGS[:2])
    assert content[:192] == image.header_bytes and content[512:] == image.firmware
    assert (content[256:260], content[288:292]) == (b"REDY", b"TRIE")
    assert content[192:256] + content[260:288] + content[292:512] == b"\xff" * (64 + 28 + 220)


def test_a_header_of_another_format_is_refused() -> None:
    header = bytearray(release(5, 1).header.pack())
    header[4] = 2
    with pytest.raises(ArtifactError, match="another format"):
        Header.parse(bytes(header), "here")


def test_no_file_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="policyport sign"):
        read_images(tmp_path / "none.ppu")
