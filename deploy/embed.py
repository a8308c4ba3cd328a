"""What makes a deploy's ``src`` a library of other people's builds: CMake, PlatformIO, a Zephyr module."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

MANIFESTS = Path(__file__).with_name("embed")

BRIDGE = ("pp_bridge.c", "pp_frame.c", "pp_codec_bridge.c")
"""The bridge's device side without a platform."""

PLATFORM = (
    *("main.c", "pp_counter.c", "pp_memory.c", "pp_mlperf.c", "pp_platform.c", "pp_startup.c"),
    *("linux_main.c", "linux_counter.c", "linux_platform.c", "linux_serial.c", "linux_tcp.c"),
)
"""What only a whole firmware has: its start-up, its ways of a Cortex-M or of Linux. So has the board's port."""


def write_manifests(src: Path, name: str, port: str) -> None:
    """Write ``CMakeLists.txt``, ``library.json``, ``Kconfig`` and ``zephyr/module.yml`` beside the sources.

    :param name: of the program
    :param port: file name of the board's UART
    """
    files = sorted(path.name for path in src.iterdir() if path.suffix in (".c", ".S"))
    policy = [file for file in files if file not in (*BRIDGE, *PLATFORM, port)]
    lists = {"POLICY": policy, "BRIDGE": [file for file in BRIDGE if file in files]}
    (src / "zephyr").mkdir()
    for template in ("CMakeLists.txt", "Kconfig", "zephyr/module.yml"):
        text = (MANIFESTS / f"{template}.in").read_text()
        for key, names in lists.items():
            text = text.replace(f"@{key}@", "\n  ".join(names))
        (src / template).write_text(text)
    (src / "library.json").write_text(json.dumps(_platformio(name, policy), indent=2) + "\n")


def _platformio(name: str, policy: list[str]) -> dict[str, object]:
    """The manifest that PlatformIO's library builder reads."""
    kept = "".join(character if character.isalnum() else "-" for character in name)
    return {
        "name": f"policyport-{kept}"[:50],
        "version": version("policyport"),
        "description": f"{name}, compiled to integers by policyport",
        "frameworks": "*",
        "platforms": "*",
        "headers": "policy.h",
        "build": {"srcDir": ".", "includeDir": ".", "srcFilter": ["-<*>", *(f"+<{file}>" for file in policy)]},
    }
