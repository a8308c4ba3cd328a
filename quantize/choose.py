"""Chooses the width of activations: int8 where it keeps the actions, else int16."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from policyport.quantize.config import QuantizeConfig
from policyport.quantize.metrics import Closeness, closeness
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.rounding.methods import rounding
from policyport.quantize.simulate import predict
from policyport.quantize.source import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A network at one activation width, and how it does."""

    activations: str
    """``int8`` or ``int16``"""

    network: QuantizedNetwork
    calibration: Closeness
    """On the observations it was calibrated with: the choice is made by these."""

    held_out: Closeness
    """On observations of other episodes: these are reported."""

    def suffices(self, config: QuantizeConfig) -> bool:
        """Whether its actions are close enough to the float ones."""
        agreement, error = self.calibration.action_agreement, self.calibration.action_error
        if agreement is not None:
            return agreement >= config.agreement_target
        return error is not None and error <= config.action_tolerance


def candidates(source: Source, config: QuantizeConfig) -> list[Candidate]:
    """The networks tried, the chosen one last."""
    if config.activations != "auto":
        return [_candidate(source, config, config.activations)]
    narrow = _candidate(source, config, "int8")
    if narrow.suffices(config):
        return [narrow]
    log.info("int8 activations do not keep the actions (%s); int16 instead", narrow.calibration)
    return [narrow, _candidate(source, config, "int16")]


def _candidate(source: Source, config: QuantizeConfig, activations: str) -> Candidate:
    bits = 8 if activations == "int8" else 16
    round_layer = rounding(config.method, refit_bias=config.bias_correction)
    network = quantize_graph(source.graph, source.observations, config, bits, round_layer)
    figures = [
        closeness(source.task, source.graph.evaluate(part), predict(network, part))
        for part in (source.observations, source.held_out)
    ]
    return Candidate(activations, network, *figures)
