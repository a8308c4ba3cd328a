"""A client of MLPerf Tiny's commands, written from docs/mlperf-tiny.md: what its runner does in performance mode."""

from __future__ import annotations

import re
from dataclasses import dataclass

import serial

BYTES_IN_A_COMMAND = 31


@dataclass(frozen=True)
class Run:
    """What ``infer`` answered."""

    begin_us: int
    end_us: int
    results: tuple[float, ...]
    lines: tuple[str, ...]


class Client:
    """Commands over an open port."""

    def __init__(self, port: serial.SerialBase) -> None:
        self._port = port

    def ask(self, command: str) -> list[str]:
        """The lines that answer a command, without ``m-ready``; what came before is not looked at."""
        self._port.reset_input_buffer()
        self._port.write(command.encode() + b"%")
        lines = []
        while (line := self._line()) != "m-ready":
            lines.append(line)
        return lines

    def load(self, data: bytes) -> None:
        """The bytes of an input."""
        assert self.ask(f"db load {len(data)}") == [f"m-[Expecting {len(data)} bytes]"]
        for at in range(0, len(data), BYTES_IN_A_COMMAND):
            part = data[at : at + BYTES_IN_A_COMMAND]
            ends = at + len(part) == len(data)
            assert self.ask(f"db {part.hex()}") == (["m-load-done"] if ends else [])

    def infer(self, count: int, warm_ups: int) -> Run:
        """Inferences of what was loaded."""
        lines = self.ask(f"infer {count} {warm_ups}")
        laps = [int(found[1]) for line in lines if (found := re.fullmatch(r"m-lap-us-(\d+)", line))]
        (results,) = [found[1] for line in lines if (found := re.fullmatch(r"m-results-\[([^]]+)]", line))]
        begin_us, end_us = laps
        return Run(begin_us, end_us, tuple(float(value) for value in results.split(",")), tuple(lines))

    def _line(self) -> str:
        line = self._port.read_until(b"\r\n")
        assert line.endswith(b"\r\n"), f"no whole line in time: {line!r}"
        return line[:-2].decode(errors="ignore").rpartition("\0")[2]  # the board's announcement may come before
