"""Rate and distortion of coded pictures: a codec's integers beside JPEG, WebP and AVIF, and BD-rates between them.

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
from policyport.hil.codec import PictureDecoder, PictureEncoder, decibels, squared_error

Pictures = Mapping[str, NDArray[np.uint8]]
"""Name to [rows, columns, 3]."""

OURS = "policyport"

PEER_QUALITIES = (1, 3, 5, 8, 12, 16, 20, 25, 30, 38, 46, 55, 65, 75, 85, 92)

WINDOW_PSNR_DB = (26.5, 31.3)
WINDOW_MS_SSIM = (0.89, 0.975)
"""Between which BD-rates are taken."""


@dataclass(frozen=True)
class Point:
    """A codec at one quality, means over the pictures."""

    codec: str
    quality: int
    bits_per_pixel: float
    psnr_db: float
    ms_ssim: float


def measure(encoder: PictureEncoder, decoder: PictureDecoder, pictures: Pictures) -> list[Point]:
    """A codec's curve, by its integers, every file decoded again."""

    def coded(picture: NDArray[np.uint8], quality: int) -> tuple[int, NDArray[np.uint8]]:
        data = encoder.encode(picture, quality)
        return len(data), decoder.picture(encoder.numbers(picture, quality), encoder.header(picture, quality))

    return [_point(OURS, quality, coded, pictures) for quality in range(QUALITIES)]


def measure_peers(pictures: Pictures) -> list[Point]:
    """The curves of Pillow's codecs: JPEG with its defaults, optimised progressive JPEG, WebP, AVIF where it has it."""
    from PIL import features

    formats: dict[str, dict[str, object]] = {
        "JPEG": {"format": "JPEG"},
        "JPEG, optimised": {"format": "JPEG", "optimize": True, "progressive": True, "subsampling": "4:2:0"},
        "WebP": {"format": "WEBP", "method": 6},
    }
    if features.check("avif"):
        formats["AVIF"] = {"format": "AVIF", "speed": 6}

    def coder(options: dict[str, object]) -> Callable[[NDArray[np.uint8], int], tuple[int, NDArray[np.uint8]]]:
        def coded(picture: NDArray[np.uint8], quality: int) -> tuple[int, NDArray[np.uint8]]:
            from PIL import Image

            stream = io.BytesIO()
            Image.fromarray(picture).save(stream, quality=quality, **options)  # type: ignore[arg-type]
            size = stream.tell()
            with Image.open(stream) as image:
                return size, np.array(image.convert("RGB"))

        return coded

    return [
        _point(name, quality, coder(options), pictures)
        for name, options in formats.items()
        for quality in PEER_QUALITIES
    ]


def _point(
    codec: str,
    quality: int,
    coded: Callable[[NDArray[np.uint8], int], tuple[int, NDArray[np.uint8]]],
    pictures: Pictures,
) -> Point:
    rows = []
    for picture in pictures.values():
        size, got = coded(picture, quality)
        error = squared_error(got, picture)
        rows.append((8 * size / got[..., 0].size, decibels(error), similarity(got, picture)))
    bits, psnr, ssim = np.mean(rows, axis=0)
    return Point(codec, quality, float(bits), float(psnr), float(ssim))


def similarity(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """MS-SSIM of two pictures, mean over the colours (Wang, Simoncelli, Bovik 2003)."""
    import torch
    from policyport.train.codec.losses import ms_ssim

    one, other = (torch.from_numpy(p.transpose(2, 0, 1)[None].astype(np.float64) / 255) for p in (first, second))
    return float(ms_ssim(one, other))


def bd_rate(
    ours: Sequence[Point], theirs: Sequence[Point], measure_of: Callable[[Point], float], window: tuple[float, float]
) -> float | None:
    """Mean difference in bits at equal quality, in percent (Bjontegaard, VCEG-M33), by monotone cubics in log rate.

    :param measure_of: the quality of a point
    :param window: of quality; None is returned where a curve does not span it
    """
    from scipy.interpolate import PchipInterpolator

    means = []
    for points in (ours, theirs):
        pairs = sorted((measure_of(point), np.log(point.bits_per_pixel)) for point in points)
        rising = [pair for i, pair in enumerate(pairs) if i == 0 or pair[0] > pairs[i - 1][0]]
        quality, rate = (np.array(values) for values in zip(*rising, strict=True))
        if quality[0] > window[0] or quality[-1] < window[1]:
            return None
        means.append(PchipInterpolator(quality, rate).integrate(*window) / (window[1] - window[0]))
    return float(100 * (np.exp(means[0] - means[1]) - 1))


def of_codec(points: Sequence[Point], codec: str) -> list[Point]:
    """A codec's curve."""
    return [point for point in points if point.codec == codec]


def bd_rates(points: Sequence[Point]) -> dict[str, tuple[float | None, float | None]]:
    """Peer to what ours takes less of its bits, percent, at equal PSNR and at equal MS-SSIM in decibels."""
    ours = of_codec(points, OURS)

    def decibel(value: float) -> float:
        return float(-10 * np.log10(1 - value))

    low, high = (decibel(value) for value in WINDOW_MS_SSIM)
    return {
        peer: (
            bd_rate(ours, of_codec(points, peer), lambda point: point.psnr_db, WINDOW_PSNR_DB),
            bd_rate(ours, of_codec(points, peer), lambda point: decibel(point.ms_ssim), (low, high)),
        )
        for peer in dict.fromkeys(point.codec for point in points if point.codec != OURS)
    }


def write_points(points: Sequence[Point], path: Path) -> None:
    """Write ``rates.json``."""
    path.write_text(json.dumps([asdict(point) for point in points], indent=1) + "\n")
