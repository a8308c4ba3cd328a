"""Rate, distortion and perceived quality of coded pictures: a codec's integers beside JPEG, WebP and AVIF.

Bits per pixel are those of whole files, headers and all. Every codec sees the same pictures; a point of its curve is
the mean over them at one quality.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.codec_model import QUALITIES
from policyport.core.errors import ToolError
from policyport.core.install import pip_install
from policyport.core.similarity import ms_ssim
from policyport.hil.codec import PictureDecoder, PictureEncoder, decibels, squared_error

Pictures = Mapping[str, NDArray[np.uint8]]
"""Name to [rows, columns, 3]."""

OURS = "policyport"

PEER_QUALITIES = (1, 3, 5, 8, 12, 16, 20, 25, 30, 38, 46, 55, 65, 75, 85, 92)

WINDOW_PSNR_DB = (26.5, 31.3)
WINDOW_MS_SSIM = (0.89, 0.975)
WINDOW_SSIMULACRA2 = (20.0, 65.0)
"""Between which BD-rates are taken."""


@dataclass(frozen=True)
class Point:
    """A codec at one quality, means over the pictures."""

    codec: str
    quality: int
    bits_per_pixel: float
    psnr_db: float
    ms_ssim: float
    ssimulacra2: float
    """100 where nothing differs, 70 where differences are hard to see, below 0 where little is left."""


Coded = Callable[[int], tuple[int, NDArray[np.uint8]]]
"""A picture at a quality: bytes of its file, and what is decoded of it, [rows, columns, 3]."""


def measure(
    encoder: PictureEncoder,
    decoder: PictureDecoder,
    pictures: Pictures,
    qualities: Sequence[int] = range(QUALITIES),
    codec: str = OURS,
) -> list[Point]:
    """A codec's curve, by its integers, every file decoded again.

    :raises ToolError: no package that judges perceived quality
    """
    return curve_of(codec, qualities, [(p, coder_of(encoder, decoder, p)) for p in pictures.values()])


def coder_of(encoder: PictureEncoder, decoder: PictureDecoder, picture: NDArray[np.uint8]) -> Coded:
    """A codec's integers on one picture."""
    code = encoder.code(picture)

    def coded(quality: int) -> tuple[int, NDArray[np.uint8]]:
        numbers = encoder.quantized(code, quality)
        header = encoder.header(picture, quality)
        return len(encoder.pack(picture, numbers, quality)), decoder.picture(numbers, header)

    return coded


def peers() -> dict[str, dict[str, object]]:
    """Pillow's codecs, their options: JPEG as it comes, optimised progressive JPEG, WebP, AVIF where it has it."""
    from PIL import features

    formats: dict[str, dict[str, object]] = {
        "JPEG": {"format": "JPEG"},
        "JPEG, optimised": {"format": "JPEG", "optimize": True, "progressive": True, "subsampling": "4:2:0"},
        "WebP": {"format": "WEBP", "method": 6},
    }
    if features.check("avif"):
        formats["AVIF"] = {"format": "AVIF", "speed": 6}
    return formats


def peer_of(options: Mapping[str, object], picture: NDArray[np.uint8]) -> Coded:
    """One of :func:`peers` on one picture."""

    def coded(quality: int) -> tuple[int, NDArray[np.uint8]]:
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, quality=quality, **options)  # type: ignore[arg-type]
        size = stream.tell()
        with Image.open(stream) as image:
            return size, np.array(image.convert("RGB"))

    return coded


def measure_peers(pictures: Pictures) -> list[Point]:
    """The curves of :func:`peers`.

    :raises ToolError: no package that judges perceived quality
    """
    return [
        point
        for name, options in peers().items()
        for point in curve_of(name, PEER_QUALITIES, [(p, peer_of(options, p)) for p in pictures.values()])
    ]


def curve_of(codec: str, qualities: Sequence[int], pictures: Sequence[tuple[NDArray[np.uint8], Coded]]) -> list[Point]:
    """A codec's curve: at each quality the mean over pictures, each with what codes it.

    :raises ToolError: no package that judges perceived quality
    """
    points = []
    for quality in qualities:
        rows = []
        for picture, coded in pictures:
            size, got = coded(quality)
            judged = decibels(squared_error(got, picture)), ms_ssim(got, picture), perceived(got, picture)
            rows.append((8 * size / got[..., 0].size, *judged))
        points.append(Point(codec, quality, *np.mean(rows, axis=0).tolist()))
    return points


def perceived(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """SSIMULACRA 2 of a picture against its original (Sneyers 2023), by the package ``ssimulacra2``.

    :raises ToolError: it is not installed
    """
    try:
        from ssimulacra2 import compute_ssimulacra2
    except ImportError as error:
        raise ToolError(
            "a package that judges pictures is not installed", got=error, cure=pip_install("[codec]")
        ) from error
    from PIL import Image

    files = io.BytesIO(), io.BytesIO()
    for file, picture in zip(files, (second, first), strict=True):
        Image.fromarray(picture).save(file, format="PPM")
    return float(compute_ssimulacra2(*files))


@dataclass(frozen=True)
class BdRate:
    """What one codec takes less of another's bits at equal quality."""

    percent: float
    """Below 0: fewer bits."""

    low: float
    high: float
    """Of quality: where it was taken."""


def bd_rate(
    ours: Sequence[Point], theirs: Sequence[Point], measure_of: Callable[[Point], float], window: tuple[float, float]
) -> BdRate | None:
    """Mean difference in bits at equal quality (Bjontegaard, VCEG-M33), by monotone cubics in log rate.

    :param measure_of: the quality of a point
    :param window: of quality; what of it both curves span is taken, and None returned where that is less than half
    """
    rising = [_rising(points, measure_of) for points in (ours, theirs)]
    low = max(window[0], *(quality[0] for quality, _ in rising))
    high = min(window[1], *(quality[-1] for quality, _ in rising))
    if high - low < (window[1] - window[0]) / 2:
        return None
    means = [_mean_log_rate(*curve, low, high) for curve in rising]
    return BdRate(float(100 * (np.exp(means[0] - means[1]) - 1)), float(low), float(high))


def _rising(
    points: Sequence[Point], measure_of: Callable[[Point], float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Quality and log rate of the points that better those before them."""
    pairs = sorted((measure_of(point), np.log(point.bits_per_pixel)) for point in points)
    kept = [pair for i, pair in enumerate(pairs) if i == 0 or pair[0] > pairs[i - 1][0]]
    quality, rate = zip(*kept, strict=True)
    return np.array(quality), np.array(rate)


def _mean_log_rate(quality: NDArray[np.float64], rate: NDArray[np.float64], low: float, high: float) -> float:
    from scipy.interpolate import PchipInterpolator

    return float(PchipInterpolator(quality, rate).integrate(low, high)) / (high - low)


def of_codec(points: Sequence[Point], codec: str) -> list[Point]:
    """A codec's curve."""
    return [point for point in points if point.codec == codec]


def dissimilarity_decibels(point: Point) -> float:
    """MS-SSIM as -10 log10(1 - MS-SSIM), on which scale equal steps are about equally visible."""
    return _decibel(point.ms_ssim)


def _decibel(value: float) -> float:
    return float(-10 * np.log10(1 - value))


METRICS: Mapping[str, tuple[Callable[[Point], float], tuple[float, float]]] = {
    "PSNR": (lambda point: point.psnr_db, WINDOW_PSNR_DB),
    "MS-SSIM": (dissimilarity_decibels, (_decibel(WINDOW_MS_SSIM[0]), _decibel(WINDOW_MS_SSIM[1]))),
    "SSIMULACRA 2": (lambda point: point.ssimulacra2, WINDOW_SSIMULACRA2),
}
"""Name to the quality of a point, and the window of it in which BD-rates are taken."""


def bd_rates(ours: Sequence[Point], peers: Sequence[Point]) -> dict[str, dict[str, BdRate | None]]:
    """Peer to what ours takes less of its bits, by each of :data:`METRICS`."""
    return {
        peer: {name: bd_rate(ours, of_codec(peers, peer), *metric) for name, metric in METRICS.items()}
        for peer in dict.fromkeys(point.codec for point in peers)
    }


def at_rate(points: Sequence[Point], bits_per_pixel: float, measure_of: Callable[[Point], float]) -> float | None:
    """Quality at a rate, by a monotone cubic in log rate; None where the curve does not reach it."""
    from scipy.interpolate import PchipInterpolator

    ordered = sorted(points, key=lambda point: point.bits_per_pixel)
    rate = np.log([point.bits_per_pixel for point in ordered])
    if not rate[0] <= np.log(bits_per_pixel) <= rate[-1]:
        return None
    return float(PchipInterpolator(rate, [measure_of(point) for point in ordered])(np.log(bits_per_pixel)))


def write_points(points: Sequence[Point], path: Path) -> None:
    """Write ``rates.json``."""
    path.write_text(json.dumps([asdict(point) for point in points], indent=1) + "\n")
