"""Options of the quantize stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policyport.core.options import option


@dataclass(frozen=True)
class QuantizeConfig:
    """How a float network becomes integers."""

    activations: Literal["auto", "int8", "int16"] = option(
        "auto",
        "width of activations; auto takes int8 where it keeps the actions, else int16",
        choices=("auto", "int8", "int16"),
    )
    weight_bits: int = option(8, "width of weights, in bits", choices=(8,))
    agreement_target: float = option(
        0.99, "auto, discrete actions: share of actions that int8 must have in common with float32", low=0.0, high=1.0
    )
    action_tolerance: float = option(
        0.02, "auto, continuous actions: largest mean action error of int8, as a share of the action range", low=0.0
    )
    calibrator: Literal["minmax", "percentile", "mse"] = option(
        "minmax", "how a range is taken from observed values", choices=("minmax", "percentile", "mse")
    )
    percentile: float = option(
        99.99, "calibrator percentile: upper percentile of the range, the lower is its mirror", low=50.0, high=100.0
    )
    headroom: float = option(
        1.25, "int16: how far a range reaches beyond what was observed, as a factor", low=1.0, high=8.0
    )
    input_gain: bool = option(
        True, "scale each feature to one common range on the host, undone in the first layer's weights"
    )
    bias_correction: bool = option(True, "shift biases by the mean error that quantization leaves on the observations")
    centre_outputs: bool = option(
        True, "argmax actions: subtract from every output the mean of all, which leaves the action as it is"
    )
