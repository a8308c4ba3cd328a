"""Photographs by explicit lists: those to train on, those to test with, none in both.

Test photographs come with scikit-image and scikit-learn. To train on there are photographs in packages of Debian; where
none of them is installed, pictures are drawn (:mod:`policyport.train.codec.drawn`). NOTICE names licences and authors.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ToolError
from policyport.core.install import pip_install
from policyport.core.photographs import photograph_paths, read_photograph

log = logging.getLogger(__name__)

Picture = NDArray[np.uint8]
"""[rows, columns, 3]"""

TEST = {
    "skimage": ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png", "rocket.jpg"),
    "sklearn": ("china.jpg", "flower.jpg"),
}
"""Package to the photographs in it that are tested with, 640 to 300 pixels wide."""

FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}

TRAINING = {
    "lomiri-wallpapers-16.04": (
        "usr/share/backgrounds",
        """Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi
        free_by_Peter_Nerlich friends_by_Aitzol_Berasategi greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi
        picosdeeuropa_by_Aitzol_Berasategi seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi
        umang_by_Abhishek_Mudgal""",
    ),
    "palapeli-data": (
        "usr/share/palapeli/collection",
        "castle-maintenon cincinnati-bridge citrus-fruits european-honey-bee panther-chameleon-female",
    ),
    "mate-backgrounds": (
        "usr/share/backgrounds/mate/nature",
        "Blinds Dune Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood YellowFlower",
    ),
    "lxqt-themes": ("usr/share/lxqt/wallpapers", "after-the-rain fog"),
}
"""Debian package to the folder of its photographs and their names, less the suffix .jpg."""

LONG_SIDES = (1100, 550)
"""Pixels: each photograph is trained on at both sizes, small enough that nothing of JPEG is left in it."""


def test_photographs() -> dict[str, Picture]:
    """The held-out photographs by name, those of packages that are installed.

    :raises ToolError: none of the packages is
    """
    found = {path.stem: read_photograph(path) for path in test_paths()}
    if not found:
        raise ToolError(
            "no package of test photographs is installed",
            expected="scikit-image or scikit-learn",
            cure=pip_install("[codec]"),
        )
    return found


def test_paths() -> list[Path]:
    """The held-out photographs of packages that are installed."""
    found: list[Path] = []
    for package, names in TEST.items():
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            found += [Path(folder, FOLDERS[package], name) for name in names]
    return [path for path in found if path.is_file()]


def photographs_in(folder: Path, long_sides: tuple[int, ...] = (0,)) -> list[Picture]:
    """Every picture below a folder, at each of the sizes, in order of their paths.

    :raises ConfigError: there is none
    """
    return [read_photograph(path, side) for path in photograph_paths(folder) for side in long_sides]


def listed_paths(root: Path) -> list[Path]:
    """The listed photographs of the packages that are installed below ``root``."""
    paths = [root / folder / f"{name}.jpg" for folder, names in TRAINING.values() for name in names.split()]
    return [path for path in paths if path.is_file()]


def listed_photographs(root: Path) -> list[Picture]:
    """They, each at both sizes."""
    return [read_photograph(path, side) for path in listed_paths(root) for side in LONG_SIDES]


def training_paths(images: Path | None, root: Path) -> list[Path]:
    """The photographs that a codec is trained on; none where pictures are drawn.

    :raises ConfigError: the folder has none
    """
    return listed_paths(root) if images is None else photograph_paths(images)


def training_pictures(images: Path | None, root: Path, seed: int) -> list[Picture]:
    """What a codec is trained on: a folder's pictures, else the listed photographs, else drawn pictures."""
    from policyport.train.codec.drawn import drawn_pictures

    if images is not None:
        return photographs_in(images, LONG_SIDES)
    found = listed_photographs(root)
    if found:
        return found
    log.warning("no listed photographs below %s (apt-get install %s): drawn pictures instead", root, " ".join(TRAINING))
    return drawn_pictures(48, seed)
