"""What is open and has to be closed."""

from __future__ import annotations

from typing import Self


class Closing:
    """Closed at the end of a ``with`` block."""

    def close(self) -> None:
        """Let go of whatever is held; does nothing the second time."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
