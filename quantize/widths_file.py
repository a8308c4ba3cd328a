"""``widths.json`` and ``front.csv``: the widths that a budget allowed, and what other budgets would buy."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from policyport.quantize.allocate import Allocation
from policyport.quantize.widths import Chosen

UNITS = {"flash_bytes": "bytes of weights, biases and multipliers", "instructions": "instructions, estimated"}


def write_widths(chosen: Chosen, folder: Path) -> None:
    """Write both files."""
    front = [_point(chosen, point) for point in chosen.front]
    table = {
        "budget": {name: limit for name, limit in vars(chosen.budget).items() if limit is not None},
        "got": {**vars(chosen.cost), "ram_bytes": chosen.ram_bytes},
        "costs": chosen.costs,
        "weights": dict(chosen.allocation.weight_bits),
        "activations": activations(chosen),
        "predicted_sqnr_db": chosen.predicted_db(chosen.allocation),
        "sensitivity": [
            {"layer": layer, "weight_bits": bits, "added_noise": noise}
            for (layer, bits), noise in chosen.sensitivity.weights.items()
        ]
        + [
            {"activation": name, "bits": bits, "added_noise": noise}
            for name, widths in chosen.sensitivity.activations.items()
            for bits, noise in widths.items()
        ],
        "front": front,
    }
    (folder / "widths.json").write_text(json.dumps(table, indent=2) + "\n")
    with (folder / "front.csv").open("w", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(("flash_bytes", "instructions", "predicted_sqnr_db", "weights", "activations"))
        for point in front:
            widths = (
                " ".join(f"{name}={bits}" for name, bits in point[key].items()) for key in ("weights", "activations")
            )
            rows.writerow((point["flash_bytes"], point["instructions"], f"{point['predicted_sqnr_db']:.2f}", *widths))


def activations(chosen: Chosen) -> dict[str, int]:
    """Width of every tensor's activations."""
    return {name: chosen.allocation.activation_bits[group] for name, group in chosen.choices.groups.items()}


def _point(chosen: Chosen, point: Allocation) -> dict[str, Any]:
    return {
        **vars(point.cost),
        "predicted_sqnr_db": chosen.predicted_db(point),
        "weights": dict(point.weight_bits),
        "activations": dict(point.activation_bits),
    }
