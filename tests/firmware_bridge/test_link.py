"""The line: what is sent arrives whole, however long it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.firmware_bridge.link import PIECE_BYTES, Link


@given(st.integers(0, 4 * PIECE_BYTES))
def test_a_long_frame_is_written_in_pieces(size: int) -> None:
    """Each piece has the write's timeout for itself: an image takes longer than that on a slow line."""
    data, pieces = bytes(i % 251 for i in range(size)), []
    with pytest.MonkeyPatch.context() as patch:
        link = Link("loop://")
        try:
            patch.setattr(link._port, "write", pieces.append)
            link.write(data)
        finally:
            link.close()
    assert b"".join(pieces) == data
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
