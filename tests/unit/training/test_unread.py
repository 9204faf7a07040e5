"""Rewards that nothing would read are refused when a recipe is parsed."""

import pytest
from conftest import EXPERIMENTS, refused

from research.recipe import parse
from research.recipe_file import read_recipe


@pytest.mark.parametrize("name", ["gtpo", "grpo_s", "rft", "sft"])
def test_a_reward_that_the_advantage_does_not_read(name: str) -> None:
    config = read_recipe([EXPERIMENTS / f"{name}.yaml"])
    config["model"]["rewards"]["functions"] = [{"class_path": "TagFormat", "init_args": {"layout": "soft"}}]
    message = refused(lambda: parse(config))
    assert "asks only which completions are right, so TagFormat would be ignored" in message


@pytest.mark.parametrize("name", ["grpo", "ppo", "gdpo"])
def test_a_reward_that_it_reads(name: str) -> None:
    config = read_recipe([EXPERIMENTS / f"{name}.yaml"])
    config["model"]["rewards"]["functions"] = [{"class_path": "TagFormat", "init_args": {"layout": "soft"}}]
    assert parse(config).config["model"]["rewards"]["functions"]
