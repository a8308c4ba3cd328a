"""Chooses widths: int8 activations where they keep the actions, then with input and output of 16 bits, else int16.

Or, within a budget, layer by layer.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from policyport.core.artifact import code_version
from policyport.core.errors import ConfigError
from policyport.quantize.config import WEIGHT_BITS, QuantizeConfig
from policyport.quantize.cost import CostModel, Estimate
from policyport.quantize.decided import above_zero
from policyport.quantize.graph import FloatGraph
from policyport.quantize.kept_layers import kept
from policyport.quantize.layer_data import Rounding
from policyport.quantize.metrics import Closeness, closeness
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.new_head import HeadChoice, post_trained
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.qat import Objective, QatSettings, finetune
from policyport.quantize.rounding.adaround import AdaRoundSettings
from policyport.quantize.rounding.block_sides import IntegerSide
from policyport.quantize.rounding.branch_and_bound import Proof
from policyport.quantize.rounding.methods import Method, Prover, rounding
from policyport.quantize.rounding.reconstruct import BlockResult, BlockSettings, reconstruct
from policyport.quantize.simulate import predict
from policyport.quantize.source import Source
from policyport.quantize.trained import read_trained
from policyport.quantize.widths import Chosen, within

CODE = Path(__file__).parent
"""What decides how layers are rounded."""

WIDE_ENDS = "int8-wide-ends"
"""Activations of 8 bits, but input and output of 16: what an action hangs on most, and costs an inference little."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A network at one activation width, and how it does."""

    activations: str
    """``int8``, :data:`WIDE_ENDS`, ``int16``, or ``mixed``"""

    network: QuantizedNetwork
    calibration: Closeness
    """On the observations it was calibrated with."""

    held_out: Closeness
    """On observations of other episodes: these are reported."""

    head: HeadChoice | None = None
    """What became of the last layer, where it was to be solved anew."""

    proofs: Mapping[str, Proof] = field(default_factory=dict)
    """What was proven of each layer's rounding, where it was asked for."""

    blocks: tuple[BlockResult, ...] = ()
    """What became of each block, where rounding was learned by blocks."""

    chosen: Chosen | None = None
    """How widths were chosen within a budget, where there is one."""

    def suffices(self, config: QuantizeConfig) -> bool:
        """Whether its actions are close enough to the float ones, on both."""
        return all(_close(part, config) for part in (self.calibration, self.held_out))


def _close(found: Closeness, config: QuantizeConfig) -> bool:
    if found.action_agreement is not None:
        return found.action_agreement >= config.agreement_target
    return found.action_error is not None and found.action_error <= config.action_tolerance


def candidates(
    source: Source, config: QuantizeConfig, partial: Path | None = None, costs: CostModel | None = None
) -> list[Candidate]:
    """The networks tried, the chosen one last.

    :param partial: a folder for the state of a training, which is gone on from
    :param costs: what a budget is kept by; None for :class:`policyport.quantize.cost.Estimate`
    :raises ConfigError: nothing is within the budget
    """
    if source.integers is not None and config.trained:
        log.info("the integers of quantization-aware training are taken as they are")
        network = read_trained(source.graph, source.integers)
        return [_judged(source, _width(network), network)]
    _check_activations(config)
    if not config.budget.is_open:
        return [_within_budget(source, config, partial, costs or Estimate())]
    if config.activations != "auto":
        return [_candidate(source, config, config.activations, partial)]
    wide = with_wide_ends(config, source.graph)
    ladder = {"int8": config, **({} if wide == config else {WIDE_ENDS: wide})}
    ladder |= {"int16": config} if config.activation_bits == 8 else {}
    tried: list[Candidate] = []
    for activations, options in ladder.items():
        tried.append(_candidate(source, options, activations, partial))
        if tried[-1].suffices(config):
            break
        log.info("%s activations do not keep the actions (%s)", activations, tried[-1].calibration)
    return tried


def with_wide_ends(config: QuantizeConfig, graph: FloatGraph) -> QuantizeConfig:
    """The options with input and output of 16 bits where none of them has a width yet; an image stays as it is."""
    vector = len(graph.input_shape) == 1
    input_bits = 16 if vector and config.input_bits is None else config.input_bits
    return dataclasses.replace(config, input_bits=input_bits, output_bits=config.output_bits or 16)


def _width(network: QuantizedNetwork) -> str:
    """The name of a network's activation widths."""
    ends = network.input.stored_bits, network.output.stored_bits
    hidden = [node.output.stored_bits for node in network.nodes if node.name != network.output_name]
    return WIDE_ENDS if max(hidden, default=8) < max(ends) else f"int{max(*hidden, *ends)}"


def _within_budget(source: Source, config: QuantizeConfig, partial: Path | None, costs: CostModel) -> Candidate:
    heads: list[HeadChoice | None] = []

    def whole(chosen: QuantizeConfig) -> QuantizedNetwork:
        widths = (entry.rpartition("=")[2] for entry in (*chosen.layer_weight_bits, *chosen.layer_activation_bits))
        network = quantized(source, chosen, 16, partial and partial / f"{'-'.join(widths)}.pt")
        network, head = _headed(source, network, chosen)
        heads.append(head)
        return network

    found = within(source, config, config.budget, costs, _measuring(config), whole)
    return dataclasses.replace(_judged(source, "mixed", found.network), chosen=found, head=heads[-1])


def _measuring(config: QuantizeConfig) -> Rounding:
    """What rounds while widths are measured: the configured method, or the default in place of those that train."""
    method = "lattice" if config.method in ("blocks", "qat", "adaround") else config.method
    return rounding(cast(Method, method), refit_bias=config.bias_correction)


def _candidate(source: Source, config: QuantizeConfig, activations: str, partial: Path | None) -> Candidate:
    bits = 16 if activations == "int16" else 8
    prover = Prover(config.prove_nodes) if config.prove_nodes else None
    told: list[BlockResult] = []
    network = quantized(source, config, bits, partial and partial / f"{activations}.pt", prover, told)
    found: dict[str, Any] = {"proofs": dict(prover.proofs) if prover else {}, "blocks": tuple(told)}
    network, head = _headed(source, network, config)
    return dataclasses.replace(_judged(source, activations, network), head=head, **found)


def _headed(
    source: Source, network: QuantizedNetwork, config: QuantizeConfig
) -> tuple[QuantizedNetwork, HeadChoice | None]:
    """The network with its last layer solved anew where that is asked for and better, and what was decided by."""
    if not config.last_layer or config.method == "qat":
        return network, None
    return post_trained(source.graph, network, source.observations, source.task, config)


def _judged(source: Source, activations: str, network: QuantizedNetwork) -> Candidate:
    calibration, held_out = (
        closeness(source.task, source.graph.evaluate(part), predict(network, part))
        for part in (source.observations, source.held_out)
    )
    return Candidate(activations, network, calibration, held_out)


def quantized(
    source: Source,
    config: QuantizeConfig,
    bits: int,
    state: Path | None = None,
    prover: Prover | None = None,
    told: list[BlockResult] | None = None,
) -> QuantizedNetwork:
    """The network by the configured method; one that calls labels present decides as its outputs before rounding.

    :param bits: of activations
    :param state: a file for the state of a training; layers and blocks that are rounded are kept in folders beside it
    :param prover: searches on from what the lattice found
    :param told: is given what became of each block
    """
    network = _by_method(source, config, bits, state, prover, told)
    return above_zero(network) if source.task.action_rule == "threshold" else network


def _by_method(
    source: Source,
    config: QuantizeConfig,
    bits: int,
    state: Path | None,
    prover: Prover | None,
    told: list[BlockResult] | None,
) -> QuantizedNetwork:
    _check_widths(config)
    method = cast(Method, "lattice" if config.method in ("blocks", "qat") else config.method)
    learning = AdaRoundSettings(
        iterations=config.adaround_iterations,
        learning_rate=config.adaround_learning_rate,
        batch=config.adaround_batch,
        seed=config.adaround_seed,
    )
    round_layer = rounding(method, refit_bias=config.bias_correction, learning=learning, prover=prover)
    if state is not None and method != "nearest":
        decides = repr((method, config.bias_correction, learning, prover and prover.nodes, code_version(CODE)))
        round_layer = kept(round_layer, state.parent / "layers", decides, prover)
    network = quantize_graph(source.graph, source.observations, config, bits, round_layer)
    if config.method == "blocks":
        side = IntegerSide(network, round_layer, per_channel=config.per_channel, bias_correction=config.bias_correction)
        learned = reconstruct(
            side, source.observations, _block_settings(config), state and state.with_suffix(".blocks")
        )
        if told is not None:
            told.extend(learned.blocks)
        return side.with_grids(learned.grids)
    if config.method != "qat":
        return network
    targets = source.graph.evaluate(source.observations)
    settings = QatSettings(config.qat_epochs, learning_rate=config.qat_learning_rate, seed=config.qat_seed)
    return finetune(network, source.observations, targets, Objective.of(source.task, targets), settings, state).network


def _check_activations(config: QuantizeConfig) -> None:
    """Refuse few levels beside what knows 8 and 16 bits alone.

    :raises ConfigError: activations of 16 bits and of fewer than 8 are asked for, or a budget is to choose among them
    """
    few = config.activation_bits < 8
    if few and config.activations == "int16":
        raise ConfigError(
            "activations of fewer than 8 bits are stored as int8",
            where="[quantize] activation_bits",
            expected="activations int8 or auto",
            got=f"{config.activation_bits} bits, activations int16",
        )
    ends = (config.input_bits, config.output_bits)
    named = [entry for entry in config.layer_activation_bits if entry.rpartition("=")[2] not in ("8", "16")]
    if not config.budget.is_open and (few or named or any(end is not None for end in ends)):
        raise ConfigError(
            "a budget chooses activations of 8 or 16 bits",
            where="[quantize]",
            expected="activation_bits 8, no input_bits or output_bits, layer_activation_bits of 8 or 16",
            got=", ".join(named) or f"{config.activation_bits}, {ends[0]}, {ends[1]}",
            cure="name tensors by layer_activation_bits, 8 or 16 bits each, or leave the budget out",
        )


def _check_widths(config: QuantizeConfig) -> None:
    """Refuse widths that only rounding knows, where a method learns integers as they are stored.

    :raises ConfigError: a width of 5 to 7 bits with such a method
    """
    given = {str(config.weight_bits), *(entry.rpartition("=")[2] for entry in config.layer_weight_bits)}
    odd = sorted(given - set(map(str, WEIGHT_BITS)))
    if odd and config.method in ("blocks", "qat"):
        raise ConfigError(
            f"method {config.method} does not learn weights of this width",
            where="[quantize] weight_bits",
            expected=", ".join(map(str, WEIGHT_BITS)),
            got=", ".join(odd),
            cure="another method: lattice, adaround, gptq, nearest",
        )


def _block_settings(config: QuantizeConfig) -> BlockSettings:
    return BlockSettings(
        iterations=config.blocks_iterations,
        learning_rate=config.blocks_learning_rate,
        drop=config.blocks_drop,
        input_drop=config.blocks_input_drop,
        fisher=config.blocks_fisher,
        least_layers=config.blocks_layers,
        seed=config.blocks_seed,
    )
