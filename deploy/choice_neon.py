"""Which AArch64 kernel computes a layer with weights."""

from __future__ import annotations

from policyport.deploy.layers import Affine
from policyport.deploy.layout_neon import NeonLayout, neon_layout, scratch_bytes
from policyport.deploy.variant import NeonVariant


def neon_choice(layer: Affine, variant: NeonVariant) -> NeonLayout | None:
    """The layout of the kernels' rows, or None where the plain C kernel computes a layer."""
    return neon_layout(layer, variant)


def neon_scratch_bytes(layer: Affine, variant: NeonVariant) -> int:
    """Scratch of the kernel that computes a layer."""
    layout = neon_choice(layer, variant)
    return 0 if layout is None else scratch_bytes(layer, variant, layout)
