"""The sets of kernels, each for a family of cores."""

from __future__ import annotations

from typing import Literal

Variant = Literal["c", "thumb", "dsp", "mve"]
VARIANTS: tuple[Variant, ...] = ("c", "thumb", "dsp", "mve")
