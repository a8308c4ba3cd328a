"""What the ``hil`` stage can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from policyport.core.options import option


@dataclass(frozen=True)
class HilConfig:
    """Options of the ``hil`` stage."""

    episodes: int = option(20, "closed-loop episodes, every action chosen by the board; 0 for none", low=0)
    seed: int = option(1000, "episode i is reset with seed + i", low=0)
    parity_observations: int = option(64, "held-out observations whose every layer is compared", low=1)
    latency_observations: int = option(256, "held-out observations whose inference is counted", low=1)
    pictures: int = option(
        256, "held-out pictures that a classifier recognizes, or an image encoder codes; 0 for none", low=0
    )
    qualities: tuple[int, ...] = option((2, 6, 10), "at which an image encoder's pictures are coded", low=0, high=15)
    coded_files: int = option(
        3, "files of these, pictures and qualities in turn, that the board makes and sends back", low=1
    )
    test_images: Path | None = option(
        None, "folder of photographs that an image encoder codes; none takes those of packages"
    )
    emulator: str = option("auto", "who runs the board where no port is given", choices=("auto", "qemu", "unicorn"))
    port: str = option("", "pyserial URL of a real board; empty for what was flashed, a real or an emulated one")
    hardware_map: Path | None = option(None, "hardware map that knows the board's port; none: the flag or flash does")
    board_id: str = option("", "USB serial number of the board that is meant, where the hardware map has several")
    baud: int = option(0, "bits per second of the serial line; 0 for the board's own", low=0)
    timeout_s: float = option(2.0, "seconds until a request is sent again", low=0.01)
    retries: int = option(3, "times a request is sent again", low=0)
    wait_s: float = option(0.0, "seconds to wait for a port that another process holds", low=0.0)
    period_s: float = option(0.0, "control period in seconds for the count of missed deadlines; 0 for none", low=0.0)
    power_meter: str = option(
        "", "instrument in a real board's supply, NAME or NAME:ARGUMENT (docs/energy.md); empty for no energy"
    )
    energy_s: float = option(10.0, "seconds of inferences whose energy is measured", low=0.1)
    delay_steps: tuple[int, ...] = option(
        (), "play the episodes again with actions that come so many steps late, once for each; 0 is the loop", low=0
    )
    margin: float = option(
        0.0,
        "equivalence margin in units of return; 0 for a share of the span from random actions to float32",
        low=0.0,
    )
    margin_share: float = option(
        5.0, "equivalence margin in % of the span from random actions' mean return to float32's", low=0.0
    )
    min_agreement: float = option(0.0, "gate: share of actions that equal float32's; 0 for none", low=0.0, high=1.0)
    min_return: float | None = option(None, "gate: mean return on the board")
    max_f1_loss: float | None = option(None, "gate: mean F1 of a classifier may lie this far below float32's")
    require_equivalence: bool = option(False, "gate: mean return equivalent to float32's within the margin")
