"""Every error that policyport raises on purpose, as one tree.

    PolicyportError
    ├── GateError               1   it ran, and a stated requirement was not met
    ├── UsageError              2   what the caller asked for cannot be done as asked
    │   ├── ConfigError             a recipe key or a command-line option
    │   ├── ArtifactError           a missing, torn, altered or foreign artifact
    │   ├── UnsupportedModelError   an operator, shape or value range outside the integer semantics
    │   ├── ObservationError        an observation of a wrong shape, or with NaN or infinity in it
    │   └── ToolError               a compiler, emulator or package that is missing or failed
    ├── BoardError              3   no board, a busy board, a board that does not answer
    │   ├── BoardBusyError
    │   ├── BoardTimeoutError
    │   └── BoardFaultError         the firmware reported a fault or an unexpected reset
    └── ProtocolError           4   frames or numbers that contradict the contract
        ├── RefusedError            the board answered a request with a status that says why not
        ├── IdentityError           the firmware on the board is not the one expected
        └── ParityError             the board's integers differ from the reference

The number is the exit code of the command line. Anything else that escapes is a bug of policyport.
"""

from __future__ import annotations


class PolicyportError(Exception):
    """An error that a user can act on.

    :param what: what failed, in one sentence without a final full stop
    :param where: the file, key, port, board or layer it concerns
    :param expected: what was expected there
    :param got: what was found instead
    :param cure: the next thing to do, best a command
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        got: object = None,
        cure: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.cure = cure
        super().__init__(self.describe())

    def describe(self) -> str:
        """The whole message: what, where, expected against got, cure; a line each where given."""
        parts = [self.what if self.where is None else f"{self.what} ({self.where})"]
        if self.expected is not None:
            parts.append(f"  expected: {self.expected}")
        if self.got is not None:
            parts.append(f"  got:      {self.got}")
        if self.cure is not None:
            parts.append(f"  cure:     {self.cure}")
        return "\n".join(parts)


class GateError(PolicyportError):
    """The run finished, and a requirement stated beforehand was not met."""

    exit_code = 1


class UsageError(PolicyportError):
    """What the caller asked for cannot be done as asked."""

    exit_code = 2


class ConfigError(UsageError):
    """A recipe key or a command-line option that is unknown or has a value outside its range."""


class ArtifactError(UsageError):
    """An artifact that is missing, torn, altered, of another kind or of another schema version."""


class UnsupportedModelError(UsageError):
    """An operator, a shape or a value range that the integer semantics do not cover."""


class ObservationError(UsageError):
    """An observation of a wrong shape, or one that holds NaN or infinity."""


class ToolError(UsageError):
    """A compiler, an emulator or a package that is missing, or that failed at its work."""


class BoardError(PolicyportError):
    """No board, or one that cannot be used."""

    exit_code = 3


class BoardBusyError(BoardError):
    """Another process holds the board's port."""


class BoardTimeoutError(BoardError):
    """The board did not answer in time."""


class BoardFaultError(BoardError):
    """The firmware reported a processor fault, or restarted when nobody asked it to."""


class ProtocolError(PolicyportError):
    """Bytes or numbers from the board that contradict the contract."""

    exit_code = 4


class RefusedError(ProtocolError):
    """The board refused a request.

    :param status: the reply's status, see docs/bridge-protocol.md
    """

    def __init__(self, what: str, *, status: int, where: object = None, got: object = None) -> None:
        self.status = status
        super().__init__(what, where=where, got=got)


class IdentityError(ProtocolError):
    """The firmware on the board is another than the one expected: its build id differs."""


class ParityError(ProtocolError):
    """The board's integers differ from the integer reference."""
