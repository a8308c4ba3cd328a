"""MLPerf Tiny's float models quantized here, beside the int8 files that MLPerf ships:

    python -m policyport.pipeline.tiny_models FOLDER --out runs/tiny-models [--page docs/rounding.md]

FOLDER holds the reference models (mlcommons/tiny, Apache-2.0), float32 and int8. Their data sets are in no package, so
inputs are others that everybody has: crops of the two photographs that scikit-learn ships, one for calibration and one
for the comparison; for anomaly detection log-mel frames of a synthetic machine. Noise is that of the outputs against
the float32 file on the same inputs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ConfigError

Floats = NDArray[np.float32]

CALIBRATION, HELD_OUT = 256, 160
"""Inputs of each kind."""

RESULTS, TABLE = "tiny.json", "tiny.md"


@dataclass(frozen=True)
class Pair:
    """A reference model."""

    label: str
    float_file: str
    int8_file: str
    inputs: Callable[[], tuple[Floats, Floats]]
    """Flat inputs for calibration and for the comparison."""

    classes: bool = True
    """Whether the largest output is the answer."""


@dataclass(frozen=True)
class TinyRow:
    """Noise of one model's outputs, in dB of signal to noise; and how often the largest output is the float one's."""

    label: str
    inputs: int
    shipped_db: float
    ours_db: float
    shipped_agreement: float | None
    """None where the largest output is not the answer."""

    ours_agreement: float | None


def photographs(side: int, scale: float) -> tuple[Floats, Floats]:
    """Square crops of ``side`` pixels at several sizes, of one photograph and of the other, [n, side * side * 3].

    :param scale: what a pixel of 0 to 255 is divided by
    """
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    parts = []
    for picture, count in zip(load_sample_images().images, (CALIBRATION, HELD_OUT), strict=True):
        crops = [_crop(picture, side, generator) for _ in range(count)]
        parts.append((np.stack(crops) / scale).astype(np.float32).reshape(count, -1))
    return parts[0], parts[1]


def _crop(picture: NDArray[np.uint8], side: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """A random square, each pixel the mean of a block; the whole numbers that a camera would give."""
    block = int(generator.integers(1, min(picture.shape[:2]) // side + 1))
    top, left = (int(generator.integers(0, length - block * side + 1)) for length in picture.shape[:2])
    square = picture[top : top + block * side, left : left + block * side].astype(np.float64)
    means = square.reshape(side, block, side, block, 3).mean(axis=(1, 3))
    return np.rint(means[:, :: 1 if generator.random() < 0.5 else -1])


def machine_sounds() -> tuple[Floats, Floats]:
    """Five frames of 128 log-mel values of a humming fan, [n, 640]; each sound has a speed and noise of its own."""
    generator = np.random.default_rng(0)
    frames = np.concatenate([_log_mel(_hum(generator)) for _ in range(16)])
    chosen = generator.permutation(len(frames))[: CALIBRATION + HELD_OUT]
    return frames[chosen[:CALIBRATION]], frames[chosen[CALIBRATION:]]


RATE, WINDOW, HOP, MELS, FRAMES = 16_000, 1024, 512, 128, 5
"""Of the reference's features: MLPerf Tiny's anomaly detection, after DCASE 2020 task 2."""


def _hum(generator: np.random.Generator) -> NDArray[np.float64]:
    """A second and a half: a fundamental with harmonics that beat, and noise that falls with frequency; as loud as the
    shipped int8 file takes inputs, from -85 to 15 dB.
    """
    time = np.arange(24_000) / RATE
    speed = generator.uniform(40, 160)
    sound = np.zeros_like(time)
    for harmonic in range(1, 40):
        beat = 1 + 0.5 * np.sin(2 * np.pi * generator.uniform(0.5, 8) * time)
        phase = generator.uniform(0, 2 * np.pi)
        sound += generator.exponential(1 / harmonic) * beat * np.sin(2 * np.pi * speed * harmonic * time + phase)
    noise = np.convolve(generator.normal(size=len(time)), 0.9 ** np.arange(40), mode="same")
    return 0.05 * (0.05 * sound + generator.uniform(0.002, 0.02) * noise)


def _log_mel(sound: NDArray[np.float64]) -> Floats:
    """20 / 2 * log10 of the mel power spectrogram, every five frames in a row, [frames - 4, 640]."""
    starts = range(0, len(sound) - WINDOW + 1, HOP)
    windows = np.stack([sound[start : start + WINDOW] for start in starts]) * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    rows = 10 * np.log10(power @ _mel_filters().T + np.finfo(np.float64).eps)
    stacked = [rows[i : i + FRAMES].reshape(-1) for i in range(len(rows) - FRAMES + 1)]
    return np.stack(stacked).astype(np.float32)


def _mel_filters() -> NDArray[np.float64]:
    """Triangles evenly spaced in mel (O'Shaughnessy 1987), [mels, bins]."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


PAIRS = (
    Pair("IC, ResNet-8", "pretrainedResnet.tflite", "pretrainedResnet_quant.tflite", lambda: photographs(32, 1)),
    Pair("VWW, MobileNetV1 0.25", "vww_96_float.tflite", "vww_96_int8.tflite", lambda: photographs(96, 255)),
    Pair("AD, autoencoder", "ad01_fp32.tflite", "ad01_int8.tflite", machine_sounds, classes=False),
)


def compare(pair: Pair, folder: Path, work: Path) -> TinyRow:
    """Quantize a float model to int8 and compare it and the shipped file with it.

    :param work: folder for the artifact, which is kept
    :raises ConfigError: a file is not in the folder
    """
    from policyport.deploy.exports import tflite_interpreter
    from policyport.quantize.metrics import sqnr_db

    for name in (pair.float_file, pair.int8_file):
        if not (folder / name).is_file():
            raise ConfigError("no such model", where=folder / name, expected="MLPerf Tiny's reference models")
    seen, held_out = pair.inputs()
    exact = _outputs(tflite_interpreter(folder / pair.float_file), held_out)
    shipped = _outputs(tflite_interpreter(folder / pair.int8_file), held_out)
    ours = _quantized(pair, folder, work, seen, held_out, exact.shape[1])
    agreement = [
        float((got.argmax(axis=1) == exact.argmax(axis=1)).mean()) if pair.classes else None for got in (shipped, ours)
    ]
    return TinyRow(pair.label, len(held_out), sqnr_db(exact, shipped), sqnr_db(exact, ours), *agreement)


def _quantized(pair: Pair, folder: Path, work: Path, seen: Floats, held_out: Floats, outputs: int) -> Floats:
    """What our integers give, [n, outputs]."""
    import shutil

    from policyport.core.task import Environment, Task
    from policyport.deploy import reference
    from policyport.deploy.lower import lower
    from policyport.deploy.program import dequantize_output, quantize_input
    from policyport.quantize.config import QuantizeConfig
    from policyport.quantize.stage import quantize

    given = work / "given"
    given.mkdir(parents=True, exist_ok=True)
    model = given / pair.float_file
    shutil.copyfile(folder / pair.float_file, model)
    np.savez(given / "observations.npz", observations=seen, held_out=held_out)
    size = seen.shape[1]
    bounds = (float(min(seen.min(), held_out.min())),) * size, (float(max(seen.max(), held_out.max())),) * size
    task = Task("policy", model.stem, Environment("CartPole-v1"), size, *bounds, outputs, "argmax")
    task.write(given / "task.json")
    config = QuantizeConfig(activations="int8", centre_outputs=False)
    program = lower(quantize(model, config, work / "quantize").file("model.onnx"))
    parts = [
        dequantize_output(program, reference.run(program, quantize_input(program, part))[-1])
        for part in np.array_split(held_out, 10)
    ]
    return np.concatenate(parts)


def _outputs(interpreter: Any, inputs: Floats) -> Floats:
    """A TFLite file's outputs as reals, one input at a time, [n, outputs]."""
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for row in inputs:
        interpreter.set_tensor(source["index"], _stored(row.reshape(source["shape"]), source))
        interpreter.invoke()
        rows.append(_reals(interpreter.get_tensor(target["index"]).reshape(-1), target))
    return np.stack(rows).astype(np.float32)


def _stored(values: Floats, details: Any) -> NDArray[Any]:
    if details["dtype"] == np.float32:
        return values
    scale, zero_point = details["quantization"]
    info = np.iinfo(details["dtype"])
    rounded = np.clip(np.rint(values / scale) + zero_point, info.min, info.max)
    return np.asarray(rounded, details["dtype"])


def _reals(values: NDArray[Any], details: Any) -> NDArray[Any]:
    if details["dtype"] == np.float32:
        return values
    scale, zero_point = details["quantization"]
    return np.asarray(scale * (values.astype(np.float64) - zero_point))


def markdown(rows: Sequence[TinyRow]) -> str:
    """The table of the documentation."""
    lines = [
        "| model | inputs | int8 file as shipped | quantized here | largest output as float32's, shipped | here |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        both = (row.shipped_agreement, row.ours_agreement)
        shares = " | ".join("" if share is None else f"{100 * share:.1f} %" for share in both)
        lines.append(f"| {row.label} | {row.inputs} | {row.shipped_db:.1f} dB | {row.ours_db:.1f} dB | {shares} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    from policyport.pipeline.figures import write_blocks

    name = "python -m policyport.pipeline.tiny_models"
    parser = argparse.ArgumentParser(prog=name, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="MLPerf Tiny's reference models, float32 and int8")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny-models"), help="folder for results")
    parser.add_argument("--page", type=Path, help="Markdown file whose block `tiny` is written")
    given = parser.parse_args(arguments)
    rows = [compare(pair, given.folder, given.out / Path(pair.float_file).stem) for pair in PAIRS]
    table = markdown(rows)
    (given.out / RESULTS).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    (given.out / TABLE).write_text(table + "\n")
    if given.page is not None:
        write_blocks([given.page], {"tiny": table})
    print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
