"""Recipes: what is wrong is named with file, table, key and what is allowed, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from policyport.core.errors import ConfigError
from policyport.pipeline.recipe import read_recipe

WriteRecipe = Callable[..., Path]


def refused(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        read_recipe(path)
    return error.value


def test_a_recipe_of_nothing_has_all_defaults(recipe_file: WriteRecipe) -> None:
    recipe = read_recipe(recipe_file(""))
    assert recipe.name == "job"
    assert recipe.folder == Path("runs/job")
    assert recipe.configs["train"].environment == "CartPole-v1"


def test_keys_arrive_in_their_stage(recipe_file: WriteRecipe) -> None:
    recipe = read_recipe(recipe_file('name = "x"\n[train]\nseed = 3\n[hil]\nepisodes = 5\n'))
    assert (recipe.name, recipe.configs["train"].seed, recipe.configs["hil"].episodes) == ("x", 3, 5)


def test_an_unknown_key_is_named_with_its_table_and_the_nearest(recipe_file: WriteRecipe) -> None:
    path = recipe_file("[train]\nsede = 3\n")
    error = refused(path)
    assert error.what == "unknown key 'sede'"
    assert error.where == f"[train] of {path}"
    assert error.cure == "did you mean 'seed'?"
    assert "total_steps" in str(error.expected)


def test_an_unknown_table_is_named_with_the_nearest(recipe_file: WriteRecipe) -> None:
    path = recipe_file("[quantise]\nweight_bits = 8\n")
    error = refused(path)
    assert (error.what, error.where) == ("unknown table [quantise]", path)
    assert error.cure == "did you mean 'quantize'?"
    assert "[hil]" in str(error.expected)


def test_a_key_outside_of_any_table_is_refused(recipe_file: WriteRecipe) -> None:
    assert refused(recipe_file("seed = 3\n")).what == "unknown key 'seed' outside of any table"


def test_a_value_that_is_not_allowed_is_answered_with_those_that_are(recipe_file: WriteRecipe) -> None:
    error = refused(recipe_file('[train]\nalgorithm = "A3C"\n'))
    assert error.expected == "PPO, A2C, DQN, SAC, TD3, DDPG"


@pytest.mark.parametrize("text", ["train = 3\n", "hil = 'x'\n"])
def test_a_table_that_is_none_is_refused(recipe_file: WriteRecipe, text: str) -> None:
    assert "is a table" in refused(recipe_file(text)).what


@pytest.mark.parametrize("name", ['""', '"a/b"', '".."', "3", '"-x"'])
def test_a_name_that_is_no_folder_is_refused(recipe_file: WriteRecipe, name: str) -> None:
    assert "no name for a folder" in refused(recipe_file(f"name = {name}\n")).what


def test_toml_that_does_not_parse_is_named_with_its_line(recipe_file: WriteRecipe) -> None:
    path = recipe_file("[train]\nseed = \n")
    error = refused(path)
    assert error.where == path and "line 2" in str(error.got)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    assert "not text" in refused(tmp_path / "x.toml").what


def test_no_file_is_answered_with_the_recipes_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "cartpole.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    error = refused(Path("cartpole.toml"))
    assert "no such recipe" in error.what and error.cure == "recipes here: recipes/cartpole.toml"
    assert "folder" in refused(Path("recipes")).what


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("recipes/*.toml")), ids=lambda path: path.stem)
def test_the_recipes_of_the_repository_hold(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
