"""What a power meter hands over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Recording:
    """Samples of a supply's power, in order."""

    times_s: NDArray[np.float64]
    """[n], on ``time.monotonic``'s clock, rising."""

    watts: NDArray[np.float64]
    """[n]"""
