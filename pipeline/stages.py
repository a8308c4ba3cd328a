"""The stages in their order: what each reads, and where its function, options and code are found.

Nothing of a stage is imported before it is asked for, so that ``--help`` stays quick and a machine
without torch can do everything but train.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policyport.core.artifact import Artifact, code_version, sha256_file


@dataclass(frozen=True)
class Stage:
    """One stage, by the names under which its parts are imported (``module:attribute``)."""

    name: str
    """Also its command, its recipe table and its folder in a run."""

    summary: str
    """What it does, in one line."""

    function: str
    """``(*inputs, config, out) -> Artifact``"""

    options: str
    """Its configuration dataclass."""

    code: str
    """Its ``CODE``: the source folders that its key depends on."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name of each input, in the function's order, to the stage whose artifact it takes in a run."""

    takes: Mapping[str, str] = field(default_factory=dict)
    """Name of each input to what may be given there, in one line."""

    machine: str = ""
    """``(config) -> dict``: programs of this machine that the outcome depends on, name to version; empty for none."""

    board_machine: str = ""
    """``(config, board) -> dict``: those that depend on the board too, whose artifact is the input ``board``."""

    extras: str = ""
    """``(config) -> dict``: further keyword arguments of the function; empty for none."""

    checker: str = ""
    """``(config, out) -> str``: why a finished artifact does not hold any more; empty for none."""

    preflight: str = ""
    """``(configs) -> None``: raises for what the machine lacks or the recipe contradicts; empty for none."""

    writes: str = ""
    """The kind of artifact it writes, where that is another stage's; empty for its own."""

    @property
    def kind(self) -> str:
        """The kind of artifact it writes."""
        return self.writes or self.name

    def config_type(self) -> type[Any]:
        """The configuration dataclass."""
        found: type[Any] = _import(self.options)
        return found

    def code_version(self) -> str:
        """Hash of the stage's source."""
        return code_version(*_import(self.code))

    def config_inputs(self, config: Any, inputs: Mapping[str, Path]) -> dict[str, str]:
        """What the configuration stands for: hashes of the files it names, versions of the programs it picks.

        :param inputs: path of each input, by name
        """
        values = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
        files = {name: sha256_file(v) for name, v in values.items() if isinstance(v, Path) and v.is_file()}
        programs = _import(self.machine)(config) if self.machine else {}
        board = _import(self.board_machine)(config, inputs["board"]) if self.board_machine else {}
        return files | programs | board

    def check(self, config: Any, out: Path) -> str:
        """Why what lies at ``out`` does not hold any more, for reasons outside of it; empty where it does."""
        return str(_import(self.checker)(config, out)) if self.checker else ""

    def require(self, configs: Mapping[str, Any]) -> None:
        """Raise for what the stage will lack.

        :param configs: stage to its configuration, of the whole recipe
        """
        if self.preflight:
            _import(self.preflight)(configs)

    def run(self, inputs: Mapping[str, Path], config: Any, out: Path) -> Artifact:
        """Run it.

        :param inputs: path of each input, by name
        """
        more = _import(self.extras)(config) if self.extras else {}
        artifact: Artifact = _import(self.function)(*(inputs[name] for name in self.inputs), config, out, **more)
        return artifact


def _import(path: str) -> Any:
    module, attribute = path.split(":")
    return getattr(importlib.import_module(module), attribute)


STAGES: tuple[Stage, ...] = (
    Stage(
        "train",
        "train a policy with Stable-Baselines3 and export its deterministic actor to float32 ONNX",
        function="policyport.train.stage:train",
        options="policyport.train.config:TrainConfig",
        code="policyport.train.stage:CODE",
        machine="policyport.train.stage:machine_inputs",
    ),
    Stage(
        "quantize",
        "turn a float32 network into integers: QDQ ONNX, calibrated on the policy's own observations",
        function="policyport.quantize.stage:quantize",
        options="policyport.quantize.config:QuantizeConfig",
        code="policyport.quantize.stage:CODE",
        machine="policyport.pipeline.board_cost:quantize_inputs",
        extras="policyport.pipeline.board_cost:quantize_arguments",
        inputs={"model": "train"},
        takes={
            "model": "folder of a train artifact; an agent's .zip; or a float32 .onnx, .tflite or .pt2 with task.json "
            "and observations.npz beside it"
        },
    ),
    Stage(
        "deploy",
        "compile a quantized network to C and build the firmware of a board",
        function="policyport.deploy.stage:deploy",
        options="policyport.deploy.config:DeployConfig",
        code="policyport.deploy.stage:CODE",
        machine="policyport.deploy.stage:machine_inputs",
        preflight="policyport.pipeline.preflight:deploy",
        inputs={"model": "quantize"},
        takes={"model": "folder of a quantize artifact, or a QDQ .onnx"},
    ),
    Stage(
        "flash",
        "put the firmware on the board, real or emulated, and ask it who it is",
        function="policyport.deploy.flash:flash",
        options="policyport.deploy.config:FlashConfig",
        code="policyport.deploy.flash:CODE",
        preflight="policyport.pipeline.preflight:flash",
        inputs={"image": "deploy"},
        takes={"image": "folder of a deploy artifact"},
        extras="policyport.pipeline.identify:flash_arguments",
        checker="policyport.pipeline.identify:why_flash_again",
    ),
    Stage(
        "hil",
        "measure on the board: parity, latency, memory, closed loop",
        function="policyport.hil.stage:hil",
        options="policyport.hil.config:HilConfig",
        code="policyport.hil.stage:CODE",
        board_machine="policyport.hil.stage:machine_inputs",
        preflight="policyport.pipeline.preflight:hil",
        inputs={"image": "deploy", "board": "flash"},
        takes={"image": "folder of a deploy artifact", "board": "folder of a flash artifact: what lies on the board"},
    ),
    Stage(
        "report",
        "write the results as one self-contained HTML page",
        function="policyport.hil.report:report",
        options="policyport.hil.report:ReportConfig",
        code="policyport.hil.report:CODE",
        inputs={"results": "hil"},
        takes={"results": "folder of a hil artifact"},
    ),
)


IMPORT = Stage(
    "import",
    "take an agent that Stable-Baselines3 has saved, and export its deterministic actor as train does",
    function="policyport.train.stage:import_agent",
    options="policyport.train.config:ImportConfig",
    code="policyport.train.stage:CODE",
    inputs={"agent": "agent"},
    takes={
        "agent": "a zip of PPO, A2C, DQN, DDPG, TD3, SAC, or of sb3-contrib's QR-DQN, TQC, ARS, TRPO; "
        "or a checkpoint of RLtools (.h5)"
    },
    writes="train",
)
"""In the place of train, outside of recipes: a recipe names a zip as train's ``agent``."""


TRAINERS: Mapping[str, Stage] = {
    "au": Stage(
        "train",
        "train a network that sees facial action units, on rendered faces or labelled pictures",
        function="policyport.train.au.stage:train_au",
        options="policyport.train.au.config:AuConfig",
        code="policyport.train.au.stage:CODE",
        machine="policyport.train.au.stage:data_inputs",
    ),
    "codec": Stage(
        "train",
        "train an image codec: an encoder for a board, a decoder for the host, and their coder's tables",
        function="policyport.train.codec.stage:train_codec",
        options="policyport.train.codec.config:CodecConfig",
        code="policyport.train.codec.stage:CODE",
        machine="policyport.train.codec.stage:data_inputs",
    ),
}
"""In the place of train, where ``policyport train TASK`` or a recipe's ``[train] task`` asks for it."""

POLICY = "policy"
"""The task of train that is no other."""


def stages_for(task: str, stages: tuple[Stage, ...] = STAGES) -> tuple[Stage, ...]:
    """The stages that train for a task: ``policy``, or one of TRAINERS."""
    return stages if task == POLICY else tuple(TRAINERS[task] if stage.name == "train" else stage for stage in stages)


def stage_named(name: str, stages: tuple[Stage, ...] = (*STAGES, IMPORT)) -> Stage:
    """The stage of that name; it must exist."""
    return next(stage for stage in stages if stage.name == name)
