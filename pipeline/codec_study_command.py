"""The image codec's studies as ``policyport study codec`` runs them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policyport.pipeline.codec_rates import Point
    from policyport.pipeline.run import Say
    from policyport.pipeline.study_command import Files, Tell


def study_name(arguments: argparse.Namespace) -> str:
    """Folder of the study, and its block of a page; ``codec`` where it is of the losses of the usual encoder.

    :raises ConfigError: a choice that the study does not have
    """
    if arguments.peer:
        return _named_after_peer(arguments)
    if arguments.bits:
        return _named_after_bits(arguments)
    # A recipe's run, and the block of a page for its figures, are called codec already.
    return "-".join(["codec-study", *(name for name in arguments.encoders or () if name != "hybrid")])


def _named_after_peer(arguments: argparse.Namespace) -> str:
    """Folder and block of a comparison with a peer.

    :raises ConfigError: the study has no peers, or the comparison takes no such choice
    """
    from policyport.core.errors import ConfigError

    if arguments.study != "codec":
        raise ConfigError("a peer of another study", where="--peer", expected="the study codec", got=arguments.study)
    chosen = arguments.encoders or arguments.losses or arguments.objectives or arguments.test_images
    if chosen or len(arguments.seeds) > 1:
        raise ConfigError(
            "a comparison with a peer has our linear encoder, its usual losses, one seed and the packages' photographs",
            where="--peer",
            cure="leave out --encoders, --losses, --objectives and --test-images, and give one seed",
        )
    return f"codec-{arguments.peer}"


def _named_after_bits(arguments: argparse.Namespace) -> str:
    """Folder and block of the study of weights of few bits.

    :raises ConfigError: it takes no such choice
    """
    from policyport.core.errors import ConfigError

    if arguments.losses or arguments.objectives:
        raise ConfigError(
            "widths of weights are studied with the usual losses",
            where="--bits",
            cure="leave out --losses and --objectives",
        )
    return "codec-bits"


def study_codec(arguments: argparse.Namespace, say: Say, tell: Tell) -> Files:
    """The study that the flags ask for: of losses, of widths or beside a peer; its files by name.

    :param say: is told of stages
    :param tell: is told of each curve
    :raises ConfigError: choices that the study does not have, photographs that it cannot be judged on
    """
    from policyport.pipeline import codec_study as study
    from policyport.pipeline.codec_judged import judged_label, require_judgeable
    from policyport.pipeline.codec_rates import of_codec
    from policyport.pipeline.codec_study_page import peer_points, render

    def said(cell: study.CodecCell, points: Sequence[Point]) -> None:
        tell(_curve_line(cell.name, points))

    if arguments.peer:
        return _mcucoder(arguments, say, tell)
    if arguments.bits:
        return _codec_bits(arguments, say, tell)

    cells = study.grid(
        arguments.encoders or ("hybrid",),
        arguments.losses or study.LOSSES,
        arguments.objectives or study.OBJECTIVES,
        arguments.seeds,
        arguments.steps or 1200,
        arguments.images,
    )
    cells = [dataclasses.replace(cell, test_images=arguments.test_images) for cell in cells]
    require_judgeable(arguments.test_images, arguments.images)
    found = study.run_codec_study(cells, arguments.out, say, said)
    pictures = study.judged_by(cells, arguments.out)
    others = peer_points(arguments.out, pictures, judged_label(arguments.test_images, pictures))
    rates = arguments.rates or study.RATES
    table = study.markdown(study.rows_of(found), of_codec(others, study.AGAINST), rates) + "\n"
    page = render(found, others, arguments.out, pictures, rates)
    return {"study.csv": study.to_csv(found), "study.md": table, "study.html": page}


def _codec_bits(arguments: argparse.Namespace, say: Say, tell: Tell) -> Files:
    from policyport.pipeline import codec_bits as study
    from policyport.pipeline.codec_judged import require_judgeable

    require_judgeable(arguments.test_images, arguments.images)
    cells = study.bits_grid(
        arguments.encoders or ("linear",),
        arguments.seeds,
        arguments.steps or 1200,
        arguments.images,
        arguments.test_images,
    )
    found = study.run_bits_study(
        cells,
        arguments.bits,
        arguments.methods or study.DEFAULT_METHODS,
        arguments.out,
        say,
        lambda name, points: tell(_curve_line(name, points)),
    )
    return {"bits.csv": study.to_csv(found), "bits.md": study.markdown(found)}


def _mcucoder(arguments: argparse.Namespace, say: Say, tell: Tell) -> Files:
    from policyport.pipeline import codec_mcucoder_comparison as comparison

    found = comparison.compare(
        arguments.out,
        arguments.decoders,
        arguments.steps or 1200,
        arguments.seeds[0],
        arguments.images,
        say,
        lambda name, points: tell(_curve_line(name, points)),
    )
    return {"comparison.json": comparison.to_json(found), "comparison.md": comparison.markdown(found)}


def _curve_line(name: str, points: Sequence[Point]) -> str:
    """The ends of a codec's curve."""
    ends = (f"{p.bits_per_pixel:.3f} bpp {p.psnr_db:.2f} dB" for p in (points[0], points[-1]))
    return f"{name:<40} {' to '.join(ends)}"
