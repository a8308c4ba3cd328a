"""Persons drawn at random: a shape, a skin, hair, eyes. One person makes many pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from policyport.train.faces import skin
from policyport.train.faces.asset import PEOPLES, Head, head

TONES = (0.2, 0.52, 0.62)  # mean lightness of the skin, in PEOPLES' order
HAIR = ((0.05, 0.04, 0.04), (0.16, 0.10, 0.07), (0.45, 0.34, 0.20), (0.50, 0.50, 0.50))
HAIR_SHARES = (0.5, 0.25, 0.13, 0.12)
FAIR = 2  # the index into HAIR that people without fair ancestors do not have
IRISES = ((0.16, 0.09, 0.05), (0.10, 0.06, 0.04), (0.25, 0.35, 0.45), (0.20, 0.28, 0.15))
IRIS_SHARES = (0.4, 0.35, 0.15, 0.1)
SPREAD = {"head": 0.4, "nose": 0.35, "chin": 0.4, "forehead": 0.45}  # standard deviation of a trait's weight, by region
OTHER_SPREAD = 0.35
LOOKS_LIKE_A_UNIT = ("eyebrows/", "eyes/eye-height", "mouth/mouth-upperlip-height", "mouth/mouth-lowerlip-height")


class Look(NamedTuple):
    """What light meets on a head: colours in linear light, maps as skin.py has them, lengths in decimetres."""

    albedo: NDArray[np.float32]  # [ROWS, COLUMNS, 3]
    folds: NDArray[np.float32]  # [ROWS, COLUMNS], the creases of one expression
    lips: NDArray[np.float32]
    mouth: NDArray[np.float32]
    hair: NDArray[np.float32]
    iris: NDArray[np.float32]
    white: NDArray[np.float32]
    tongue: NDArray[np.float32]
    teeth: NDArray[np.float32]
    hairline: float
    hair_back: float
    hair_side: float
    hair_cover: float
    iris_size: float
    gloss: float


@dataclass(frozen=True)
class Person:
    """Vertices [V, 3] of the person's neutral face, in decimetres, its look, and how deep expressions crease it."""

    vertices: NDArray[np.float32]
    look: Look
    age: float
    crease: float
    lashes: bool


def draw_person(generator: np.random.Generator) -> Person:
    """One person: ancestry, sex and age mixed, every trait of shape drawn, skin and hair painted."""
    ancestry = generator.dirichlet([0.5] * len(PEOPLES))
    male, age = generator.beta(0.6, 0.6), generator.beta(1.2, 1.6)
    vertices = _shape(head(), ancestry, male, age, generator)
    look = _look(ancestry, male, age, generator)
    return Person(
        vertices=vertices,
        look=look,
        age=age,
        crease=generator.uniform(0.1, 0.9) * (0.5 + 0.7 * age),
        lashes=bool(generator.random() < 0.6),
    )


def _shape(
    mesh: Head, ancestry: NDArray[np.float64], male: float, age: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    mixed = np.einsum("p,s,a->psa", ancestry, [1 - male, male], [1 - age, age]).astype(np.float32)
    vertices = mesh.vertices + np.tensordot(mixed, mesh.people, 3)
    for name, (less, more) in zip(mesh.axis_names, mesh.axes, strict=True):
        weight = np.clip(generator.normal(0, SPREAD.get(name.split("/")[0], OTHER_SPREAD)), -1, 1)
        if name.startswith(LOOKS_LIKE_A_UNIT):
            weight *= 0.5
        if not less.any() and generator.random() < 0.75:
            continue  # a shape without an opposite, as a square head, is a rare one
        vertices += abs(weight) * (more if weight > 0 else less)
    return vertices.astype(np.float32)


def _look(ancestry: NDArray[np.float64], male: float, age: float, generator: np.random.Generator) -> Look:
    def colour(values: Any, spread: float = 0.0) -> NDArray[np.float32]:
        return np.asarray(values * (1 + generator.normal(0, spread, 3)) if spread else values, np.float32)

    tone = np.clip(ancestry @ TONES + generator.normal(0, 0.06), 0.1, 0.8)
    flesh = colour(tone * np.array([1.05, 0.78, 0.62]) + [0.10, 0.06, 0.05], 0.03)
    lips = flesh * colour([0.95, 0.68, 0.68]) * generator.uniform(0.8, 1.05)
    if male < 0.5 and generator.random() < 0.3:
        lips = 0.5 * lips + 0.5 * colour([0.6, 0.15, 0.2]) * generator.uniform(0.6, 1.2)
    kind = generator.choice(len(HAIR), p=HAIR_SHARES)
    if kind == FAIR and ancestry[PEOPLES.index("caucasian")] < 0.4:
        kind = 0
    hair = colour(HAIR[kind]) * np.float32(generator.uniform(0.7, 1.3))
    brows = skin.Brows(
        inner=generator.uniform(0.08, 0.14),
        outer=generator.uniform(0.50, 0.60),
        height=generator.normal(7.47, 0.02),
        arch=generator.uniform(0.02, 0.09),
        slope=generator.uniform(0.0, 0.06),
        thickness=generator.uniform(0.025, 0.06),
        density=generator.uniform(0.35, 0.95),
    )
    bearded = male > 0.5 and generator.random() < 0.4
    beard = skin.beard_cover(generator.uniform(0.15, 0.85) if bearded else 0.0)
    uneven = skin.blotches(generator, generator.uniform(0.01, 0.06))
    return Look(
        albedo=skin.paint(flesh, hair, brows, beard, uneven),
        folds=np.zeros((skin.ROWS, skin.COLUMNS), np.float32),
        lips=lips.astype(np.float32),
        mouth=colour([0.25, 0.08, 0.08]),
        hair=hair,
        iris=colour(IRISES[generator.choice(len(IRISES), p=IRIS_SHARES)]),
        white=colour([0.78, 0.74, 0.72]),
        tongue=colour([0.5, 0.22, 0.22]),
        teeth=colour([0.78, 0.75, 0.66]),
        hairline=generator.uniform(7.95, 8.2),
        hair_back=generator.uniform(0.3, 0.9),
        hair_side=generator.uniform(0.0, 0.25),
        hair_cover=float(generator.random() > 0.06),
        iris_size=generator.uniform(0.40, 0.47),
        gloss=generator.uniform(0.02, 0.15),
    )
