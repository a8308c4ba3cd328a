"""The image codec's bytes: range coder, numbers in contexts, the file; whole, cut short, altered, foreign."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_decoder import RangeDecoder, plainly_decoded
from policyport.core.codec_file import HEADER_BYTES, Header, pack_picture, unpack_picture
from policyport.core.codec_latents import (
    Numbers,
    decode_numbers,
    encode_numbers,
    multiplier,
    quantize_numbers,
    quantize_reals,
)
from policyport.core.codec_model import LARGEST, QUALITIES, SYMBOLS, CoderModel
from policyport.core.errors import ArtifactError
from policyport.core.range_coder import TOTAL_BITS, RangeEncoder


def frequencies(generator: np.random.Generator, symbols: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """From 1 on, some of them large, summing to 2^16."""
    share = generator.dirichlet(np.full(symbols, 0.2))
    whole = np.maximum(1, np.floor(share * (2**TOTAL_BITS - symbols))).astype(np.int64)
    whole[whole.argmax()] += 2**TOTAL_BITS - whole.sum()
    return whole


def model(seed: int, channels: int = 8) -> CoderModel:
    generator = np.random.default_rng(seed)
    tables = np.stack([frequencies(generator, SYMBOLS) for _ in range(3)]).astype(np.uint16)
    references = np.minimum(generator.integers(0, channels, (channels, 3)), np.arange(channels)[:, None] - 1)
    weights = generator.integers(0, 256, (channels, 7))
    weights[:, 4:][references < 0] = 0
    return CoderModel(
        steps=np.linspace(60, 4, QUALITIES),
        offsets=generator.integers(0, 256, channels).astype(np.uint8),
        chunks=np.array([0, 3, 5], np.uint8),
        weights=weights.astype(np.uint8),
        references=np.maximum(references, 0).astype(np.uint8),
        table_of=generator.integers(0, 3, (channels, 16)).astype(np.uint8),
        tables=tables,
    )


def numbers(seed: int, rows: int, columns: int, channels: int = 8) -> Numbers:
    """Mostly small, some beyond the escape."""
    generator = np.random.default_rng(seed)
    wide = generator.laplace(0, 1.5, (rows, columns, channels)) * generator.choice(
        [1, 1, 1, 30], (rows, columns, channels)
    )
    return np.clip(np.rint(wide), -LARGEST, LARGEST).astype(np.int64)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(0, 400))
def test_symbols_come_back(seed: int, symbols: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    share = frequencies(generator, symbols)
    below = np.concatenate([[0], share.cumsum()])
    sent = generator.integers(0, symbols, count)
    encoder = RangeEncoder()
    for symbol in sent:
        encoder.put(int(below[symbol]), int(share[symbol]))
    data = encoder.finish()
    bits = -np.log2(share[sent] / 2**TOTAL_BITS).sum()
    assert len(data) <= bits / 8 * 1.01 + 5
    decoder = RangeDecoder(data)
    for symbol in sent:
        got = int(np.searchsorted(below, decoder.peek(), side="right") - 1)
        assert got == symbol
        decoder.take(int(below[got]), int(share[got]))


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
def test_numbers_come_back_and_fewer_chunks_lose_the_last_channels(seed: int, rows: int, columns: int) -> None:
    coder, sent = model(seed), numbers(seed, rows, columns)
    chunks = encode_numbers(sent, coder)
    np.testing.assert_array_equal(decode_numbers(chunks, rows, columns, coder), sent)
    cut = decode_numbers(chunks[:2], rows, columns, coder)
    np.testing.assert_array_equal(cut[..., :5], sent[..., :5])
    assert not cut[..., 5:].any()


@given(st.integers(0, 2**32 - 1), st.lists(st.binary(max_size=40), max_size=3))
def test_any_bytes_decode_to_numbers_in_range(seed: int, chunks: list[bytes]) -> None:
    got = decode_numbers(chunks, 3, 2, model(seed))
    assert got.shape == (3, 2, 8) and np.abs(got).max() <= LARGEST


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([(0,), (0, 3, 5), (0, 1, 2, 7), (0, 4)]),
    st.sampled_from([0.05, 1.0, 40.0]),
    st.integers(0, 4),
    st.lists(st.binary(max_size=60), max_size=4),
)
def test_decoding_is_that_of_the_plain_decoder(
    seed: int, rows: int, columns: int, starts: tuple[int, ...], size: float, kept: int, foreign: list[bytes]
) -> None:
    coder = dataclasses.replace(model(seed), chunks=np.array(starts, np.uint8))
    sent = np.clip(np.rint(numbers(seed, rows, columns) * size), -LARGEST, LARGEST).astype(np.int64)
    for chunks in (
        encode_numbers(sent, coder)[:kept],
        foreign,
        [c[: len(c) // 2] for c in encode_numbers(sent, coder)],
    ):
        expected = plainly_decoded(chunks, rows, columns, coder)
        np.testing.assert_array_equal(decode_numbers(chunks, rows, columns, coder), expected)


def test_quantizing_is_rounding_with_a_dead_zone() -> None:
    outputs = np.array([[-1000], [-31], [-29], [0], [29], [31], [1000]])
    got = quantize_numbers(outputs, multiplier(50.0, 1.0), np.array([102], np.uint8))  # up from 0.6 of a step on
    assert got.ravel().tolist() == [-20, -1, 0, 0, 0, 1, 20]


def test_a_file_comes_back_and_degrades(tmp_path: Path) -> None:
    coder, sent = model(1), numbers(2, 3, 4)
    header = Header(30, 23, 7, False, coder.digest())
    data = pack_picture(header, encode_numbers(sent, coder))
    whole = unpack_picture(data, coder, "a.ppc")
    assert whole.header == header and not whole.missing and (header.rows, header.columns) == (3, 4)
    np.testing.assert_array_equal(decode_numbers(whole.chunks, 3, 4, coder), sent)
    short = unpack_picture(data[:-1], coder, "a.ppc")
    assert short.missing == 1 and short.problem == "the file ends early" and short.chunks == whole.chunks[:2]
    altered = bytearray(data)
    altered[-1] ^= 1
    assert unpack_picture(bytes(altered), coder, "a.ppc").problem == "a chunk was altered"


@given(st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_what_is_no_picture_is_refused_or_cut(place: int, bit: int) -> None:
    coder = model(1)
    data = bytearray(pack_picture(Header(30, 23, 7, True, coder.digest()), encode_numbers(numbers(2, 3, 4), coder)))
    sound = unpack_picture(bytes(data), coder, "a.ppc")
    data[place % len(data)] ^= 1 << bit
    try:
        got = unpack_picture(bytes(data), coder, "a.ppc")
    except ArtifactError as error:
        assert "a.ppc" in str(error)
    else:
        assert got.missing and got.chunks == sound.chunks[: len(got.chunks)]


@pytest.mark.parametrize("size", [0, 3, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 2])
def test_too_little_of_a_file_is_refused(size: int) -> None:
    coder = model(1)
    data = pack_picture(Header(30, 23, 7, False, coder.digest()), encode_numbers(numbers(2, 3, 4), coder))
    with pytest.raises(ArtifactError, match=r"a\.ppc"):
        unpack_picture(data[:size], coder, "a.ppc")


def test_another_model_is_named(tmp_path: Path) -> None:
    coder, other = model(1), model(2)
    data = pack_picture(Header(30, 23, 7, False, coder.digest()), encode_numbers(numbers(2, 3, 4), coder))
    with pytest.raises(ArtifactError, match="another model") as caught:
        unpack_picture(data, other, "a.ppc")
    assert coder.digest().hex() in str(caught.value) and other.digest().hex() in str(caught.value)
    coder.write(tmp_path / "codec.npz")
    assert CoderModel.read(tmp_path / "codec.npz").digest() == coder.digest()
    (tmp_path / "codec.npz").write_bytes((tmp_path / "codec.npz").read_bytes()[:100])
    with pytest.raises(ArtifactError, match="no readable codec"):
        CoderModel.read(tmp_path / "codec.npz")


@given(st.lists(st.integers(-32767, 32767), min_size=1, max_size=40), st.floats(2.0, 200.0), st.integers(0, 128))
def test_reals_are_quantized_as_integers_are(code: list[int], step: float, offset: int) -> None:
    scale, offsets = 0.0625, np.full(len(code), offset, np.uint8)
    integers = np.array(code, np.int64)
    q = quantize_numbers(integers, multiplier(step, scale), offsets)
    reals = quantize_reals((integers * scale).astype(np.float32), step, offsets)
    edge = np.abs(integers) * scale / step + offset / 256
    sure = np.abs(edge - np.round(edge)) > 1e-4
    np.testing.assert_array_equal(q[sure], reals[sure])
