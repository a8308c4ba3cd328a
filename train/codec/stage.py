"""The training of an image codec, as the train stage: the artifact that later stages take."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import (
    Artifact,
    code_version,
    open_artifact,
    partial_folder,
    sha256_json,
    stage_key,
    write_artifact,
)
from policyport.core.errors import ToolError
from policyport.core.install import pip_install
from policyport.core.options import to_table
from policyport.core.task import Environment, Task
from policyport.core.trained_on import fingerprints, refuse_trained_on, write_record
from policyport.train.codec.config import CodecConfig

if TYPE_CHECKING:
    from policyport.train.codec.learner import Trained

_ROOT = Path(__file__).resolve().parents[1]
CODE = (_ROOT / "codec", _ROOT / "onnx_writer.py", _ROOT.parent / "core")
"""Source that the stage's key depends on."""

TEST_SIZE = (240, 320)
"""Rows and columns of the held-out pictures that a board encodes: the middle of each test photograph."""

FITTED_SIDE = 320
"""Pixels along a side of the corner of each training picture that contexts and tables are fitted to."""


def train_codec(config: CodecConfig, out: Path) -> Artifact:
    """Train encoder and decoder on photographs, and fit the coder's tables to what the encoder makes of them.

    Writes ``policy.onnx`` (the encoder of a block), ``decoder.onnx``, ``codec.npz``, ``task.json``,
    ``observations.npz`` (blocks), ``pictures.npz`` (held-out photographs), ``photographs.json`` (those trained on) and
    ``curve.csv``; ``integers.npz`` too, where weights were trained as integers. Interrupted, it leaves
    ``<out>.partial`` and goes on from there.

    :raises ConfigError: ``images`` holds no pictures, or a held-out one
    :raises ToolError: torch, scipy, or a package of test photographs is not installed
    """
    _require()
    import torch
    from policyport.train.codec.learner import learn
    from policyport.train.codec.photographs import test_paths, test_photographs, training_paths, training_pictures

    code, inputs = code_version(*CODE), data_inputs(config)
    partial = partial_folder(out, stage_key("train", inputs, to_table(config), code))
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        tested, held_out = test_photographs(), test_paths()
        trained_on = fingerprints(training_paths(config.images, config.packages_root))
        refuse_trained_on(zip(held_out, fingerprints(held_out), strict=True), trained_on)
        pictures = training_pictures(config.images, config.packages_root, config.seed)
        trained = learn(config, pictures, partial / "checkpoint.pt")
        with write_artifact(out, "train", inputs=inputs, config=to_table(config), code=code) as writer:
            writer.figures.update(_export(config, trained, pictures, tested, writer.path))
            write_record(trained_on, writer.path)
    finally:
        torch.set_num_threads(threads)
    shutil.rmtree(partial.parent, ignore_errors=True)
    return open_artifact(out, "train")


def data_inputs(config: CodecConfig) -> dict[str, str]:
    """Hashes of what is trained on: path, size and time of every file; of quantization's source, where integers are."""
    from policyport.train.codec.photographs import listed_paths

    if config.images is not None:
        paths = [path for path in sorted(config.images.rglob("*")) if path.is_file()]
    else:
        paths = listed_paths(config.packages_root)
    images = sha256_json([f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths])
    return {"images": images} | ({"quantize": code_version(_ROOT.parent / "quantize")} if config.weight_bits else {})


def _require() -> None:
    try:
        import PIL  # noqa: F401 -- only to see that it is there
        import scipy  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise ToolError(
            "a package that trains image codecs is not installed", got=error, cure=pip_install("[codec]")
        ) from error


def _export(
    config: CodecConfig,
    trained: Trained,
    pictures: Sequence[NDArray[np.uint8]],
    tested: dict[str, NDArray[np.uint8]],
    folder: Path,
) -> dict[str, Any]:
    from policyport.quantize.trained import INTEGERS, write_trained
    from policyport.train.codec.export import write_decoder, write_encoder
    from policyport.train.codec.integers import trained_network
    from policyport.train.codec.networks import ROUNDING
    from policyport.train.codec.tables import fit_coder
    from policyport.train.codec.transform import sampled_blocks

    encoder = trained.codec.encoder
    parameters = write_encoder(encoder, folder / "policy.onnx")
    write_decoder(trained.codec.decoder, folder / "decoder.onnx")
    corners = [picture[:FITTED_SIDE, :FITTED_SIDE] for picture in pictures]
    coder = fit_coder([_code(encoder, corner) for corner in corners], config.lowest_step, ROUNDING)
    coder.write(folder / "codec.npz")
    _task(config).write(folder / "task.json")
    seen = sampled_blocks(pictures, config.calibration_blocks, config.seed)
    ends = np.array([[0], [255]], np.uint8).repeat(seen.shape[1], axis=1)
    held_out = sampled_blocks(list(tested.values()), config.held_out_blocks, config.seed)
    np.savez_compressed(
        folder / "observations.npz",
        observations=np.concatenate([ends, seen]).astype(np.float32),
        held_out=held_out.astype(np.float32),
    )
    middles: dict[str, Any] = {name: _middle(picture) for name, picture in tested.items()}
    np.savez_compressed(folder / "pictures.npz", **middles)
    with (folder / "curve.csv").open("w", newline="") as stream:
        rows = csv.DictWriter(stream, list(trained.curve[0]))
        rows.writeheader()
        rows.writerows(trained.curve)
    if config.weight_bits:
        write_trained(trained_network(encoder, folder, config.weight_bits), folder / INTEGERS)
    best = min(trained.curve, key=lambda row: row["loss"])
    return {
        "parameters": parameters,
        "macs_per_pixel": encoder.macs_per_pixel,
        "training_pictures": len(pictures),
        "coder_bytes": coder.table_bytes,
        **{f"validation_{name}": value for name, value in best.items() if name != "steps"},
    }


def _code(encoder: Any, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the encoder makes of a picture's whole blocks, [block rows, block columns, channels]."""
    import torch
    from policyport.core.codec_model import BLOCK, PIXEL_CENTRE, PIXEL_SPAN

    rows, columns = (size // BLOCK * BLOCK for size in picture.shape[:2])
    planes = torch.from_numpy(np.ascontiguousarray(picture[:rows, :columns])).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        code = encoder((planes - PIXEL_CENTRE) / PIXEL_SPAN)
    return np.asarray(code[0].permute(1, 2, 0).numpy(), np.float64)


def _middle(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    y, x = ((have - want) // 2 for have, want in zip(picture.shape[:2], TEST_SIZE, strict=False))
    rows, columns = TEST_SIZE
    return picture[y : y + rows, x : x + columns]


def _task(config: CodecConfig) -> Task:
    """Outputs are real values; their range is that of an orthonormal transform of 192 pixels about their centre."""
    from importlib.metadata import version

    from policyport.core.codec_model import BLOCK_VALUES, PIXEL_CENTRE

    reach = PIXEL_CENTRE * BLOCK_VALUES**0.5
    return Task(
        kind="codec",
        name=f"codec-{config.encoder}-{config.channels}",
        environment=Environment("", {}, {name: version(name) for name in ("torch", "numpy", "onnx")}),
        observation_size=BLOCK_VALUES,
        observation_low=(0.0,) * BLOCK_VALUES,
        observation_high=(255.0,) * BLOCK_VALUES,
        output_size=config.channels,
        action_rule="clip",
        action_low=(-reach,) * config.channels,
        action_high=(reach,) * config.channels,
        action_shape=(config.channels,),
        algorithm="codec",
    )
