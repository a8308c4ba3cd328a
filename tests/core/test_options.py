"""Options: recipe tables and flags into one dataclass, by one set of checks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from policyport.core.errors import ConfigError
from policyport.core.options import add_arguments, from_arguments, from_table, option, to_table


@dataclass(frozen=True)
class Config:
    algorithm: Literal["PPO", "DQN"] = option("PPO", "which", choices=("PPO", "DQN"))
    seed: int = option(0, "a seed", low=0, alias="random_seed")
    share: float = option(0.5, "a share, 100 % is 1", low=0.0, high=1.0)
    target: float | None = option(None, "a target")
    agent: Path | None = option(None, "a file")
    network: tuple[int, ...] = option((64, 64), "widths")
    fast: bool = option(False, "quickly")
    note: str = option("", "words")
    extra: dict[str, Any] = option({}, "recipe only")


def table_error(**table: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        from_table(Config, table, "[train] of x.toml")
    assert error.value.where == "[train] of x.toml"
    return error.value


def test_an_empty_table_gives_the_defaults() -> None:
    assert from_table(Config, {}, "x") == Config()


def test_every_kind_of_value_is_taken() -> None:
    given = {
        "algorithm": "DQN",
        "seed": 7,
        "share": 1,
        "target": -170,
        "agent": "a.zip",
        "network": [8, 4],
        "fast": True,
        "note": "n",
        "extra": {"gamma": 0.9},
    }
    config = from_table(Config, given, "x")
    assert config == Config("DQN", 7, 1.0, -170.0, Path("a.zip"), (8, 4), True, "n", {"gamma": 0.9})
    assert isinstance(config.share, float) and isinstance(config.target, float)


def test_an_unknown_key_is_named_with_the_nearest_and_all() -> None:
    error = table_error(sed=1)
    assert "'sed'" in error.what
    assert error.cure == "did you mean 'seed'?"
    assert "algorithm, seed, share" in str(error.expected)


def test_an_unknown_key_like_none_has_no_proposal() -> None:
    assert table_error(zzzzzz=1).cure is None


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("seed", "1", "int"),
        ("seed", 1.5, "int"),
        ("seed", True, "int"),
        ("share", "x", "float"),
        ("share", True, "float"),
        ("fast", 1, "bool"),
        ("note", 3, "str"),
        ("network", 64, "tuple"),
        ("network", [64, "64"], "int"),
        ("agent", 3, "Path"),
        ("extra", [], "dict"),
        ("seed", None, "int"),
    ],
)
def test_a_wrong_type_is_named(key: str, value: Any, expected: str) -> None:
    error = table_error(**{key: value})
    assert key in error.what and "type" in error.what
    assert error.expected == expected
    assert error.got == repr(value if not isinstance(value, list) or key == "extra" else value[1])


def test_a_value_outside_the_choices_is_answered_with_all() -> None:
    error = table_error(algorithm="ppo")
    assert (error.expected, error.got) == ("PPO, DQN", "'ppo'")


@pytest.mark.parametrize(
    ("key", "value", "limits"), [("seed", -1, "from 0 to any"), ("share", 1.01, "from 0.0 to 1.0")]
)
def test_a_value_out_of_range_is_answered_with_the_range(key: str, value: Any, limits: str) -> None:
    error = table_error(**{key: value})
    assert "out of range" in error.what and error.expected == limits


def test_nan_is_out_of_a_range() -> None:
    table_error(share=float("nan"))


def test_a_config_survives_its_table() -> None:
    config = Config("DQN", 3, 0.25, 1.0, Path("a.zip"), (8,), True, "n", {"gamma": 0.9})
    assert from_table(Config, to_table(config), "x") == config
    assert to_table(config)["agent"] == "a.zip"
    assert to_table(config)["network"] == [8]


def parse(*flags: str, base: dict[str, Any] | None = None) -> Config:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Config)
    return from_arguments(Config, parser.parse_args(flags), base)


def test_no_flag_gives_the_defaults() -> None:
    assert parse() == Config()


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (["--algorithm", "DQN"], "algorithm", "DQN"),
        (["--seed", "7"], "seed", 7),
        (["--share", "1"], "share", 1.0),
        (["--target", "-170"], "target", -170.0),
        (["--agent", "a.zip"], "agent", Path("a.zip")),
        (["--network", "8", "4"], "network", (8, 4)),
        (["--network"], "network", ()),
        (["--fast"], "fast", True),
        (["--no-fast"], "fast", False),
    ],
)
def test_a_flag_is_parsed_as_its_field(flags: Sequence[str], key: str, value: Any) -> None:
    assert getattr(parse(*flags), key) == value


def test_flags_win_over_the_recipe_and_leave_the_rest() -> None:
    config = parse("--seed", "7", base={"seed": 3, "share": 0.25})
    assert (config.seed, config.share) == (7, 0.25)


def test_an_alias_is_the_same_key_and_the_same_flag() -> None:
    assert from_table(Config, {"random_seed": 7}, "x").seed == 7
    assert parse("--random-seed", "7").seed == 7
    assert parse("--seed", "7", base={"random_seed": 3}).seed == 7
    assert parse("--random-seed", "7", base={"seed": 3}).seed == 7


def test_both_names_of_a_key_are_one_too_many() -> None:
    error = table_error(seed=1, random_seed=2)
    assert "random_seed" in error.what and error.expected == "seed alone"


@pytest.mark.parametrize(
    ("flags", "got"),
    [(["--seed", "many"], "'many'"), (["--network", "8", "wide"], "'wide'"), (["--algorithm", "A3C"], "'A3C'")],
)
def test_a_flag_that_does_not_parse_is_a_config_error(flags: Sequence[str], got: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(*flags)
    assert error.value.got == got
    assert error.value.where == "command line"


def test_the_help_names_every_default_and_choice() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Config)
    text = " ".join(parser.format_help().split())
    for expected in (
        "(PPO, DQN) [default: PPO]",
        "[default: 0]",
        "a share, 100 % is 1 [default: 0.5]",
        "a target [default: none]",
        "widths [default: 64 64]",
        "words [default: none]",
    ):
        assert expected in text
    assert "--extra" not in text
