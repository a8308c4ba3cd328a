"""The deployment study: float32 and integers on emulated cores, against numpy; end to end on tiny policies."""

import json
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ProtocolError, ToolError, UnsupportedModelError
from policyport.pipeline.cli import main
from policyport.pipeline.emulated_function import build, call, cortex_a53, cortex_m4f
from policyport.pipeline.float_code import write_float_sources
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.nodes import NONE, RELU6, Function, Linear

pytest.importorskip("unicorn")
pytest.importorskip("ziglang")

RECIPE = """
name = "tiny"
[train]
environment = "Navigation-v0"
algorithm = "DQN"
network = [16, 8]
activation = "relu"
total_steps = 400
eval_every_steps = 400
eval_episodes = 1
evaluation_episodes = 2
calibration_steps = 200
[train.hyperparameters]
learning_starts = 50
[variants.wide.train]
network = [64, 64]
"""


def graph_of(widths: tuple[int, ...], functions: tuple[Function, ...], seed: int) -> FloatGraph:
    """A network of seeded weights."""
    generator = np.random.default_rng(seed)
    nodes = []
    for number, (inputs, outputs, function) in enumerate(zip(widths, widths[1:], functions, strict=False)):
        weights = generator.normal(0, 1 / np.sqrt(inputs), (outputs, inputs)).astype(np.float32)
        bias = generator.normal(0, 0.1, outputs).astype(np.float32)
        before = f"t{number}"
        nodes.append(
            Linear(
                name=f"t{number + 1}",
                inputs=(before,),
                linear_name=f"sum{number}" if function != NONE else f"t{number + 1}",
                weights=weights,
                bias=bias,
                function=function,
            )
        )
    return FloatGraph("net", "t0", (widths[0],), nodes[-1].name, HostPrefix.identity((widths[0],)), tuple(nodes))


@pytest.mark.parametrize("core", [cortex_m4f, cortex_a53], ids=lambda core: core.__name__)
@pytest.mark.parametrize(
    ("widths", "functions"), [((5, 3), (NONE,)), ((31, 16, 9), (RELU6, NONE)), ((4, 8, 8, 2), (RELU6, RELU6, RELU6))]
)
def test_the_float32_c_computes_what_numpy_does(
    core: object, widths: tuple[int, ...], functions: tuple[Function, ...], tmp_path: Path
) -> None:
    graph = graph_of(widths, functions, 1)
    write_float_sources(graph, tmp_path)
    built = build(core(), tmp_path)  # type: ignore[operator]
    observations = np.random.default_rng(2).normal(0, 2, (3, widths[0])).astype(np.float32)
    for observation, expected in zip(observations, graph.evaluate(observations), strict=True):
        ran = call(built, observation, expected)
        np.testing.assert_allclose(ran.output, expected, rtol=1e-4, atol=1e-5)
        assert ran.instructions > graph.parameters / 4
    assert built.flash_bytes > 4 * graph.parameters


def test_a_function_that_is_no_clamp_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="Tanh"):
        write_float_sources(graph_of((4, 2), (Function("Tanh"),), 0), tmp_path)


def test_instructions_are_counted_one_by_one(tmp_path: Path) -> None:
    """A loop in assembler whose count is known: 2 before, 3 in each of 7 rounds, 1 after."""
    (tmp_path / "loop.S").write_text(
        ".syntax unified\n.thumb\n.text\n.global pp_infer\n.type pp_infer, %function\n.thumb_func\npp_infer:\n"
        "  ldrb r2, [r0]\n  movs r3, #0\n1:\n  adds r3, r3, r2\n  subs r2, r2, #1\n  bne 1b\n  strb r3, [r1]\n  bx lr\n"
    )
    ran = call(build(cortex_m4f(), tmp_path), np.array([7], np.uint8), np.zeros(1, np.uint8))
    assert ran.output[0] == 28 and ran.instructions == 2 + 3 * 7 + 2


def test_a_fault_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "policy.c").write_text(
        "void pp_infer(const int *input, volatile int **output);\n"
        "void pp_infer(const int *input, volatile int **output)\n"
        "{ *(volatile int *)0x70000000 = *input; (void)output; }\n"
    )
    with pytest.raises(ProtocolError):
        call(build(cortex_m4f(), tmp_path), np.zeros(1, np.int32), np.zeros(1, np.int32))


def test_code_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "policy.c").write_text("int wrong")
    with pytest.raises(ToolError, match="does not compile"):
        build(cortex_m4f(), tmp_path)


def test_the_study_trains_measures_and_writes_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("stable_baselines3")
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(RECIPE)
    assert main(["study", "deployment", "--recipe", "tiny.toml", "--episodes", "4", "--out", "out", "-q"]) == 0
    rows = json.loads(Path("out/deployment.json").read_text())["rows"]
    assert len(rows) == 2 * 2 * 3
    by = {(row["policy"], row["core"].split(" ")[0], row["precision"]): row for row in rows}
    assert by["tiny", "Cortex-M4F", "int8"]["instructions"] < by["tiny", "Cortex-M4F", "float32"]["instructions"]
    assert by["wide", "Cortex-M4F", "int8"]["flash_bytes"] < by["wide", "Cortex-M4F", "float32"]["flash_bytes"] / 2
    assert all(0.0 <= row["play"]["success_rate"] <= 1.0 and row["fits"] for row in rows)
    table = Path("out/deployment.md").read_text().splitlines()
    assert len(table) == 2 + len(rows) and "Cortex-A53 (Linux)" in table[-1]
