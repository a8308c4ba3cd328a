"""Layers that are rounded, kept in a folder, so that an interrupted quantization goes on with those that it lacks."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from policyport.quantize.kept_arrays import read_arrays, write_arrays
from policyport.quantize.layer_data import LayerData, RoundedLayer, Rounding
from policyport.quantize.rounding.branch_and_bound import Proof
from policyport.quantize.rounding.methods import Prover

LAYER = tuple(field.name for field in fields(RoundedLayer))
PROOF = tuple(field.name for field in fields(Proof))


def kept(rounding: Rounding, folder: Path, method: str, prover: Prover | None = None) -> Rounding:
    """The rounding, asked only for layers that the folder does not hold; each is written whole as it is found.

    :param method: everything that decides its result besides the layer: method, settings, code
    :param prover: the rounding's own, whose proofs are kept too
    """

    def rounded(data: LayerData) -> RoundedLayer:
        key = _key(data, method)
        path = folder / f"{key}.npz"
        arrays = read_arrays(path)
        if arrays is None:
            found = rounding(data)
            arrays = {name: getattr(found, name) for name in LAYER}
            if prover is not None and data.node.name in prover.proofs:
                arrays |= {f"proof/{name}": getattr(prover.proofs[data.node.name], name) for name in PROOF}
            write_arrays(path, arrays)
        proof = {name: arrays[f"proof/{name}"] for name in PROOF if f"proof/{name}" in arrays}
        if prover is not None and proof:
            prover.proofs[data.node.name] = Proof(**proof)
        return RoundedLayer(**{name: arrays[name] for name in LAYER})

    return rounded


def _key(data: LayerData, method: str) -> str:
    """What a rounded layer is known by: the layer, its inputs and the method."""
    node = replace(data.node, weights=np.zeros(0), bias=np.zeros(0))
    given = (method, node, data.source, data.before, data.weight_bits, data.per_channel)
    digest = hashlib.sha256(repr(given).encode())
    for array in (data.node.weights, data.node.bias, data.float_input, data.q_input):
        digest.update(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
