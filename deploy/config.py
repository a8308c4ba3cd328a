"""Options of the deploy and flash stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from policyport.core.amounts import parse_amount
from policyport.core.options import option
from policyport.deploy.variant import VARIANTS


@dataclass(frozen=True)
class DeployConfig:
    """How a quantized network becomes firmware."""

    board: str = option("mps2-an386", "board to build for; policyport doctor lists them")
    toolchain: Literal["auto", "gcc", "zig"] = option(
        "auto", "ARM compiler; auto prefers arm-none-eabi-gcc where it is installed", choices=("auto", "gcc", "zig")
    )
    variant: Literal["auto", "c", "thumb", "dsp", "mve", "neon", "neon_dot"] = option(
        "auto", "kernels; auto takes what is fastest on the core", choices=("auto", *VARIANTS)
    )
    optimize: Literal["size", "speed"] = option(
        "size", "what the kernels save: flash, or instructions for up to twice the flash", choices=("size", "speed")
    )
    ram: str = option(
        "",
        "bytes that activations may take, 64K say; where whole layers take more, some run together by rows",
    )
    picture_width: int = option(
        320, "image encoder: pixels of the widest picture, each takes 31 bytes", low=8, high=65535
    )

    mlperf_tiny: str = option(
        "", "MLPerf Tiny's runner drives the board as well, as the model of that name: ad01, ic01, kws01, vww01, ..."
    )

    @property
    def ram_bytes(self) -> int | None:
        """``ram`` as a number; None where nothing is limited.

        :raises ConfigError: it is none
        """
        return parse_amount("ram", self.ram, 1024, "[deploy]")


@dataclass(frozen=True)
class FlashConfig:
    """How an image gets onto a board."""

    board: str = option("", "board to flash, refused where the image was built for another; empty for the image's own")
    port: str = option("", "pyserial URL of a real board; empty for an emulated one, or what the hardware map says")
    hardware_map: Path | None = option(None, "hardware map that knows the board's port and probe; none: the flags do")
    board_id: str = option("", "USB serial number of the board that is meant, where the hardware map has several")
    probe: str = option(
        "", "serial number of the probe, empty where only one is plugged in; USER@HOST of a board that runs Linux"
    )
    runner: str = option(
        "auto", "program that flashes a real board; auto takes the first that is installed, none leaves what is on it"
    )
    installed: Path | None = option(
        None,
        "update file of policyport sign that the board was given: its images count as the image's; none: no update",
    )
    verify: bool = option(True, "ask the running firmware who it is, afterwards")
    timeout_s: float = option(120.0, "seconds that flashing may take", low=1.0)
    wait_s: float = option(0.0, "seconds to wait for a port that another process holds", low=0.0)
