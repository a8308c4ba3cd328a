"""Sets of rendered faces: seeded, cached, the same whatever the number of processes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import code_version, sha256_file
from policyport.core.cache import cache_folder
from policyport.core.progress import progress
from policyport.train.faces.asset import FILE
from policyport.train.faces.person import draw_person
from policyport.train.faces.scene import Conditions, render
from policyport.train.faces.units import UNITS, draw_expression

SHARD = 20  # persons of one cached file: what an interruption may lose


@dataclass(frozen=True)
class FaceSpec:
    """Which faces: persons `first_person` to `first_person + persons` of the world that `seed` makes."""

    persons: int
    images_per_person: int = 32
    side: int = 64
    seed: int = 0
    first_person: int = 0
    conditions: Conditions = dataclasses.field(default_factory=Conditions)


@dataclass(frozen=True)
class Faces:
    """n pictures and what is true of them."""

    images: NDArray[np.uint8]  # [n, side, side, 3]
    intensity: NDArray[np.float16]  # [n, len(UNITS)], 0 to 1
    present: NDArray[np.bool_]  # [n, len(UNITS)]
    person: NDArray[np.int32]  # [n]


def render_persons(spec: FaceSpec, persons: range) -> Faces:
    """The pictures of some persons of the set, each person's drawn from a generator of its own."""
    images, intensity, present = [], [], []
    for index in persons:
        generator = np.random.default_rng([spec.seed, index])
        person = draw_person(generator)
        for _ in range(spec.images_per_person):
            shown = draw_expression(generator)
            images.append(render(person, shown, generator, side=spec.side, conditions=spec.conditions))
            intensity.append(shown.intensity)
            present.append(shown.present)
    shape = (-1, spec.side, spec.side, 3)
    return Faces(
        np.array(images, np.uint8).reshape(shape),
        np.array(intensity, np.float16).reshape(-1, len(UNITS)),
        np.array(present, np.bool_).reshape(-1, len(UNITS)),
        np.repeat(np.array(persons, np.int32), spec.images_per_person),
    )


def faces(spec: FaceSpec, processes: int = 1, folder: Path | None = None) -> Faces:
    """The whole set, from the cache what is there, the rest rendered, shard by shard.

    :param processes: how many render at once; the pictures do not depend on it
    :param folder: where the cache is; by default ``faces`` in the user's
    """
    folder = (folder or cache_folder() / "faces") / _key(spec)
    folder.mkdir(parents=True, exist_ok=True)
    last = spec.first_person + spec.persons
    starts = [range(start, min(start + SHARD, last)) for start in range(spec.first_person, last, SHARD)]
    missing = [shard for shard in starts if not _file(folder, shard).is_file()]
    with progress("rendering faces", sum(map(len, missing))) as advance:
        done = 0
        for shard in _render_all(spec, missing, folder, processes):
            done += len(shard)
            advance(done)
    parts = [_read(_file(folder, shard)) for shard in starts]
    return Faces(*(np.concatenate(columns) for columns in zip(*map(_columns, parts), strict=True)))


def _columns(made: Faces) -> tuple[NDArray[Any], ...]:
    return made.images, made.intensity, made.present, made.person


def _key(spec: FaceSpec) -> str:
    """What decides a person's pictures: the settings without the range of persons, and this package's code."""
    table = dataclasses.asdict(spec) | {"persons": 0, "first_person": 0}
    words = json.dumps([table, code_version(Path(__file__).parent), sha256_file(FILE)], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _file(folder: Path, persons: range) -> Path:
    return folder / f"{persons.start}-{persons.stop}.npz"


def _render_all(spec: FaceSpec, missing: list[range], folder: Path, processes: int) -> Iterator[range]:
    """Render the shards that are missing, and yield each once its file is there."""
    if processes <= 1 or len(missing) <= 1:
        for shard in missing:
            yield _render_shard(spec, shard, folder)
        return
    context = multiprocessing.get_context("spawn")  # a forked child would share the threads' locks of its parent
    with ProcessPoolExecutor(min(processes, len(missing)), context) as pool:
        futures = [pool.submit(_render_shard, spec, shard, folder) for shard in missing]
        for future in as_completed(futures):
            yield future.result()


def _render_shard(spec: FaceSpec, persons: range, folder: Path) -> range:
    made = render_persons(spec, persons)
    file = _file(folder, persons)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as stream:
        np.savez(stream, images=made.images, intensity=made.intensity, present=made.present, person=made.person)
    partial.replace(file)
    return persons


def speed(spec: FaceSpec) -> float:
    """Pictures of a set that one core renders in a second of its own time, whatever else runs; nothing is kept."""
    render_persons(dataclasses.replace(spec, images_per_person=1), range(1))  # compiles
    start = time.process_time()
    made = render_persons(spec, range(spec.first_person, spec.first_person + spec.persons))
    return len(made.images) / (time.process_time() - start)


def main() -> None:
    """Say how fast pictures are rendered: `python -m policyport.train.faces.dataset`."""
    spec = FaceSpec(persons=20)
    print(f"{speed(spec):.0f} pictures of {spec.side} x {spec.side} a second of one core")


def _read(file: Path) -> Faces:
    with np.load(file) as stored:
        return Faces(*(stored[field.name] for field in dataclasses.fields(Faces)))


if __name__ == "__main__":
    main()
