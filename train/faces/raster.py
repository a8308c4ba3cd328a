"""Triangles to pixels, pixels to light: the two loops that take the time, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from policyport.train.faces.skin import BOTTOM_DM, COLUMNS, LEFT_DM, ROWS, STEP_DM

SKIN, LEFT_EYE, RIGHT_EYE, TONGUE, TEETH, LASHES = range(6)  # as asset.PARTS
PUPIL, LIMBUS = 0.42, 0.88  # of the iris' radius


@njit(cache=True)
def vertex_normals(vertices: Any, triangles: Any) -> Any:
    """Unit normals [V, 3] of a mesh, each the mean of its triangles weighted by area."""
    normals = np.zeros_like(vertices)
    for t in range(len(triangles)):
        a, b, c = triangles[t]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            normals[corner, 0] += x
            normals[corner, 1] += y
            normals[corner, 2] += z
    for v in range(len(normals)):
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + np.float32(1e-9)
        for k in range(3):
            normals[v, k] /= length
    return normals


@njit(cache=True)
def cover(screen: Any, triangles: Any, part: Any, side: int) -> Any:
    """The nearest triangle at each pixel of a square image.

    :param screen: [V, 3] float32: column and row in pixels, distance from the camera
    :param side: pixels along a side
    :return: int32 [side, side], -1 where there is none, and float32 [side, side, 2], the weights of its corners 1 and 2
    """
    nearest = np.full((side, side), -1, np.int32)
    weights = np.zeros((side, side, 2), np.float32)
    depth = np.full((side, side), np.inf, np.float32)
    for t in range(len(triangles)):
        a, b, c = triangles[t]
        x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9 or (
            area > 0 and part[t] != LASHES
        ):  # rows grow downwards: what is seen turns the other way
            continue
        left = max(0, int(np.ceil(min(x0, x1, x2) - 0.5)))
        right = min(side - 1, int(np.floor(max(x0, x1, x2) - 0.5)))
        top = max(0, int(np.ceil(min(y0, y1, y2) - 0.5)))
        bottom = min(side - 1, int(np.floor(max(y0, y1, y2) - 0.5)))
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                px, py = column + 0.5 - x0, row + 0.5 - y0
                w1 = (px * (y2 - y0) - (x2 - x0) * py) / area
                w2 = ((x1 - x0) * py - px * (y1 - y0)) / area
                if w1 < 0 or w2 < 0 or w1 + w2 > 1:
                    continue
                z = screen[a, 2] + w1 * (screen[b, 2] - screen[a, 2]) + w2 * (screen[c, 2] - screen[a, 2])
                if z < depth[row, column]:
                    depth[row, column], nearest[row, column] = z, t
                    weights[row, column, 0], weights[row, column, 1] = w1, w2
    return nearest, weights


@njit(cache=True)
def _ramp(start: float, end: float, value: float) -> float:
    t = min(1.0, max(0.0, (value - start) / (end - start)))
    return t * t * (3 - 2 * t)


@njit(cache=True)
def _texel(x: float, y: float) -> Any:
    """Column and row below a point of the painted maps, and the shares of their neighbours."""
    u = min(max((x - LEFT_DM) / STEP_DM, 0.0), COLUMNS - 1.001)
    v = min(max((y - BOTTOM_DM) / STEP_DM, 0.0), ROWS - 1.001)
    column, row = int(u), int(v)
    return column, row, u - column, v - row


@njit(cache=True)
def _skin(albedo: Any, place: Any, masks: Any, look: Any) -> float:
    """Paint skin into `albedo` [3] at a place of the head at rest; the light that reaches it, 0 to 1."""
    column, row, right, up = _texel(place[0], place[1])
    fold = 0.0
    for dy in range(2):
        for dx in range(2):
            share = (right if dx else 1 - right) * (up if dy else 1 - up)
            fold += share * look.folds[row + dy, column + dx]
            for k in range(3):
                albedo[k] += share * look.albedo[row + dy, column + dx, k]
    lips, lids, inner = masks[0], masks[1], min(1.0, max(0.0, (masks[2] - 0.3) / 0.7))
    line = look.hairline - max(0.0, 0.75 - place[2]) * look.hair_back - look.hair_side * abs(place[0])
    hair = _ramp(-0.04, 0.06, place[1] - line) * look.hair_cover
    for k in range(3):
        albedo[k] *= 1 - 0.2 * lids
        albedo[k] += lips * (look.lips[k] - albedo[k])
        albedo[k] += inner * (look.mouth[k] - albedo[k])
        albedo[k] += hair * (look.hair[k] - albedo[k])
    return (1 - min(0.6, fold)) * (1 - 0.75 * inner)


@njit(cache=True)
def _eye(albedo: Any, place: Any, centre: Any, look: Any) -> None:
    """Paint an eyeball: white, iris with a dark rim, pupil."""
    x, y, z = place[0] - centre[0], place[1] - centre[1], place[2] - centre[2]
    off_axis = np.sqrt(x * x + y * y) / (np.sqrt(x * x + y * y + z * z) + 1e-9)
    for k in range(3):
        if z <= 0 or off_axis >= look.iris_size:
            albedo[k] = look.white[k]
        elif off_axis < PUPIL * look.iris_size:
            albedo[k] = 0.02
        else:
            albedo[k] = look.iris[k] * (0.5 if off_axis > LIMBUS * look.iris_size else 1.0)


@njit(cache=True)
def shade(nearest: Any, weights: Any, mesh: Any, normals: Any, look: Any, light: Any, image: Any) -> None:
    """Colour the pixels that a triangle covers, in linear light.

    :param nearest: and `weights`: what `cover` returned
    :param mesh: triangles, part, the head's vertices at rest [V, 3], masks [V, 3], eyes' centres [2, 3]
    :param normals: [V, 3] in the camera's axes
    :param image: float32 [side, side, 3], the background on entry
    """
    place, normal, masks, albedo = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    side = len(nearest)
    for row in range(side):
        for column in range(side):
            t = nearest[row, column]
            if t < 0:
                continue
            w1, w2 = weights[row, column]
            a, b, c = mesh.triangles[t]
            for k in range(3):
                place[k] = (1 - w1 - w2) * mesh.rest[a, k] + w1 * mesh.rest[b, k] + w2 * mesh.rest[c, k]
                normal[k] = (1 - w1 - w2) * normals[a, k] + w1 * normals[b, k] + w2 * normals[c, k]
                masks[k] = (1 - w1 - w2) * mesh.masks[a, k] + w1 * mesh.masks[b, k] + w2 * mesh.masks[c, k]
            part, gloss, reached = mesh.part[t], look.gloss, 1.0
            length = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2) + 1e-9
            if part == LASHES and normal[2] < 0:
                length = -length  # both sides of a lash are seen
            for k in range(3):
                normal[k] /= length
                albedo[k] = 0.0
            if part == SKIN:
                reached = _skin(albedo, place, masks, look)
                gloss *= 1 + 1.5 * masks[0]
            elif part in (LEFT_EYE, RIGHT_EYE):
                _eye(albedo, place, mesh.eyes[part - LEFT_EYE], look)
                gloss, reached = 0.5, 0.82
            elif part == TONGUE:
                albedo[:] = look.tongue
                reached = 0.6
            elif part == TEETH:
                albedo[:] = look.teeth
                gloss, reached = 0.2, 0.8
            else:
                for k in range(3):
                    albedo[k] = 0.4 * look.hair[k]
            facing = normal[0] * light.towards[0] + normal[1] * light.towards[1] + normal[2] * light.towards[2]
            direct = max(0.0, (facing + 0.25) / 1.25)  # skin lets light around its edges
            fill = 0.25 * max(0.0, 0.1 + 0.5 * normal[2] - 0.6 * normal[0] * light.towards[0])
            mirrored = max(0.0, 2 * normal[2] * facing - light.towards[2]) ** 12
            for k in range(3):
                diffuse = light.ambient * (0.8 + 0.2 * normal[1]) + light.colour[k] * (direct + fill)
                image[row, column, k] = reached * (albedo[k] * diffuse + gloss * mirrored * light.colour[k])
