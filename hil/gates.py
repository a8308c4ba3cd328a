"""Gates: requirements that the configuration states, judged after everything was measured."""

from __future__ import annotations

from policyport.core.errors import GateError
from policyport.hil.config import HilConfig
from policyport.hil.result import Gate, GateState, LoopFigures, RecognitionFigures


def judge(
    config: HilConfig, loop: LoopFigures | None, recognition: RecognitionFigures | None = None
) -> tuple[Gate, ...]:
    """One verdict per gate that the configuration states and the measurement can tell."""
    gates: list[Gate] = []
    measured = loop or recognition
    if measured is not None and config.min_agreement > 0:
        got, passed = f"{measured.agreement:.4f}", measured.agreement >= config.min_agreement
        gates.append(Gate("min_agreement", f"at least {config.min_agreement:.4f}", got, passed))
    if recognition is not None and config.max_f1_loss is not None:
        least = recognition.float_f1 - config.max_f1_loss
        passed = recognition.board_f1 >= least
        gates.append(Gate("max_f1_loss", f"mean F1 of at least {least:.4f}", f"{recognition.board_f1:.4f}", passed))
    if loop is None:
        return tuple(gates)
    if config.min_return is not None:
        passed = loop.board.mean >= config.min_return
        gates.append(Gate("min_return", f"at least {config.min_return:g}", f"{loop.board.mean:g}", passed))
    if config.require_equivalence:
        test = loop.equivalence
        required = f"mean return within {test.margin:g} of float32's"
        got = f"difference {test.difference:g}, interval {test.low:g} to {test.high:g}, p {test.p_value:.3g}"
        gates.append(Gate("require_equivalence", required, got, test.equivalent))
    return tuple(gates)


def verdict(gates: tuple[Gate, ...]) -> GateState:
    """``failed`` where any gate did, ``none`` where there is none."""
    if not gates:
        return "none"
    return "passed" if all(gate.passed for gate in gates) else "failed"


def require_passed(gates: tuple[Gate, ...], where: object) -> None:
    """Raise for the gates that failed.

    :raises GateError: names the first one that failed, and how many did
    """
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        raise GateError(
            f"{len(failed)} of {len(gates)} gates failed; first: {failed[0].name}",
            where=where,
            expected=failed[0].required,
            got=failed[0].got,
        )
