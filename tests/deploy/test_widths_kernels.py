"""int8 as int16 and back, on emulated cores: any size, any address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

SIZES = (0, 1, 3, 4, 7, 8, 9, 15, 16, 23, 64, 71)


@pytest.mark.parametrize("core", ["m3", "m4", "m33"])
def test_every_element_and_no_other(kernels: Callable[..., Any], core: str) -> None:
    machine = kernels(core, "pp_widths.c")
    rng = np.random.default_rng(1)
    for size in SIZES:
        for offset in (0, 1) if size else (0,):
            values = rng.integers(-128, 128, size, np.int8)
            values[: 2 * (size > 1)] = (-128, 127)[: 2 * (size > 1)]
            padded = -(-size // 4) * 4
            source, wide = machine.put(bytes(offset) + values.tobytes()), machine.put(2 * padded)
            machine.call("pp_widen_s8", source + offset, wide, size, padded)
            got = np.frombuffer(machine.get(wide, 2 * padded), "<i2")
            np.testing.assert_array_equal(got, np.pad(values, (0, padded - size)))
            narrow = machine.put(size)
            machine.call("pp_narrow_s8", wide, narrow, size)
            assert machine.get(narrow, size) == values.tobytes()
            machine.clear()


def test_four_values_in_eleven_instructions(kernels: Callable[..., Any]) -> None:
    machine = kernels("m4", "pp_widths.c")
    source, wide = machine.put(bytes(256)), machine.put(512)
    machine.call("pp_widen_s8", source, wide, 256, 256)
    assert machine.instructions <= 64 * 11
    machine.call("pp_narrow_s8", wide, source, 256)
    assert machine.instructions <= 64 * 11
