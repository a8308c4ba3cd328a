"""Facial action units: what each moves, which go together, and expressions drawn as people make them.

Numbers and names are those of the Facial Action Coding System (Ekman, Friesen, Hager 2002). Which blend shapes stand
for a unit is this project's choice, by their names in ARKit; no certified coder has judged the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NAMES = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    12: "lip corner puller",
    14: "dimpler",
    15: "lip corner depressor",
    17: "chin raiser",
    18: "lip pucker",
    20: "lip stretcher",
    23: "lip tightener",
    24: "lip pressor",
    25: "lips part",
    26: "jaw drop",
    28: "lip suck",
    43: "eyes closed",
}
UNITS = tuple(NAMES)
EMOTIONET = (1, 2, 4, 5, 6, 9, 12, 17, 20, 25, 26, 43)  # the units that the data sets label, in their papers' order
BP4D = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
DISFA = (1, 2, 4, 6, 9, 12, 25, 26)

# Blend shapes of a unit at full intensity; a name without a side moves both, a little unequally.
SHAPES: dict[int, dict[str, float]] = {
    1: {"browInnerUp": 1.0},
    2: {"browOuterUp": 1.0},
    4: {"browDown": 1.0},
    5: {"eyeWide": 1.0},
    6: {"cheekSquint": 1.0, "eyeSquint": 0.25},
    7: {"eyeSquint": 1.0},
    9: {"noseSneer": 1.0, "browDown": 0.15},
    10: {"mouthUpperUp": 1.0},
    12: {"mouthSmile": 0.9},
    14: {"mouthDimple": 1.0},
    15: {"mouthFrown": 1.0},
    17: {"mouthShrugLower": 1.0, "mouthShrugUpper": 0.3},
    18: {"mouthPucker": 1.0},
    20: {"mouthStretch": 1.0},
    23: {"mouthPress": 0.5, "mouthRollLower": 0.3, "mouthRollUpper": 0.2},
    24: {"mouthPress": 1.0, "mouthRollLower": 0.2},
    25: {"mouthLowerDown": 0.5, "mouthUpperUp": 0.3},
    26: {"jawOpen": 0.6},
    28: {"mouthRollLower": 1.0, "mouthRollUpper": 0.8},
    43: {"eyeBlink": 1.0},
}
# How often an expression is made, and how often each of its units takes part.
EXPRESSIONS: dict[str, tuple[float, dict[int, float]]] = {
    "neutral": (0.20, {}),
    "joy": (0.17, {12: 1.0, 6: 0.75, 25: 0.7, 26: 0.15}),
    "sadness": (0.08, {1: 0.9, 4: 0.6, 15: 0.8, 17: 0.4}),
    "surprise": (0.10, {1: 0.95, 2: 0.95, 5: 0.7, 25: 0.95, 26: 0.85}),
    "fear": (0.08, {1: 0.8, 2: 0.5, 4: 0.7, 5: 0.7, 20: 0.8, 25: 0.85, 26: 0.4}),
    "anger": (0.09, {4: 0.95, 5: 0.3, 7: 0.7, 23: 0.5, 24: 0.4, 17: 0.4}),
    "disgust": (0.08, {9: 0.9, 10: 0.6, 4: 0.5, 17: 0.4, 25: 0.3, 6: 0.3}),
    "pain": (0.05, {4: 0.8, 6: 0.6, 7: 0.5, 9: 0.5, 10: 0.4, 43: 0.7, 25: 0.4}),
    "eyes closed": (0.04, {43: 0.9}),
    "any": (0.11, {}),  # one to four units that nothing ties together
}
STRAY = 0.03  # how often a unit appears that the expression does not ask for
EXCLUSIVE = (
    (5, 43),
    (24, 25),
    (25, 28),
    (24, 26),
    (26, 28),
    (12, 15),
    (23, 25),
    (18, 20),
    (12, 18),
    (17, 26),
    (18, 28),
    (17, 28),
)
LEAST_SEEN, TRACE = 0.35, 0.12  # a unit is present from the first intensity on; what is absent may show a trace
CLOSED = 0.85  # eyes closed less than this are not called closed


@dataclass(frozen=True)
class Expression:
    """What a face does: intensity 0 to 1 and presence of each of UNITS, both of shape [len(UNITS)]."""

    intensity: NDArray[np.float32]
    present: NDArray[np.bool_]


def draw_expression(generator: np.random.Generator) -> Expression:
    """One expression: a prototype, the units of it that take part, strays, no two that exclude each other."""
    names = list(EXPRESSIONS)
    name = names[generator.choice(len(names), p=[EXPRESSIONS[other][0] for other in names])]
    if name == "any":
        chosen = {int(unit) for unit in generator.choice(UNITS, generator.integers(1, 5), replace=False)}
    else:
        shares = EXPRESSIONS[name][1]
        chosen = {unit for unit in UNITS if generator.random() < shares.get(unit, STRAY)}
    if 26 in chosen:
        chosen.add(25)  # a dropped jaw parts the lips
    for pair in EXCLUSIVE:
        if chosen.issuperset(pair):
            chosen.discard(pair[generator.integers(2)])
    if 25 not in chosen:
        chosen.discard(26)
    return expression(chosen, generator)


def expression(chosen: set[int], generator: np.random.Generator) -> Expression:
    """The expression that shows the units `chosen`, their intensities and the others' traces drawn."""
    present = np.array([unit in chosen for unit in UNITS])
    intensity = np.where(
        present,
        generator.uniform(LEAST_SEEN, 1, len(UNITS)),
        generator.uniform(0, TRACE, len(UNITS)) * (generator.random(len(UNITS)) < 0.3),
    )
    closed = UNITS.index(43)
    intensity[closed] = generator.uniform(CLOSED, 1) if present[closed] else generator.uniform(0, 0.2)
    intensity[UNITS.index(25)] *= present[UNITS.index(25)]  # parted by a trace would be parted
    return Expression(intensity.astype(np.float32), present)


def shape_weights(shown: Expression, names: tuple[str, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    """Weights of the blend shapes `names`, [len(names)]: the units shown, unequal sides, a gaze, sometimes a shift."""
    weights = np.zeros(len(names), np.float32)
    column = {name: index for index, name in enumerate(names)}
    for unit, intensity in zip(UNITS, shown.intensity, strict=True):
        lean = generator.normal(0, 0.08)
        for shape, gain in SHAPES[unit].items():
            if shape in column:
                weights[column[shape]] += intensity * gain
            else:
                weights[column[shape + "Left"]] += intensity * gain * (1 + lean)
                weights[column[shape + "Right"]] += intensity * gain * (1 - lean)
    across, up = generator.normal(0, 0.35, 2)
    for shape in ("eyeLookInLeft", "eyeLookOutRight") if across > 0 else ("eyeLookOutLeft", "eyeLookInRight"):
        weights[column[shape]] += abs(across)
    for side in ("Left", "Right"):
        weights[column[("eyeLookUp" if up > 0 else "eyeLookDown") + side]] += abs(up)
    for shape in ("jawLeft", "jawRight", "mouthLeft", "mouthRight", "jawForward"):
        if generator.random() < 0.08:
            weights[column[shape]] += generator.uniform(0, 0.5)
    return np.clip(weights, 0, 1.2)
