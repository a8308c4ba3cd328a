"""The command ``policyport study``: its flags, and what it prints."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from policyport.pipeline import au_study_command, codec_study_command

if TYPE_CHECKING:
    from policyport.pipeline.quarl_cell import CellResult
    from policyport.pipeline.run import Say

SUMMARY = "study what quantization does to policies, or what the losses of MLCR or of an image codec are worth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    add = parser.add_argument
    add(
        "study",
        choices=(
            "quarl",
            "deployment",
            "precision",
            "actors",
            "qat",
            "levels",
            "au",
            "codec",
            "adaround",
            "last-layer",
        ),
        help="quarl: the tables of Krishnan et al. (arXiv 1910.01055); deployment: their policies on ARM cores; "
        "precision: the speed of training by mixed precision; actors: of collection by quantized actors; "
        "qat: policies trained by integers, by width and quantization delay; "
        "levels: policies and networks of few bits, by the width of their input, after Kresse and Lampert (arXiv "
        "2511.07046); "
        "au: the losses of Niu et al. (arXiv 1910.11012); codec: those of Aytekin et al. (arXiv 1905.10371); "
        "adaround: the variants of Nagel et al. (arXiv 2004.10568); "
        "last-layer: how often solving the last layer anew helps a quantized network, or one in training",
    )
    add("--agents", type=Path, metavar="DIR", help="zips, as ALGO/ENV/ENV.zip [default: small ones trained here]")
    add("--envs", nargs="+", default=(), metavar="ENV", help="environments [default: all that there are agents of]")
    add("--algos", nargs="+", default=(), metavar="ALGO", help="algorithms [default: all that there are agents of]")
    add(
        "--bits",
        nargs="+",
        type=int,
        metavar="BITS",
        help="widths of weights; of the studies codec and au: compare integers with float32 [default: 32 16 8 7 6 5 4 "
        "3 2; of the studies codec and au their losses instead]",
    )
    add(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="float32, weights, fp16, integer, lattice, adaround, last-layer, qat, own-states "
        "[default: all but adaround, qat and own-states]; of the study levels: lattice, qat, own-states "
        "[default: lattice, qat]; "
        "of the study last-layer: nearest, gptq, lattice [default: all]; of codec with --bits: nearest, gptq, "
        "adaround, lattice, qat [default: nearest, lattice, qat]; of au with --bits: lattice, thresholds, qat "
        "[default: all]",
    )
    add(
        "--activation-bits",
        nargs="+",
        type=int,
        choices=(16, 8, 7, 6, 5, 4, 3, 2),
        default=(8,),
        metavar="BITS",
        help="of hidden layers, 16 or 8 to 2, where they are quantized; of the study quarl several if you like; the "
        "study levels takes those of weights [default: 8]",
    )
    add(
        "--input-bits",
        nargs="+",
        type=int,
        choices=(16, 8, 7, 6, 5, 4, 3, 2),
        metavar="BITS",
        help="of observations: of the study qat one [default: as activations, at least 8], of levels several "
        "[default: 16 8 4 2]",
    )
    add("--seeds", nargs="+", type=int, metavar="SEED", help="of the trainings [default: 0, of levels 0 1 2]")
    add(
        "--episodes",
        type=int,
        help="of each cell, on seeds that all cells share [default: 20; of levels 50, of quarl as many as its test "
        "needs]",
    )
    add("--workers", type=int, default=1, help="processes that measure cells [default: 1]")
    add(
        "--ray",
        default="",
        metavar="ADDRESS",
        help="a Ray cluster that sees the same folders; local: one on this machine [default: none]",
    )
    add(
        "--page",
        type=Path,
        metavar="FILE.md",
        help="Markdown whose block of the study's name (levels-agents where agents are given, au-study, au-bits, "
        "codec-study, codec-study-ENCODER, codec-bits, codec-mcucoder, last-layer-during; of quarl with --recipes "
        "quarl-recipes) gets the table; quarl's summary goes to the block with -widths behind that name",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write [default: runs/<study>, runs/<study>-study of au and codec, there with "
        "encoders other than hybrid behind it, runs/au-bits, runs/codec-bits, runs/codec-<peer>]",
    )
    add(
        "--measured-only",
        action="store_true",
        help="quarl, levels, adaround, last-layer, au with --bits: sum up the cells that are there, measure none "
        "[default: no]",
    )
    group = parser.add_argument_group("of the study quarl")
    group.add_argument(
        "--follow-steps", type=int, default=100_000, metavar="STEPS", help="of the method own-states [default: 100000]"
    )
    group.add_argument("--most-episodes", type=int, default=1000, help="that its test may ask for [default: 1000]")
    group.add_argument(
        "--margin-share",
        type=float,
        default=5.0,
        metavar="PERCENT",
        help="equivalence margin, in %% of the span from random actions' mean return to float32's [default: 5]",
    )
    parser.add_argument_group("of the study deployment").add_argument(
        "--recipe",
        type=Path,
        default=Path("recipes/navigation.toml"),
        metavar="RECIPE.toml",
        help="trains the policies, one and its variants [default: recipes/navigation.toml]",
    )
    group = parser.add_argument_group("of the studies precision and actors")
    group.add_argument("--widths", nargs="+", type=int, metavar="WIDTH", help="of hidden layers [default: 64 256 1024]")
    group.add_argument("--train-steps", type=int, default=8_000, help="environment steps of each [default: 8000]")
    group.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what torch trains on [default: cpu]")
    group.add_argument("--actors", nargs="+", type=int, default=(1, 2), metavar="N", help="processes [default: 1 2]")
    group = parser.add_argument_group("of the study qat")
    add = group.add_argument
    add(
        "--recipes",
        nargs="+",
        type=Path,
        metavar="RECIPE.toml",
        help="whose policies, also of the study quarl [default: CartPole and Pendulum; of quarl none]",
    )
    add(
        "--delays",
        nargs="+",
        type=float,
        default=(0.5,),
        metavar="SHARE",
        help="shares of a training in float32 before the integers [default: 0.5]",
    )
    parser.add_argument_group("of the studies au and codec").add_argument(
        "--steps",
        type=int,
        help="batches of each training [default: 1000 of au, 1200 of codec, those of train au with --bits]",
    )
    group = parser.add_argument_group("of the studies adaround and last-layer")
    text = "mlp, resnet, depthwise, also of the study levels [default: mlp, of levels none: policies alone]"
    group.add_argument("--networks", nargs="+", metavar="NETWORK", help=text)
    group.add_argument("--samples", type=int, default=100, help="of rounding by chance [default: 100]")
    group.add_argument("--iterations", type=int, default=10_000, help="of what is learned, a layer [default: 10000]")
    group.add_argument("--epochs", type=int, default=60, help="of the networks' trainings [default: 60]")
    group.add_argument(
        "--during",
        nargs="*",
        type=float,
        metavar="SHARE",
        help="last-layer: what it is worth in the middle of a training, behind these shares of it [default: no; "
        "without a share 0.1 0.25 0.5 1]",
    )
    au_study_command.add_arguments(parser.add_argument_group("of the study au"))
    add = parser.add_argument_group("of the study codec").add_argument
    add("--encoders", nargs="+", metavar="ENCODER", help="autoencoder, hybrid, linear [default: hybrid]")
    add("--losses", nargs="+", metavar="LOSS", help="mse, mse+ms-ssim, mse+ms-ssim+cycle [default: each]")
    add("--objectives", nargs="+", metavar="OBJECTIVE", help="none, compression, rate [default: each]")
    add("--rates", nargs="+", type=float, metavar="BPP", help="at which losses are compared [default: 0.25 0.5]")
    add("--images", type=Path, metavar="DIR", help="photographs to train on [default: the listed packages]")
    add("--test-images", type=Path, metavar="DIR", help="photographs to judge on [default: those of packages]")
    add("--peer", choices=("mcucoder",), help="compare our encoder with MCUCoder's (arXiv 2411.19442), nothing else")
    add(
        "--decoders",
        nargs="+",
        choices=("ours", "own"),
        default=("ours", "own"),
        metavar="DECODER",
        help="that MCUCoder's encoder is trained with: ours, own (of its kind) [default: both]",
    )


Tell = Callable[[str], None]
"""Says a line, or nothing where the command is to be quiet."""

Files = dict[str, str]
"""Name of each file that a study writes to its text; the last is the one to look at."""


def execute(arguments: argparse.Namespace) -> int:
    """Run the study and write its files."""
    arguments.seeds = arguments.seeds or ((0, 1, 2) if arguments.study == "levels" else (0,))
    name = au_study_command.study_name(arguments) if arguments.study == "au" else arguments.study
    if arguments.study == "levels" and arguments.agents:
        name = "levels-agents"
    if arguments.study == "codec" or arguments.peer:
        name = codec_study_command.study_name(arguments)
    if arguments.study == "last-layer" and arguments.during is not None:
        name = "last-layer-during"
    if arguments.study == "quarl" and arguments.recipes:
        name = "quarl-recipes"
    arguments.out = arguments.out or Path("runs") / name
    studies: dict[str, Callable[[argparse.Namespace, Tell], Files]] = {
        "actors": _actors,
        "adaround": _adaround,
        "au": lambda arguments, tell: au_study_command.study_au(arguments, _stages(arguments), tell),
        "codec": lambda arguments, tell: codec_study_command.study_codec(arguments, _stages(arguments), tell),
        "deployment": _deployment,
        "last-layer": _last_layer,
        "levels": _levels,
        "precision": _precision,
        "qat": _qat,
        "quarl": _quarl,
    }
    tell: Tell = _silent if _is_quiet(arguments) else partial(print, flush=True)
    files = studies[arguments.study](arguments, tell)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (arguments.out / file).write_text(text, encoding="utf-8")
    if arguments.page is not None:
        from policyport.pipeline.figures import write_blocks

        first, *more = [Path(file) for file in files if file.endswith(".md")]
        blocks = {name: first, **{f"{name}-{file.stem}": file for file in more}}
        write_blocks([arguments.page], {block: files[str(file)].rstrip() for block, file in blocks.items()})
    tell(str(arguments.out / list(files)[-1]))
    return 0


def _is_quiet(arguments: argparse.Namespace) -> bool:
    return bool(arguments.quiet > arguments.verbose)


def _silent(_: str) -> None:
    """Say nothing."""


def _stages(arguments: argparse.Namespace) -> Say:
    """What is said of the stages that a study runs."""
    from policyport.pipeline import speak

    return speak.silent if _is_quiet(arguments) else speak.say


def _deployment(arguments: argparse.Namespace, tell: Tell) -> Files:
    from policyport.pipeline import deployment
    from policyport.pipeline.recipe import read_recipe

    def said(row: deployment.Row) -> None:
        figures = f"{row.instructions:>12,} instructions, {row.speed_up:.2f} times as fast, {row.flash_bytes:,} B"
        tell(f"{row.policy:<12} {row.core:<28} {row.precision:<8} {figures}")

    recipe = read_recipe(arguments.recipe)
    rows = deployment.study_deployment(recipe, recipe.folder, arguments.episodes or 20, _stages(arguments), said)
    return {"deployment.json": deployment.to_json(rows), "deployment.md": deployment.to_markdown(rows)}


def _precision(arguments: argparse.Namespace, tell: Tell) -> Files:
    from policyport.pipeline import precision_study as study

    def said(one: study.Measured) -> None:
        figures = f"{one.steps / one.cpu_seconds:,.0f} steps per CPU second, return {one.curve[-1][1]:.0f}"
        tell(f"2 x {one.width:<6} {one.precision:<8} seed {one.seed}  {figures}")

    widths = arguments.widths or study.WIDTHS
    found = study.study_precision(arguments.out, widths, arguments.seeds, arguments.train_steps, arguments.device, said)
    return {"precision.json": study.to_json(found), "precision.md": study.to_markdown(found)}


def _actors(arguments: argparse.Namespace, tell: Tell) -> Files:
    from policyport.pipeline import actor_study as study
    from policyport.pipeline.precision_study import Measured, to_json

    def said(one: Measured) -> None:
        speed = f"{one.steps / one.seconds:,.0f} steps per second, return {one.curve[-1][1]:.0f}"
        tell(f"2 x {one.width:<6} {one.precision:<18} seed {one.seed}  {speed}")

    widths = arguments.widths or (64, 256)
    found = study.study_actors(arguments.out, widths, arguments.seeds, arguments.train_steps, arguments.actors, said)
    return {"actors.json": to_json(found), "actors.md": study.to_markdown(found)}


def _qat(arguments: argparse.Namespace, tell: Tell) -> Files:
    from policyport.pipeline import qat_study as study
    from policyport.quantize.config import WEIGHT_BITS

    def said(row: study.QatRow) -> None:
        delay = "" if row.delay is None else f", delay {row.delay:g}"
        tell(f"{row.policy:<12} {row.bits:>2} bits {study.NAMES[row.method]}{delay}: {study.shown(row)}")

    request = study.QatRequest(
        arguments.out,
        tuple(arguments.recipes or study.RECIPES),
        tuple(arguments.bits or WEIGHT_BITS),
        tuple(arguments.delays),
        _one_width(arguments),
        None if not arguments.input_bits else arguments.input_bits[0],
        arguments.episodes or 20,
        arguments.seeds[0],
    )
    rows = study.study_qat(request, _stages(arguments), said)
    return {"qat.json": study.to_json(rows), "qat.md": study.to_markdown(rows), "qat.html": study.render_page(rows)}


def _levels(arguments: argparse.Namespace, tell: Tell) -> Files:
    from policyport.pipeline import levels_study as study

    def said(row: study.LevelsRow) -> None:
        tell(f"{row.group:<28} {row.method:<10} {row.bits:>2} bits, input {row.input_bits:>2}: {study.shown(row)}")

    default = study.LevelsRequest(arguments.out)
    request = study.LevelsRequest(
        arguments.out,
        tuple(arguments.networks or ()),
        arguments.agents,
        tuple(arguments.envs),
        tuple(arguments.algos),
        tuple(arguments.bits or default.bits),
        tuple(arguments.input_bits or default.input_bits),
        tuple(arguments.methods or default.methods),
        tuple(arguments.seeds),
        arguments.episodes or default.episodes,
        arguments.follow_steps,
        arguments.measured_only,
    )
    rows = study.study_levels(request, _stages(arguments), said)
    return {
        "levels.json": study.to_json(rows),
        "levels.csv": study.to_csv(rows),
        "levels.md": study.to_markdown(rows),
        "levels.html": study.render_page(rows),
    }


def _adaround(arguments: argparse.Namespace, tell: Tell) -> Files:
    from policyport.pipeline import adaround_study as study

    def said(row: study.AdaRoundRow) -> None:
        figures = f"{sum(row.sqnr_db) / len(row.sqnr_db):.1f} dB, {sum(row.accuracy) / len(row.accuracy):.1f} %"
        tell(f"{row.network:<10} w{row.bits} seed {row.seed}  {row.variant:<26} {figures}")

    request = study.AdaRoundRequest(
        arguments.out,
        tuple(arguments.networks or ("mlp",)),
        tuple(arguments.bits or study.BITS),
        tuple(arguments.seeds),
        arguments.samples,
        arguments.iterations,
        arguments.epochs,
        arguments.measured_only,
    )
    rows = study.study_adaround(request, said)
    return {
        "adaround.json": study.to_json(rows),
        "adaround.csv": study.to_csv(rows),
        "adaround.md": study.to_markdown(rows),
        "adaround.html": study.render_page(rows),
    }


def _last_layer(arguments: argparse.Namespace, tell: Tell) -> Files:
    if arguments.during is not None:
        return _last_layer_during(arguments, tell)
    from policyport.pipeline import last_layer_study as study
    from policyport.pipeline.adaround_study import BITS

    def said(row: study.LastLayerRow) -> None:
        gained = f"{row.sqnr_db_gain:+.2f} dB, {row.accuracy_gain:+.2f} points{', taken' if row.taken else ''}"
        tell(f"{row.network:<10} {row.method:<8} w{row.bits} seed {row.seed}  {gained}")

    request = study.LastLayerRequest(
        arguments.out,
        tuple(arguments.networks or ("mlp",)),
        tuple(arguments.methods or study.METHODS),
        tuple(arguments.bits or BITS),
        tuple(arguments.seeds),
        arguments.epochs,
        arguments.measured_only,
    )
    rows = study.study_last_layer(request, said)
    return {
        "last-layer.json": study.to_json(rows),
        "last-layer.csv": study.to_csv(rows),
        "last-layer.md": study.to_markdown(rows),
        "last-layer.html": study.render_page(rows),
    }


def _last_layer_during(arguments: argparse.Namespace, tell: Tell) -> Files:
    from policyport.pipeline import post_training_study as study

    def said(row: study.DuringRow) -> None:
        figures = f"{row.accuracy_before:.1f} to {row.accuracy_after:.1f} %, loss {row.loss_before:.3f} to"
        tell(f"{row.network:<10} seed {row.seed}  {row.share:>4.0%}  {figures} {row.loss_after:.3f}")

    request = study.DuringRequest(
        arguments.out,
        tuple(arguments.networks or ("mlp",)),
        tuple(arguments.seeds),
        arguments.epochs,
        tuple(arguments.during or study.SHARES),
        arguments.measured_only,
    )
    rows = study.study_during(request, said)
    return {
        "during.json": study.to_json(rows),
        "during.csv": study.to_csv(rows),
        "during.md": study.to_markdown(rows),
        "during.html": study.render_page(rows),
    }


def _one_width(arguments: argparse.Namespace) -> int:
    """The width of activations, of a study that takes one.

    :raises ConfigError: several are given
    """
    from policyport.core.errors import ConfigError

    if len(arguments.activation_bits) != 1:
        raise ConfigError(
            "several widths of activations", where="activation_bits", expected="one", got=arguments.activation_bits
        )
    return int(arguments.activation_bits[0])


def _quarl(arguments: argparse.Namespace, tell: Tell) -> Files:
    from policyport.pipeline import quarl_summary
    from policyport.pipeline.quarl import BITS, METHODS, StudyRequest, run_study
    from policyport.pipeline.quarl_page import render_page
    from policyport.pipeline.quarl_tables import to_csv, to_json, to_markdown

    request = StudyRequest(
        arguments.out,
        arguments.agents,
        tuple(arguments.envs),
        tuple(arguments.algos),
        tuple(arguments.bits or BITS),
        tuple(arguments.methods or METHODS),
        tuple(arguments.activation_bits),
        tuple(arguments.seeds),
        arguments.episodes or 0,
        arguments.most_episodes,
        arguments.margin_share,
        arguments.measured_only,
        arguments.follow_steps,
        workers=arguments.workers,
        ray=arguments.ray,
        recipes=tuple(arguments.recipes or ()),
    )
    found = run_study(request, _stages(arguments), lambda result: tell(line_of(result)))
    return {
        "study.json": to_json(found),
        "study.csv": to_csv(found),
        "study.md": to_markdown(found),
        "widths.md": quarl_summary.to_markdown(found),
        "study.html": render_page(found),
    }


def line_of(result: CellResult) -> str:
    """One line on a cell."""
    mean = sum(result.returns) / len(result.returns)
    figures = f"return {mean:.1f}, agreement {result.agreement:.2%}"
    return f"{result.agent:<32} {result.method:<11} {result.bits:>2} bits  {figures}"
