"""One picture of a person: an expression, a pose, a light, a camera, cropped as an aligned photograph is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from policyport.train.faces.alignment import LANDMARKS, similarity
from policyport.train.faces.asset import head
from policyport.train.faces.person import Person
from policyport.train.faces.skin import CREASES, FOLDED_BY, creases
from policyport.train.faces.units import UNITS, Expression, shape_weights

SUPERSAMPLING = 2


class Mesh(NamedTuple):
    """What the compiled loops need of the head."""

    triangles: NDArray[np.int32]
    part: NDArray[np.int8]
    rest: NDArray[np.float32]
    masks: NDArray[np.float32]
    eyes: NDArray[np.float32]


class Light(NamedTuple):
    """A lamp and the light all around: a direction towards the lamp in the camera's axes, colours in linear light."""

    towards: NDArray[np.float32]
    colour: NDArray[np.float32]
    ambient: float


@dataclass(frozen=True)
class Pose:
    """Angles of the head in radians: yaw to its left, pitch down, roll; and the camera's distance in decimetres."""

    yaw: float
    pitch: float
    roll: float
    distance_dm: float


@dataclass(frozen=True)
class Conditions:
    """How much pictures differ: standard deviations of the head's angles, and how far photographs degrade, 0 to 1."""

    yaw: float = 0.22
    pitch: float = 0.14
    roll: float = 0.08
    degradation: float = 1.0


@cache
def mesh() -> Mesh:
    """The head as the compiled loops take it."""
    whole = head()
    eyes = np.stack([whole.vertices[whole.eye(side)].mean(axis=0) for side in (0, 1)])
    return Mesh(whole.triangles, whole.part, whole.vertices, np.ascontiguousarray(whole.masks), eyes)


@cache
def _landmark_vertices() -> tuple[NDArray[np.int32], ...]:
    whole = head()
    return whole.eye(0), whole.eye(1), np.flatnonzero(whole.masks[:, 0] > 0.5).astype(np.int32)


def draw_pose(conditions: Conditions, generator: np.random.Generator) -> Pose:
    """A pose and a distance."""
    yaw, pitch, roll = generator.normal(0, 1, 3) * (conditions.yaw, conditions.pitch, conditions.roll)
    return Pose(yaw, pitch, roll, generator.uniform(9, 20))


def draw_light(generator: np.random.Generator) -> Light:
    """A lamp before the face, mostly above it."""
    azimuth, elevation = generator.normal(0, 0.8), generator.normal(0.35, 0.35)
    flat = np.cos(elevation)
    towards = np.array([np.sin(azimuth) * flat, np.sin(elevation), np.cos(azimuth) * flat], np.float32)
    colour = generator.uniform(0.5, 1.1) * (1 + generator.normal(0, 0.05, 3))
    return Light(towards, colour.astype(np.float32), generator.uniform(0.15, 0.5))


def rotation(pose: Pose) -> NDArray[np.float64]:
    """The matrix that turns the head: yaw first, then pitch, then roll."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([pose.yaw, pose.pitch, pose.roll]), np.sin([pose.yaw, pose.pitch, pose.roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y, np.float64)


def render(
    person: Person,
    shown: Expression,
    generator: np.random.Generator,
    *,
    side: int = 64,
    conditions: Conditions = Conditions(),
    pose: Pose | None = None,
) -> NDArray[np.uint8]:
    """A photograph of `person` who shows an expression, aligned by eyes and mouth as well as a face aligner does it.

    :param side: pixels along a side
    :return: [side, side, 3] RGB
    """
    from policyport.train.faces import raster

    weights = shape_weights(shown, head().expression_names, generator)
    pose = pose or draw_pose(conditions, generator)
    light = draw_light(generator)
    moving = np.flatnonzero(weights)
    vertices = person.vertices + np.tensordot(weights[moving], head().expressions[moving], 1)
    turned, screen = _project(person, vertices, pose, side * SUPERSAMPLING, generator)
    drawn = len(mesh().triangles) if person.lashes else int(np.argmax(mesh().part == raster.LASHES))
    nearest, corners = raster.cover(screen, mesh().triangles[:drawn], mesh().part, side * SUPERSAMPLING)
    image = _background(side * SUPERSAMPLING, generator)
    look = person.look._replace(folds=_folds(person, shown))
    raster.shade(nearest, corners, mesh(), raster.vertex_normals(turned, mesh().triangles), look, light, image)
    return _photograph(image, conditions.degradation, generator)


def _project(
    person: Person, vertices: NDArray[np.float32], pose: Pose, side: int, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vertices in the camera's axes, and on its picture: column, row, distance."""
    turn = rotation(pose)
    rest = np.stack([person.vertices[chosen].mean(axis=0) for chosen in _landmark_vertices()])
    centre = rest.mean(axis=0) - [0, 0, 0.7]
    turned = ((vertices - centre) @ turn.T).astype(np.float32)
    landmarks = (rest - centre) @ turn.T

    def seen(points: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        return points[:, :2] * (1, -1) * pose.distance_dm / (pose.distance_dm - points[:, 2:])

    targets = LANDMARKS + generator.normal(0, 0.012, LANDMARKS.shape)  # an aligner is not exact
    to_crop = similarity(seen(landmarks), side * targets)
    to_crop[:, 2] += generator.normal(0, 0.015, 2) * side
    screen = np.empty_like(turned)
    screen[:, :2] = seen(turned) @ to_crop[:, :2].T + to_crop[:, 2]
    screen[:, 2] = pose.distance_dm - turned[:, 2]
    return turned, screen


def _folds(person: Person, shown: Expression) -> NDArray[np.float32]:
    intensity = dict(zip(UNITS, shown.intensity, strict=True))
    depth = [max(gain * intensity[unit] for unit, gain in FOLDED_BY[name].items()) for name in CREASES]
    depth[CREASES.index("nasolabial")] += 0.3 * person.age
    return np.tensordot(np.array(depth, np.float32) * np.float32(person.crease), creases(), 1)


def _background(side: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Two colours in soft patches, [side, side, 3]."""
    from scipy.ndimage import zoom

    patches = zoom(generator.random((4, 4), np.float32), side / 4 / SUPERSAMPLING, order=1)[..., None]
    colours = (generator.uniform(0.02, 0.9, (2, 1)) + generator.normal(0, 0.08, (2, 3))).astype(np.float32)
    mixed = patches * colours[0] + (1 - patches) * colours[1]
    return mixed.repeat(SUPERSAMPLING, axis=0).repeat(SUPERSAMPLING, axis=1)


def _photograph(image: NDArray[np.float32], degradation: float, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Linear light at twice the size to bytes: tone curve, contrast, loss of sharpness, noise."""
    from PIL import Image

    side = len(image) // SUPERSAMPLING
    parts = [
        image[row::SUPERSAMPLING, column::SUPERSAMPLING]
        for row in range(SUPERSAMPLING)
        for column in range(SUPERSAMPLING)
    ]
    pixels = np.clip(sum(parts[1:], parts[0]) / len(parts), 0, 1) ** np.float32(1 / generator.uniform(1.7, 2.3))
    contrast = np.float32(1 + degradation * generator.uniform(-0.2, 0.15))
    pixels = (pixels - 0.5) * contrast + np.float32(0.5 + degradation * generator.normal(0, 0.04))
    noise = np.float32(degradation * generator.uniform(0.003, 0.03))
    if generator.random() < 0.3 * degradation:
        small = int(side * generator.uniform(0.5, 0.9))
        picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
        picture = picture.resize((small, small), Image.Resampling.BILINEAR).resize(
            (side, side), Image.Resampling.BILINEAR
        )
        pixels = np.asarray(picture, np.float32) / 255
    pixels = pixels + noise * generator.standard_normal(pixels.shape, np.float32)
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
