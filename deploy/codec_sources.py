"""The C of an image encoder around its network: the static tables, and the coder's files beside ``policy.c``."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core import codec_model
from policyport.core.codec_latents import multiplier
from policyport.core.codec_model import BLOCK_VALUES, CODES_FILE, PIXEL_SPAN, CoderModel
from policyport.core.errors import UnsupportedModelError
from policyport.deploy.program import Program

CODEC_FOLDER = Path(__file__).with_name("codec")
FILES = ("pp_codec.c", "pp_codec.h")
BRIDGE_FILE = "pp_codec_bridge.c"
TABLES = "pp_codec_tables"


def read_coder(folder: Path) -> CoderModel | None:
    """The coder beside a model; None where the model is no image encoder.

    :raises ArtifactError: it does not read as one
    """
    path = folder / CODES_FILE
    return CoderModel.read(path) if path.is_file() else None


def check_encoder(program: Program, coder: CoderModel) -> None:
    """A program that takes a block's pixels as they are, and gives a number for each channel of the coder.

    :raises UnsupportedModelError: it is another
    """
    takes, gives = program.input, program.output
    got = (takes.size, takes.bits, takes.zero_point, takes.scale, gives.size, gives.bits, gives.zero_point)
    expected = (BLOCK_VALUES, 8, 0, 1 / PIXEL_SPAN, coder.channels, 16, 0)
    if got != expected:
        raise UnsupportedModelError(
            "a network that is no encoder of this coder",
            where=program.name,
            expected="values, bits, zero point and scale of the input, channels, bits and zero point of the output: "
            f"{expected}",
            got=got,
            cure="quantize the artifact that policyport train codec wrote",
        )


def write_codec(program: Program, coder: CoderModel, width: int, folder: Path) -> None:
    """Write the coder's C.

    :param width: pixels of the widest picture
    :raises UnsupportedModelError: the program is no encoder of the coder
    """
    check_encoder(program, coder)
    for name in (*FILES, BRIDGE_FILE):
        shutil.copyfile(CODEC_FOLDER / name, folder / name)
    (folder / f"{TABLES}.h").write_text(_header(coder, width))
    (folder / f"{TABLES}.c").write_text(_source(coder, program.output.scale))


def _header(coder: CoderModel, width: int) -> str:
    sizes = {
        "CHANNELS": coder.channels,
        "PARTS": len(coder.chunks),
        "TABLES": len(coder.tables),
        "WIDTH_MAX": width,
        "PREDICTED": codec_model.PREDICTED,
        "NEIGHBOURS": codec_model.NEIGHBOURS,
        "REFERENCES": codec_model.REFERENCES,
        "LEVELS": codec_model.LEVELS,
        "SYMBOLS": codec_model.SYMBOLS,
        "REACH": codec_model.REACH,
        "ESCAPE_BITS": codec_model.ESCAPE_BITS,
        "LARGEST": codec_model.LARGEST,
        "LARGEST_MAGNITUDE": codec_model.LARGEST_MAGNITUDE,
    }
    lines = [f"#define PP_CODEC_{name} {value}u" for name, value in sizes.items()]
    return "\n".join(
        [
            f"/* Sizes of the image coder {coder.digest().hex()}, whose tables are in {TABLES}.c. */",
            "#ifndef PP_CODEC_TABLES_H",
            "#define PP_CODEC_TABLES_H",
            "",
            *lines,
            "",
            "#endif",
            "",
        ]
    )


def _source(coder: CoderModel, scale: float) -> str:
    factors = [multiplier(float(step), scale) for step in coder.steps]
    part_of = np.searchsorted(coder.chunks, np.arange(coder.channels), side="right") - 1
    below = np.pad(coder.tables.cumsum(axis=1, dtype=np.int64), ((0, 0), (1, 0))) & 0xFFFF
    return (
        "\n\n".join(
            [
                f'/* Tables of the image coder {coder.digest().hex()}. */\n#include "pp_codec.h"',
                "/* Outputs to 2^32 quantizer steps; the steps in grey levels: "
                f"{', '.join(f'{step:g}' for step in coder.steps)}. */\n"
                + _array("uint32_t pp_codec_factors[PP_CODEC_QUALITIES]", factors, "u"),
                _array("uint8_t pp_codec_offsets[PP_CODEC_CHANNELS]", coder.offsets),
                _array("uint8_t pp_codec_part_of[PP_CODEC_CHANNELS]", part_of),
                _rows(
                    "uint8_t pp_codec_weights[PP_CODEC_CHANNELS][PP_CODEC_NEIGHBOURS + PP_CODEC_REFERENCES]",
                    coder.weights,
                ),
                _rows("uint8_t pp_codec_references[PP_CODEC_CHANNELS][PP_CODEC_REFERENCES]", coder.references),
                _rows("uint8_t pp_codec_table_of[PP_CODEC_CHANNELS][PP_CODEC_LEVELS]", coder.table_of),
                _array("uint16_t pp_codec_thresholds[PP_CODEC_LEVELS - 1u]", codec_model.THRESHOLDS),
                _rows("uint16_t pp_codec_below[PP_CODEC_TABLES][PP_CODEC_SYMBOLS + 1u]", below),
            ]
        )
        + "\n"
    )


def _array(name: str, values: Iterable[Any], suffix: str = "") -> str:
    return f"const {name} = {{{_numbers(values, suffix)}}};"


def _rows(name: str, values: NDArray[Any]) -> str:
    rows = ",\n".join(f"    {{{_numbers(row)}}}" for row in values)
    return f"const {name} = {{\n{rows},\n}};"


def _numbers(values: Iterable[Any], suffix: str = "") -> str:
    return ", ".join(f"{int(value)}{suffix}" for value in values)
