"""Measured tables of the page on the image codec: `python -m policyport.pipeline.codec_figures docs/codec.md`.

Runs recipes/codec.toml where that is not done, codes the test photographs (``--test-images`` in place of the packages')
at every quality by its integers, beside Pillow's codecs, and codes one on the emulated board. The run's ``rates.html``
has the curves and crops to look at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policyport.core.artifact import Artifact, open_artifact
from policyport.core.codec_model import BLOCK
from policyport.hil.report.text import several
from policyport.pipeline.codec_page import bd_words, crop_places, crops_of, render_page, window_words
from policyport.pipeline.codec_rates import (
    METRICS,
    OURS,
    Point,
    bd_rates,
    coder_of,
    measure,
    measure_peers,
    of_codec,
    write_points,
)
from policyport.pipeline.codec_study import AGAINST, markdown, recorded, rows_of
from policyport.pipeline.figures import write_blocks

RECIPE = Path("recipes/codec.toml")
RUN = Path("runs/codec")
STUDY = Path("runs/codec-study")
VARIANTS = {"8 bits": ".", "4 bits": "4bit"}
"""Width of the weights to its folder in the run."""

SHOWN = (0, 2, 4, 6, 8, 10, 12, 15)
PEERS_SHOWN = (5, 12, 20, 30, 46, 65, 85)
"""Qualities in the table."""

BOARD_QUALITY = 6


def rates_table(points: Sequence[Point]) -> str:
    """Bits and quality of every codec, as Markdown."""
    lines = [
        "| codec | quality | bits per pixel | PSNR, dB | MS-SSIM | SSIMULACRA 2 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for point in points:
        if point.quality in (SHOWN if point.codec.startswith(OURS) else PEERS_SHOWN):
            measured = (
                f"{point.bits_per_pixel:.3f} | {point.psnr_db:.2f} | {point.ms_ssim:.4f} | {point.ssimulacra2:.1f}"
            )
            lines.append(f"| {point.codec} | {point.quality} | {measured} |")
    return "\n".join(lines)


def bd_table(variants: Mapping[str, Sequence[Point]], others: Sequence[Point]) -> str:
    """What each width of the weights takes less of a peer's bits, as Markdown."""
    found = {name: bd_rates(points, others) for name, points in variants.items()}
    head = " | ".join(f"{name}, {metric}" for name in found for metric in METRICS)
    lines = [f"| against | {head} |", f"|---|{'---:|' * len(METRICS) * len(found)}"]
    for peer in next(iter(found.values())):
        values = (rates[peer][metric] for rates in found.values() for metric in METRICS)
        lines.append(f"| {peer} | {' | '.join(map(bd_words, values))} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class BoardFigures:
    """What a picture of the test set costs on the emulated board."""

    weights: int
    macs_per_pixel: float
    instructions_per_pixel: float
    same: bool
    """Whether the board's file is the one made here."""

    flash_bytes: int
    ram_bytes: int
    stack_bytes: int


def on_board(deployed: Artifact) -> BoardFigures:
    """A picture coded on the emulated board.

    :raises ToolError: there is no emulator
    """
    from policyport.deploy.board import load_board
    from policyport.deploy.firmware import image_file
    from policyport.firmware_bridge.client import Bridge
    from policyport.hil.codec import PictureEncoder
    from policyport.hil.held_out import held_out_pictures
    from policyport.hil.rig import EmulatedRig

    encoder = PictureEncoder.open(deployed)
    (picture,) = held_out_pictures(deployed, None, 1).pictures.values()
    board = load_board(deployed.manifest.config["board"])
    with EmulatedRig(board, image_file(deployed)) as rig, Bridge.open(rig.url) as bridge:
        data, ticks = encoder.encode_on_board(bridge, picture, BOARD_QUALITY)
        stack = bridge.memory().stack_used_bytes
    size = json.loads(deployed.file("footprint.json").read_text())
    return BoardFigures(
        encoder.program.weight_count,
        encoder.program.macs / BLOCK**2,
        rig.instructions(ticks, 0) / (picture.shape[0] * picture.shape[1]),
        data == encoder.encode(picture, BOARD_QUALITY),
        size["flash_bytes"],
        size["ram_bytes"],
        stack,
    )


def board_row(name: str, deployed: Artifact) -> str:
    """They, as a row of a table."""
    found = on_board(deployed)
    return (
        f"| {name} | {found.weights:,} | {found.macs_per_pixel:.0f} | {found.instructions_per_pixel:.0f} "
        f"| {'the same' if found.same else 'other'} | {found.flash_bytes:,} | {found.ram_bytes:,} "
        f"| {found.stack_bytes:,} |"
    )


BOARD_HEAD = (
    "| weights | their number | MACs per pixel | instructions per pixel | bytes | flash, B | RAM, B | stack used, B |\n"
    "|---|---:|---:|---:|---|---:|---:|---:|"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of a Markdown file."""
    from policyport.hil.codec import PictureDecoder, PictureEncoder
    from policyport.pipeline import cli
    from policyport.pipeline.codec_judged import judged_label, judged_photographs

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pages", type=Path, nargs="+", help="Markdown files with <!-- figures:codec --> markers")
    parser.add_argument("--run", type=Path, help=f"folder of a finished run [default: {RUN}, which is run]")
    parser.add_argument(
        "--study", type=Path, default=STUDY, help=f"folder of `policyport study codec` [default: {STUDY}]"
    )
    parser.add_argument(
        "--test-images", type=Path, metavar="DIR", help="photographs to judge on [default: those of packages]"
    )
    given = parser.parse_args(arguments)
    code = 0 if given.run else cli.main(["run", str(RECIPE)])
    if code:
        return code
    run = given.run or RUN
    deployed = {name: open_artifact(run / folder / "deploy", "deploy") for name, folder in VARIANTS.items()}
    pictures = judged_photographs(given.test_images, [artifact.path for artifact in deployed.values()])
    label = judged_label(given.test_images, pictures)
    coders = {
        name: (PictureEncoder.open(artifact), PictureDecoder(artifact.path)) for name, artifact in deployed.items()
    }
    ours = {name: measure(*coder, pictures, codec=f"{OURS}, {name}") for name, coder in coders.items()}
    others, first = measure_peers(pictures), ours["8 bits"]
    write_points([point for points in (*ours.values(), others) for point in points], run / f"rates{label}.json")
    shown = {
        f"{OURS}, {name}": {p: coder_of(*coder, pictures[p]) for p in crop_places(pictures)}
        for name, coder in coders.items()
    }
    crops = crops_of(pictures, shown)
    text = render_page("The image codec beside others", {name: [curve] for name, curve in ours.items()}, others, crops)
    (run / f"rates{label}.html").write_text(text, encoding="utf-8")
    names = ", ".join(pictures)
    blocks = [
        f"{several(len(pictures), 'photograph')} that nothing was trained on ({names}); whole files, headers counted; "
        f"BD-rates over {window_words()}, or what of it both curves span, then named.",
        bd_table(ours, others),
        rates_table([*first, *others]),
        "One picture of 320x240 in colour on the emulated mps2-an386, network and coder together:",
        "\n".join([BOARD_HEAD, *(board_row(name, artifact) for name, artifact in deployed.items())]),
    ]
    written = {"codec": "\n\n".join(blocks)}
    if (
        given.study.is_dir() and given.test_images is None
    ):  # the study's codecs were judged on the packages' photographs
        written["codec-study"] = markdown(rows_of(recorded(given.study)), of_codec(others, AGAINST))
    write_blocks(given.pages, written)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
