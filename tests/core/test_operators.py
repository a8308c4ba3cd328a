"""core/operators.py against torch in float64, where every integer is exact, and against its own definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core import operators
from policyport.core.errors import UnsupportedModelError
from policyport.core.operators import Window
from policyport.core.semantics import Integers, requantization

torch = pytest.importorskip("torch")


def _int8(rng: np.random.Generator, *shape: int) -> Integers:
    return rng.integers(-128, 128, shape)


def _nchw(image: Integers) -> object:
    return torch.from_numpy(np.moveaxis(image, -1, 1).astype(np.float64).copy())


def _nhwc(tensor: object) -> Integers:
    return np.moveaxis(tensor.numpy(), 1, -1).astype(np.int64)  # type: ignore[attr-defined]


windows = st.builds(
    Window,
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
)


@settings(deadline=None, max_examples=60)
@given(window=windows, groups=st.sampled_from([1, 2, 4]), zero_point=st.integers(-128, 127), seed=st.integers(0, 2**32))
def test_convolution_is_the_one_of_torch(window: Window, groups: int, zero_point: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, weights = _int8(rng, 2, 9, 10, 4), _int8(rng, 8, *window.kernel, 4 // groups)
    bias = rng.integers(-1000, 1000, 8)
    folded = bias - zero_point * operators.weight_sums(weights)
    got = operators.convolve(q, weights, folded, window, groups, zero_point)
    top, left, bottom, right = window.pads
    real = torch.nn.functional.pad(_nchw(q - zero_point), (left, right, top, bottom))
    exact = torch.nn.functional.conv2d(
        real, _nchw(weights), torch.from_numpy(bias.astype(np.float64)), window.stride, 0, window.dilation, groups
    )
    assert np.array_equal(got, _nhwc(exact))
    assert got.shape[1:3] == window.output_size(9, 10)


@settings(deadline=None, max_examples=60)
@given(window=windows, groups=st.sampled_from([1, 2]), zero_point=st.integers(-128, 127), seed=st.integers(0, 2**32))
def test_transposed_convolution_is_the_one_of_torch(window: Window, groups: int, zero_point: int, seed: int) -> None:
    rows, columns = window.extent
    pad = (min(window.pads[0], rows - 1), min(window.pads[1], columns - 1))
    window = Window(window.kernel, window.stride, window.dilation, (*pad, *pad))
    extra = tuple(max(s, d) - 1 for s, d in zip(window.stride, window.dilation, strict=True))
    rng = np.random.default_rng(seed)
    q, weights = _int8(rng, 2, 5, 4, 4), _int8(rng, 6, *window.kernel, 4 // groups)
    folded = -zero_point * operators.weight_sums(weights)
    got = operators.convolve_transposed(q, weights, folded, window, extra, groups, zero_point)
    # torch keeps [inputs, outputs / groups, ...]
    grouped = weights.reshape(groups, 6 // groups, *window.kernel, 4 // groups)
    theirs = torch.from_numpy(grouped.transpose(0, 4, 1, 2, 3).reshape(4, 6 // groups, *window.kernel).astype(float))
    exact = torch.nn.functional.conv_transpose2d(
        _nchw(q - zero_point), theirs, None, window.stride, pad, extra, groups, window.dilation
    )
    assert np.array_equal(got, _nhwc(exact))


def test_transposed_convolution_refuses_pads_beyond_its_kernel() -> None:
    window = Window((2, 2), (2, 2), pads=(3, 0, 0, 0))
    with pytest.raises(UnsupportedModelError, match="kernel reaches"):
        operators.convolve_transposed(
            np.zeros((1, 4, 4, 1), int), np.ones((1, 2, 2, 1), int), np.zeros(1), window, (0, 0), 1, 0
        )


@settings(deadline=None)
@given(window=windows, seed=st.integers(0, 2**32))
def test_max_pool_never_takes_padding(window: Window, seed: int) -> None:
    window = Window(
        window.kernel,
        window.stride,
        (1, 1),
        tuple(min(p, 0 if k == 1 else 1) for p, k in zip(window.pads, window.kernel * 2, strict=True)),
    )  # type: ignore[arg-type]
    q = _int8(np.random.default_rng(seed), 1, 6, 7, 3)
    got = operators.max_pool(q, window)
    assert set(np.unique(got)) <= set(np.unique(q))
    assert got.max() <= q.max()


@settings(deadline=None)
@given(window=windows, count_padding=st.booleans(), zero_point=st.integers(-128, 127), seed=st.integers(0, 2**32))
def test_average_pool_errs_by_half_a_step(window: Window, count_padding: bool, zero_point: int, seed: int) -> None:
    pads = tuple(min(p, k - 1) for p, k in zip(window.pads, window.kernel * 2, strict=True))
    window = Window(window.kernel, window.stride, (1, 1), pads)  # type: ignore[arg-type]
    q = _int8(np.random.default_rng(seed), 2, 6, 7, 3)
    scale = 0.25
    by = operators.average_requantization(scale, scale, window, -128 - zero_point, 127 - zero_point)
    got = operators.average_pool(q, window, by, zero_point, zero_point, -128, 127, count_padding)
    seen = operators.patches(q - zero_point, window, 0).sum(axis=(3, 4))
    count = operators.patches(np.ones((1, 6, 7, 1), int), window, int(count_padding)).sum(axis=(3, 4))
    assert np.all(np.abs(got - zero_point - seen / count) <= 0.5 + 1e-6)


@given(
    ratios=st.lists(st.floats(-100, 100).filter(lambda r: abs(r) > 1e-6), min_size=1, max_size=2),
    zero_points=st.tuples(st.integers(-128, 127), st.integers(-128, 127), st.integers(-128, 127)),
    q=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
)
def test_weighted_sum_errs_by_its_rounding_alone(
    ratios: list[float], zero_points: tuple[int, int, int], q: tuple[int, int]
) -> None:
    n = len(ratios)
    by = operators.weighted_sum(ratios, zero_points[:n], [(-128, 127)] * n, zero_points[2])
    got = operators.add([np.array([v]) for v in q[:n]], by, -(2**31), 2**31 - 1)
    exact = sum(r * (v - z) for r, v, z in zip(ratios, q, zero_points, strict=False)) + zero_points[2]
    # A multiplier is off by half of 2**-shift, on each of at most 255 steps.
    assert abs(int(got[0]) - exact) <= 0.5 + n * 255 * 0.5 / 2**by.shift + 1e-9


@given(q=st.integers(-128, 127), zero_point=st.integers(-128, 127))
def test_equal_scales_change_nothing(q: int, zero_point: int) -> None:
    by = operators.weighted_sum([1.0], [zero_point], [(-128, 127)], zero_point)
    assert operators.add([np.array([q])], by, -128, 127)[0] == q


def test_weighted_sum_proves_that_16_bits_fit() -> None:
    by = operators.weighted_sum([0.7, 0.6], [0, 0], [(-32768, 32767)] * 2, 0)
    assert sum(abs(m) * 32768 for m in by.multipliers) + abs(by.constant) <= 2**31 - 1
    with pytest.raises(UnsupportedModelError, match="too far above"):
        operators.weighted_sum([1e6], [0], [(-128, 127)], 0)


@given(a=st.integers(-128, 127), b=st.integers(-128, 127), za=st.integers(-128, 127), zb=st.integers(-128, 127))
def test_product_errs_by_half_a_step(a: int, b: int, za: int, zb: int) -> None:
    ratio = 0.0173
    by = requantization(np.array([ratio]), 255 * 255)
    got = operators.multiply(np.array([a]), np.array([b]), za, zb, by, 3, -(2**15), 2**15 - 1)
    assert abs(int(got[0]) - 3 - ratio * (a - za) * (b - zb)) <= 0.5 + 1e-4


def test_nearest_resize_takes_the_upper_left_pixel() -> None:
    image = np.arange(6).reshape(1, 2, 3, 1)
    assert np.array_equal(
        operators.resize_nearest(image, 4, 6)[0, :, :, 0], np.repeat(np.repeat(image[0, :, :, 0], 2, 0), 2, 1)
    )


@given(q=st.lists(st.integers(-128, 127), min_size=1, max_size=40), scale=st.floats(1e-3, 1.0))
def test_softmax_errs_by_a_step(q: list[int], scale: float) -> None:
    table = operators.softmax_table(scale)
    got = (operators.softmax(np.array([q]), table)[0] + 128) * operators.SOFTMAX_SCALE
    e = np.exp(float(np.float32(scale)) * (np.array(q) - max(q)))
    assert np.all(np.abs(got - e / e.sum()) <= 1 / 256)
