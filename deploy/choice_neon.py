"""Which AArch64 kernel computes a layer with weights."""

from __future__ import annotations

from policyport.deploy.kernel_cost_neon import neon_instructions, neon_plain_instructions
from policyport.deploy.layers import Affine
from policyport.deploy.layout_neon import NeonKernel, neon_kernels
from policyport.deploy.layout_neon_ring import scratch_bytes
from policyport.deploy.variant import NeonVariant


def neon_choice(layer: Affine, variant: NeonVariant, optimize: str) -> NeonKernel | None:
    """The kernel for a layer, or None where the plain C kernel computes it in fewer instructions.

    :param optimize: ``speed`` takes the fewest instructions, ``size`` the smallest weights
    """
    found = neon_kernels(layer, variant)
    if not found:
        return None
    best = min(found, key=lambda kernel: neon_instructions(layer, kernel)) if optimize == "speed" else found[0]
    return best if neon_instructions(layer, best) < neon_plain_instructions(layer) else None


def neon_scratch_bytes(layer: Affine, variant: NeonVariant, optimize: str) -> int:
    """Scratch of the kernel that computes a layer."""
    kernel = neon_choice(layer, variant, optimize)
    return 0 if kernel is None else scratch_bytes(layer, kernel)
