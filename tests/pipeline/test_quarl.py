"""The study: its cells repeat and resume, anywhere the same; its figures add up; its files read."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from policyport.core.environment import open_environment
from policyport.core.errors import ConfigError
from policyport.hil.margin import FRESH_SEEDS, differences_spread
from policyport.hil.statistics import planned_episodes
from policyport.pipeline import quarl, quarl_agents, quarl_cell
from policyport.pipeline.cli import main
from policyport.pipeline.quarl import StudyRequest, run_study
from policyport.pipeline.quarl_agents import StudyAgent
from policyport.pipeline.quarl_cell import Cell, CellResult, play_together
from policyport.pipeline.quarl_methods import DESCRIPTIONS, OWN_STATES, outputs_of, widths
from policyport.pipeline.quarl_page import render_page
from policyport.pipeline.quarl_plan import LEAST_EPISODES, Bounds, plans_of
from policyport.pipeline.quarl_tables import returns_table, to_markdown, widths_table
from policyport.pipeline.speak import silent
from policyport.quantize.choose import quantized
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.source import open_source

METHODS = ("weights", "integer")


@pytest.fixture(scope="module")
def zips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two agents: PPO and DQN on CartPole-v1, untrained."""
    from stable_baselines3 import DQN, PPO

    folder = tmp_path_factory.mktemp("zips")
    for algorithm in ("ppo", "dqn"):
        (folder / algorithm / "CartPole-v1").mkdir(parents=True)
    PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, seed=0).save(folder / "ppo/CartPole-v1/CartPole-v1")
    DQN("MlpPolicy", "CartPole-v1", buffer_size=64, seed=0).save(folder / "dqn/CartPole-v1/CartPole-v1")
    return folder


@pytest.fixture(scope="module")
def request_of(zips: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., StudyRequest]:
    """Requests on PPO alone; they share the imported agent, not the cells."""
    first = StudyRequest(tmp_path_factory.mktemp("first"), zips, algorithms=("PPO",), bits=(16, 8, 2), episodes=3)
    first = dataclasses.replace(first, methods=METHODS)
    run_study(first, silent, lambda _: None)

    def request(out: Path, **more: object) -> StudyRequest:
        out.mkdir(exist_ok=True)
        if not (out / "agents").exists():
            (out / "agents").symlink_to(first.out / "agents")
        return dataclasses.replace(first, out=out, **more)  # type: ignore[arg-type]

    return request


def test_every_cell_is_measured_once(request_of: Callable[..., StudyRequest], tmp_path: Path) -> None:
    seen: list[CellResult] = []
    study = run_study(request_of(tmp_path), silent, seen.append)
    names = {(result.method, result.bits) for result in seen}
    assert names == {("float32", 32), ("weights", 16), ("weights", 8), ("weights", 2), ("integer", 8), ("integer", 2)}
    assert len(seen) == len(study.rows) == 6 and study.groups == ("PPO CartPole-v1",)
    exact = study.row("PPO CartPole-v1", "float32", 32)
    assert exact is not None and exact.equivalence.difference == 0 and exact.agreement == 1.0 and exact.episodes == 3

    again: list[CellResult] = []
    assert run_study(request_of(tmp_path), silent, again.append) == study and again == []


def test_an_interrupted_study_goes_on(
    request_of: Callable[..., StudyRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, calls = quarl_cell.measure, []

    def interrupted(cell: Cell) -> CellResult:
        calls.append(cell.name)
        if len(calls) == 5:  # two of them the pilot's
            raise KeyboardInterrupt
        return measure(cell)

    monkeypatch.setattr(quarl_cell, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(request_of(tmp_path), silent, lambda _: None)
    assert len(list((tmp_path / "cells").iterdir())) == len(list((tmp_path / "pilot").iterdir())) == 2
    rest: list[CellResult] = []
    run_study(request_of(tmp_path), silent, rest.append)
    assert len(rest) == 4 and len(calls) == 9


def test_what_is_there_can_be_summed_up_and_nothing_measured(
    request_of: Callable[..., StudyRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_study(request_of(tmp_path), silent, lambda _: None)
    (tmp_path / "cells" / "ppo-CartPole-v1.integer.2.json").unlink()
    monkeypatch.delattr(quarl_cell, "measure")
    part = run_study(request_of(tmp_path, measured_only=True), silent, lambda _: None)
    assert part.rows == tuple(row for row in whole.rows if (row.method, row.bits) != ("integer", 2))
    (row,) = (row for row in part.rows if (row.method, row.bits) == ("integer", 8))
    other = dataclasses.replace(part, rows=(*part.rows, dataclasses.replace(row, group="other", method="float32")))
    assert [line[0] for line in returns_table(other, "integer")] == ["agent", "PPO CartPole-v1"]
    assert widths_table(other)[2] == ["other", "", "", "none", "none"]
    (tmp_path / "cells" / "ppo-CartPole-v1.float32.32.json").unlink()
    with pytest.raises(ConfigError, match="nothing is measured"):
        run_study(request_of(tmp_path, measured_only=True), silent, lambda _: None)


def test_activations_of_16_bits_are_rows_of_their_own(request_of: Callable[..., StudyRequest], tmp_path: Path) -> None:
    request = request_of(tmp_path, bits=(16, 8), activation_bits=(8, 16))
    seen: list[CellResult] = []
    study = run_study(request, silent, seen.append)
    keys = [(row.method, row.bits) for row in study.rows]
    assert keys == [("float32", 32), ("weights", 16), ("weights", 8), ("integer", 8), ("integer int16", 8)]
    assert len(seen) == 5 and study.methods == ("weights", "integer", "integer int16")
    assert "integer int16: weights and activations as integers" in to_markdown(study)
    assert "16 bits" in render_page(study)
    wide = run_study(dataclasses.replace(request, activation_bits=(16,)), silent, seen.append)
    assert [(row.method, row.bits) for row in wide.rows] == [key for key in keys if key != ("integer", 8)]
    assert len(seen) == 5


def test_cells_of_other_settings_are_not_taken(request_of: Callable[..., StudyRequest], tmp_path: Path) -> None:
    run_study(request_of(tmp_path), silent, lambda _: None)
    seen: list[CellResult] = []
    run_study(request_of(tmp_path, episodes=2), silent, seen.append)
    assert len(seen) == 6


def test_the_plan_is_written_before_anything_quantized_is_played(
    request_of: Callable[..., StudyRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, found = quarl_cell.measure, []

    def seen(cell: Cell) -> CellResult:
        found.append((cell.method, cell.bits, cell.seed, (tmp_path / "plan.json").is_file()))
        return measure(cell)

    monkeypatch.setattr(quarl_cell, "measure", seen)
    request = request_of(tmp_path, bits=(8,), methods=("weights",))
    study = run_study(request, silent, lambda _: None)
    far = request.first_seed + FRESH_SEEDS
    near = request.first_seed
    assert found[:2] == [("random", 32, far, False), ("float32", 32, far, False)]
    assert found[2:] == [("float32", 32, near, True), ("weights", 8, near, True)]
    (stated,) = json.loads((tmp_path / "plan.json").read_text())["plans"]
    plan = study.plans["PPO CartPole-v1"]
    assert stated == dataclasses.asdict(plan) and plan.episodes == 3
    assert plan.margin.value == pytest.approx(0.05 * abs(plan.float32 - plan.by_chance))


def test_a_margin_does_not_hang_on_the_number_of_episodes(
    request_of: Callable[..., StudyRequest], tmp_path: Path
) -> None:
    few, more = (
        run_study(request_of(tmp_path, bits=(8,), methods=("weights",), episodes=n), silent, lambda _: None)
        for n in (2, 4)
    )
    plans = few.plans["PPO CartPole-v1"], more.plans["PPO CartPole-v1"]
    assert plans[0].margin == plans[1].margin and [plan.episodes for plan in plans] == [2, 4]


def pilot(agent: str, method: str, returns: list[float]) -> tuple[tuple[str, str], CellResult]:
    return (agent, method), CellResult(agent, method, 32, tuple(returns), 1.0)


def test_a_noisy_agent_is_given_the_episodes_that_it_needs_and_no_more_than_allowed() -> None:
    agents = [StudyAgent(name, name, Path(), Path()) for name in ("calm", "noisy")]
    calm, noisy = [100.0, 101.0] * 50, [0.0, 200.0] * 50
    pilots = dict(
        [
            *(pilot(name, "random", [0.0] * 100) for name in ("calm", "noisy")),
            *(pilot("calm", "float32", calm), pilot("noisy", "float32", noisy)),
        ]
    )
    plans = plans_of(agents, pilots, Bounds(5.0, 1000))
    assert plans["noisy"].margin.value == 5.0 and plans["noisy"].needed > 1000 == plans["noisy"].episodes
    assert plans["calm"].needed < plans["calm"].episodes == LEAST_EPISODES
    spread = differences_spread(np.array(noisy))
    assert plans["noisy"].needed == planned_episodes(spread, 5.0)


def test_agents_of_one_group_share_its_episodes() -> None:
    agents = [StudyAgent(name, "one group", Path(), Path()) for name in ("a", "b", "c")]
    pilots = dict(
        pilot(name, method, [value]) for name in "abc" for method, value in (("random", 0.0), ("float32", 9.0))
    )
    plan = plans_of(agents, pilots, Bounds())["one group"]
    assert plan.episodes == 17 and 3 * plan.episodes >= LEAST_EPISODES > 3 * (plan.episodes - 1)


def test_a_pool_gives_the_same_figures(request_of: Callable[..., StudyRequest], tmp_path: Path) -> None:
    alone = run_study(request_of(tmp_path / "alone"), silent, lambda _: None)
    pooled = run_study(request_of(tmp_path / "pooled", workers=2), silent, lambda _: None)
    assert pooled == alone


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_ray_gives_the_same_figures(request_of: Callable[..., StudyRequest], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    alone = run_study(request_of(tmp_path / "alone"), silent, lambda _: None)
    cluster = run_study(request_of(tmp_path / "cluster", ray="local"), silent, lambda _: None)
    assert cluster == alone


@pytest.mark.parametrize("method", [method for method in DESCRIPTIONS if method not in ("adaround", OWN_STATES)])
def test_a_wide_enough_method_acts_as_float32(
    request_of: Callable[..., StudyRequest], tmp_path: Path, method: str
) -> None:
    request = request_of(tmp_path)
    source = open_source(request.out / "agents/ppo-CartPole-v1")
    bits = max(widths(method, (32, 16, 8)))
    outputs = outputs_of(source, method, bits, 16)(source.held_out)
    exact = source.graph.evaluate(source.held_out)
    # The outputs of a policy that has learned nothing lie close together, so a few actions are near ties.
    assert np.mean(source.task.action(outputs) == source.task.action(exact)) > 0.9


def test_episodes_side_by_side_are_episodes_by_themselves(
    request_of: Callable[..., StudyRequest], tmp_path: Path
) -> None:
    source = open_source(request_of(tmp_path).out / "agents/ppo-CartPole-v1")
    outputs = outputs_of(source, "integer", 8, 8)
    returns = play_together(outputs, source.task, 5, 3)
    environment = open_environment(source.task.environment)
    for number in range(3):
        seen, total, over = environment.reset(seed=5 + number)[0], 0.0, False
        while not over:
            action = source.task.action(outputs(source.task.check_observation(seen)))[0]
            seen, reward, terminated, truncated, _ = environment.step(action)
            total, over = total + float(reward), terminated or truncated
        assert returns[number] == total


def test_more_episodes_than_are_played_at_once_are_all_played(
    request_of: Callable[..., StudyRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(request_of(tmp_path).out / "agents/ppo-CartPole-v1")
    outputs = outputs_of(source, "integer", 8, 8)
    together = play_together(outputs, source.task, 5, 7)
    monkeypatch.setattr(quarl_cell, "AT_ONCE", 2)
    assert play_together(outputs, source.task, 5, 7) == together


def test_weights_of_6_bits_are_rounded_to_6_and_kept_as_bytes(
    request_of: Callable[..., StudyRequest], tmp_path: Path
) -> None:
    source = open_source(request_of(tmp_path).out / "agents/ppo-CartPole-v1")
    assert widths("integer", (32, 8, 7, 6, 4)) == (8, 7, 6, 4) and widths("qat", (8, 6, 4)) == (8, 4)
    network = quantized(source, QuantizeConfig(weight_bits=6, method="nearest", input_bits=16), 8)
    assert network.input.bits == 16 and all(layer.weight_bits == 8 for layer in network.layers)
    assert all(np.abs(layer.weights).max() == 31 for layer in network.layers)


def test_the_lowest_equivalent_width_has_none_that_fails_above_it(
    request_of: Callable[..., StudyRequest], tmp_path: Path
) -> None:
    study = run_study(request_of(tmp_path), silent, lambda _: None)
    group = study.groups[0]

    def with_outcomes(outcomes: dict[int, bool]) -> int | None:
        row = study.rows[0]
        rows = [
            dataclasses.replace(
                row, method="weights", bits=bits, equivalence=dataclasses.replace(row.equivalence, equivalent=held)
            )
            for bits, held in outcomes.items()
        ]
        return dataclasses.replace(study, rows=tuple(rows)).lowest_equivalent(group, "weights")

    assert with_outcomes({8: True, 6: True, 4: False, 2: True}) == 6
    assert with_outcomes({8: True, 4: True}) == 4
    assert with_outcomes({8: False, 4: True}) is None


def test_what_is_better_is_no_worse_and_not_equivalent(request_of: Callable[..., StudyRequest], tmp_path: Path) -> None:
    study = run_study(request_of(tmp_path), silent, lambda _: None)
    row = study.rows[0]
    better = dataclasses.replace(row.equivalence, equivalent=False, difference=50.0, low=40.0, high=60.0)
    found = dataclasses.replace(
        study, rows=(row, dataclasses.replace(row, method="weights", bits=8, equivalence=better))
    )
    assert found.lowest_equivalent(row.group, "weights") is None and found.lowest_no_worse(row.group, "weights") == 8
    assert f"{row.mean.value:.1f} ± {(row.mean.high - row.mean.low) / 2:.1f}+ |" in to_markdown(found)
    assert f"| {row.group} | none | none | 8 |" in to_markdown(found)


def test_the_command_writes_its_files(zips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["study", "quarl", "--agents", str(zips), "--bits", "8", "--methods", "weights", "--episodes", "2"]
    assert main([*given, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "study.html")
    table = json.loads((tmp_path / "study.json").read_text())
    with (tmp_path / "study.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["group"], line["method"], int(line["bits"])) for line in lines] == [
        (row["group"], row["method"], row["bits"]) for row in table["rows"]
    ]
    assert {row["group"] for row in table["rows"]} == {"PPO CartPole-v1", "DQN CartPole-v1"}
    page = (tmp_path / "study.html").read_text()
    assert page.count("<svg") == 4 and "http://" not in page.replace("http://www.w3.org", "")


RECIPE = """
[train]
environment = "CartPole-v1"
algorithm = "DQN"
total_steps = 60
calibration_steps = 200
evaluation_episodes = 2
eval_episodes = 1
[train.hyperparameters]
learning_starts = 10
"""


def test_policies_of_recipes_are_groups_by_their_names(tmp_path: Path) -> None:
    recipes = [tmp_path / f"{name}.toml" for name in ("one", "two")]
    for recipe in recipes:
        recipe.write_text(RECIPE)
    page, out = tmp_path / "page.md", tmp_path / "out"
    blocks = ("quarl-recipes", "quarl-recipes-widths")
    page.write_text("".join(f"<!-- figures:{name} -->\n<!-- /figures:{name} -->\n" for name in blocks))
    given = ["study", "quarl", "--bits", "8", "--methods", "integer", "--episodes", "2", "--quiet"]
    more = ["--recipes", *map(str, recipes), "--page", str(page), "--out", str(out)]
    assert main([*given, *more]) == 0
    table = json.loads((out / "study.json").read_text())
    assert {(row["group"], row["runs"]) for row in table["rows"]} == {("one", 1), ("two", 1)}
    text = page.read_text()
    assert (out / "study.md").read_text() in text and (out / "widths.md").read_text() in text
    assert "| 8 bits | 2 |" in text


@pytest.mark.parametrize(
    ("recipe", "word"),
    [
        (RECIPE.replace("60", "60\nnormalize_observations = true"), "normalises"),
        ('[train]\ntask = "au"\n', "no policy"),
    ],
)
def test_recipes_that_cannot_be_studied_are_named(tmp_path: Path, recipe: str, word: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe)
    with pytest.raises(ConfigError, match=word):
        run_study(StudyRequest(tmp_path / "out", recipes=(path,)), silent, lambda _: None)


def test_tables_and_page_say_the_same(request_of: Callable[..., StudyRequest], tmp_path: Path) -> None:
    study = run_study(request_of(tmp_path), silent, lambda _: None)
    row = study.row("PPO CartPole-v1", "integer", 8)
    assert row is not None
    shown = f"{row.mean.value:.1f} ± {(row.mean.high - row.mean.low) / 2:.1f}"
    assert shown in to_markdown(study) and shown in render_page(study)
    low = 100 * row.equivalence.low / abs(study.plans[row.group].float32 - study.plans[row.group].by_chance)
    assert f"{low:+.1f} to" in to_markdown(study) and f"{low:+.1f} to" in render_page(study)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"methods": ("magic",)}, "magic"),
        ({"bits": (1,)}, "width"),
        ({"episodes": 1}, "episodes"),
        ({"most_episodes": 10}, "episodes"),
        ({"margin_share": 0.0}, "margin"),
        ({"activation_bits": (9,)}, "width"),
        ({"environments": ("Pendulum-v1",)}, "no agents"),
    ],
)
def test_what_cannot_be_studied_is_named(
    request_of: Callable[..., StudyRequest], tmp_path: Path, more: dict[str, object], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        run_study(request_of(tmp_path, **more), silent, lambda _: None)


def test_small_agents_are_those_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from policyport.pipeline import quarl_agents

    trained: list[tuple[str, str, int]] = []

    def train(stage: object, inputs: object, keys: object, config: quarl_agents.TrainConfig, *_: object) -> None:
        trained.append((config.algorithm, config.environment, config.seed))

    monkeypatch.setattr(quarl_agents, "run_stage", train)
    made = quarl_agents.StudyAgent("", "", tmp_path, tmp_path)
    monkeypatch.setattr(quarl_agents, "_agent", lambda *_: made)
    quarl_agents.trained_agents(tmp_path, (), (), (0,), silent)
    assert trained == [(algorithm, environment, 0) for algorithm, environment in quarl_agents.TRAINED]
    trained.clear()
    quarl_agents.trained_agents(tmp_path, ("Acrobot-v1",), ("PPO",), (3, 4), silent)
    assert trained == [("PPO", "Acrobot-v1", 3), ("PPO", "Acrobot-v1", 4)]
    with pytest.raises(ConfigError, match="TRPO"):
        quarl_agents.trained_agents(tmp_path, (), ("TRPO",), (0,), silent)
    assert quarl.METHODS[0] in DESCRIPTIONS


def test_integers_that_follow_an_agent_are_trained_once(
    request_of: Callable[..., StudyRequest], tmp_path: Path
) -> None:
    own = request_of(tmp_path, methods=("own-states",), bits=(16, 2), follow_steps=40)
    study = run_study(own, silent, lambda _: None)
    assert [(row.method, row.bits) for row in study.rows] == [("float32", 32), ("own-states", 2)]
    place = tmp_path / "agents" / "ppo-CartPole-v1-follow-2-8"
    lines = (place / "own_states.csv").read_text().splitlines()
    assert len(lines) == 1 + quarl_agents.ROUNDS and lines[-1].startswith("40,")
    made = (place / "manifest.json").stat().st_mtime_ns
    assert run_study(own, silent, lambda _: None) == study
    assert (place / "manifest.json").stat().st_mtime_ns == made
    none = dataclasses.replace(own, bits=(4, 2), measured_only=True)
    assert run_study(none, silent, lambda _: None) == study
