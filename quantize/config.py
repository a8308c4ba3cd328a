"""Options of the quantize stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from policyport.core.errors import ConfigError
from policyport.core.options import option
from policyport.quantize.budget import Budget

WEIGHT_BITS = (8, 4, 3, 2)
"""Widths of weights that the device stores and unpacks."""

ROUNDED_BITS = (8, 7, 6, 5, 4, 3, 2)
"""Widths that weights can be rounded to; those of 5 to 7 bits are stored as bytes."""

ACTIVATION_BITS = (16, 8, 7, 6, 5, 4, 3, 2)
"""Widths that an activation can have; one of 2 to 7 bits is stored as a byte of which it uses ``2**bits`` values."""

HIDDEN_BITS = (8, 7, 6, 5, 4, 3, 2)
"""Those that int8 activations can be told to have."""


@dataclass(frozen=True)
class QuantizeConfig:
    """How a float network becomes integers."""

    activations: Literal["auto", "int8", "int16"] = option(
        "auto",
        "width of activations; auto takes int8 where it keeps the actions, else int8 with input and output of 16 bits "
        "where that does, else int16",
        choices=("auto", "int8", "int16"),
    )
    activation_bits: int = option(
        8,
        "int8 activations: width of all but the network's input and output, in bits; fewer than 8 are stored as bytes",
        choices=HIDDEN_BITS,
    )
    input_bits: int | None = option(
        None,
        "width of the network's input, in bits; with 16 small changes of a feature are seen; none takes that of "
        "activations, 8 or 16, and where auto tries wide ends 16, but 8 of an image",
        choices=ACTIVATION_BITS,
    )
    output_bits: int | None = option(
        None,
        "width of the network's output, in bits; with 16 close values do not become equal; none takes that "
        "of activations, 8 or 16, and where auto tries wide ends 16",
        choices=ACTIVATION_BITS,
    )
    weight_bits: int = option(
        8, "width of weights, in bits; those of 5 to 7 are stored as bytes", choices=ROUNDED_BITS, alias="weights"
    )
    method: Literal["lattice", "blocks", "adaround", "gptq", "nearest", "qat"] = option(
        "lattice",
        "how weights are rounded: integer least squares; these, then learned up or down over blocks of layers; learned "
        "layer by layer; one after the other; each by itself; or trained, from integer least squares on, to the float "
        "network's outputs",
        choices=("lattice", "blocks", "adaround", "gptq", "nearest", "qat"),
    )
    trained: bool = option(
        True, "take the integers that quantization-aware training left, where the model has them, whatever else is said"
    )
    blocks_iterations: int = option(3_000, "method blocks: of each block", low=1)
    blocks_learning_rate: float = option(1e-2, "method blocks: of Adam", low=0.0)
    blocks_drop: float = option(
        0.5, "method blocks: share of activations left unrounded while a block learns (QDrop)", low=0.0, high=1.0
    )
    blocks_input_drop: float = option(
        0.0,
        "method blocks: share of a block's input taken from the float network meanwhile; QDrop's is 0.5",
        low=0.0,
        high=1.0,
    )
    blocks_fisher: bool = option(False, "method blocks: weigh errors by how far the network's outputs move with them")
    blocks_layers: int = option(1, "method blocks: layers with weights that a block holds at least", low=1)
    blocks_seed: int = option(0, "method blocks: of the order of the observations and of what is left unrounded", low=0)
    adaround_iterations: int = option(10_000, "method adaround: of each layer, the paper's 10,000", low=1)
    adaround_learning_rate: float = option(
        1e-2, "method adaround: of Adam; the paper's 1e-3 has not converged after the paper's iterations", low=0.0
    )
    adaround_batch: int = option(32, "method adaround: observations of an iteration, the paper's 32", low=1)
    adaround_seed: int = option(0, "method adaround: of the order of the observations", low=0)
    prove_nodes: int = option(
        0, "method lattice: integers that branch and bound tries for each row, to prove or better it; 0 for none", low=0
    )
    last_layer: bool = option(
        False,
        "solve the last layer anew on the features that the integers before it yield, by integer least squares; taken "
        "where observations that it was not solved on gain beyond noise",
    )
    qat_epochs: int = option(100, "method qat: passes over the observations at the most", low=1)
    qat_learning_rate: float = option(1e-3, "method qat: of Adam, falling to zero over the passes", low=0.0)
    qat_seed: int = option(0, "method qat: of the order of the observations", low=0)
    layer_weight_bits: tuple[str, ...] = option(
        (), "layers whose weights have another width, each NAME=BITS; layers.json has the names"
    )
    layer_activation_bits: tuple[str, ...] = option(
        (), "outputs of operators, or the input, that have another width, each NAME=BITS (16, 8 to 2)"
    )
    per_channel: bool = option(True, "a scale for the weights of each output channel, else one for a layer")
    symmetric: bool = option(False, "activations of 8 bits or fewer with zero point 0, as those of 16 always have")
    agreement_target: float = option(
        0.99, "auto, discrete actions: share of actions that int8 must have in common with float32", low=0.0, high=1.0
    )
    action_tolerance: float = option(
        0.01, "auto, continuous actions: largest mean action error of int8, as a share of the action range", low=0.0
    )
    calibrator: Literal["auto", "minmax", "moving_average", "percentile", "mse", "entropy"] = option(
        "auto",
        "how a range is taken from observed values; auto takes minmax, and mse for activations of fewer than 8 bits",
        choices=("auto", "minmax", "moving_average", "percentile", "mse", "entropy"),
    )
    moving_average: float = option(
        0.1, "calibrator moving_average: how far each batch of 32 observations moves the range", low=0.0, high=1.0
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
    equalize: bool = option(
        False, "cross-layer equalization: give the channels between two layers one common range of weights"
    )
    bias_correction: bool = option(True, "shift biases by the mean error that quantization leaves on the observations")
    centre_outputs: bool = option(
        True, "argmax actions: subtract from every output the mean of all, which leaves the action as it is"
    )

    flash_budget: str = option(
        "", "bytes for weights, biases and tables, e.g. 16K; with a budget each layer gets a width, at most weight_bits"
    )
    ram_budget: str = option("", "bytes for activations, e.g. 2K")
    instructions_budget: str = option("", "instructions of an inference, estimated, e.g. 20K for 20,000")
    board: str = option(
        "",
        "with a budget: board whose kernels flash, RAM and instructions are those of, in a recipe the one of [deploy]; "
        "without one, fully connected layers on a Cortex-M4 are estimated",
    )
    optimize: Literal["size", "speed"] = option(
        "size", "with a board: what its kernels will save, as deploy's optimize", choices=("size", "speed")
    )

    @property
    def budget(self) -> Budget:
        """What the network may cost.

        :raises ConfigError: what is given is no number
        """
        return Budget.parse(self.flash_budget, self.ram_budget, self.instructions_budget)

    def calibrator_for(self, bits: int) -> str:
        """The calibrator of an activation of that width."""
        if self.calibrator != "auto":
            return self.calibrator
        return "minmax" if bits >= 8 else "mse"

    def layer_bits(self, names: tuple[str, ...]) -> Mapping[str, int]:
        """Width of the weights of each layer.

        :param names: of all layers of the network
        :raises ConfigError: ``layer_weight_bits`` names another layer or width
        """
        chosen = _by_name("layer_weight_bits", self.layer_weight_bits, names, ROUNDED_BITS)
        return {**dict.fromkeys(names, self.weight_bits), **chosen}

    def tensor_bits(self, names: tuple[str, ...]) -> Mapping[str, int]:
        """Widths of those activations that have one of their own.

        :param names: of the input and of all operators' outputs
        :raises ConfigError: ``layer_activation_bits`` names another tensor or width
        """
        return _by_name("layer_activation_bits", self.layer_activation_bits, names, ACTIVATION_BITS)


def _by_name(key: str, entries: tuple[str, ...], names: tuple[str, ...], widths: tuple[int, ...]) -> dict[str, int]:
    """Entries NAME=BITS as a mapping."""
    found = {}
    for entry in entries:
        name, _, bits = entry.rpartition("=")
        if name not in names or bits not in map(str, widths):
            raise ConfigError(
                f"{key} does not take this value",
                where="[quantize]",
                expected=f"NAME=BITS; names: {', '.join(names)}; bits: {', '.join(map(str, widths))}",
                got=entry,
            )
        found[name] = int(bits)
    return found
