"""The sets of kernels, each for a family of cores."""

from __future__ import annotations

from typing import Literal

Variant = Literal["c", "thumb", "dsp", "mve", "neon", "neon_dot"]
VARIANTS: tuple[Variant, ...] = ("c", "thumb", "dsp", "mve", "neon", "neon_dot")

MICROCONTROLLER_VARIANTS: tuple[Variant, ...] = ("thumb", "dsp", "mve")

NeonVariant = Literal["neon", "neon_dot"]

AARCH64_VARIANTS: dict[str, NeonVariant] = {
    "cortex-a35": "neon",
    "cortex-a53": "neon",
    "cortex-a55": "neon_dot",
    "cortex-a57": "neon",
    "cortex-a72": "neon",
    "cortex-a73": "neon",
    "cortex-a75": "neon_dot",
    "cortex-a76": "neon_dot",
    "cortex-a78": "neon_dot",
}
"""The fastest kernels of the AArch64 cores: those from Armv8.2 on that have SDOT, and those that do not."""
