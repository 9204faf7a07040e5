"""A policy that is made in no time, recipes small enough for a test, and verifiers that a random policy satisfies."""

import gc
import json
import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# The unused ones are imported here because from inside a shape-checked module of the package it would take longer.
import datasets  # noqa: F401
import lightning  # noqa: F401
import pytest
import torch
import transformers  # noqa: F401
import yaml

from research.component import require
from research.errors import UserError
from research.policy import TinyModel, character_tokenizer, tiny_model
from research.prompts.arithmetic import ALPHABET
from research.recipe import Recipe, parse
from research.recipe_file import override, read_recipe
from research.rewards import Verifier
from research.types import Completion, Prompt

torch.set_num_threads(1)

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def refused(action: Callable[[], Any]) -> str:
    """The one sentence with which an action is refused."""
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


@dataclass(frozen=True, kw_only=True)
class Contains(Verifier):
    """Right when a character occurs in the completion, truncated or not: a random policy does it now and then."""

    character: str
    right: float = 1.0
    wrong: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.character) == 1, "Contains: one character")

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool:
        return self.character in completion.text


SMALL: Mapping[str, Any] = {
    "model.rollouts.completions_per_prompt": 4,
    "model.rollouts.max_completion_tokens": 12,
    "model.rewards.verifiers": [{"class_path": "conftest.Contains", "init_args": {"character": "7"}}],
    "model.updates.minibatches": 2,
    "model.updates.micro_batch_tokens": 128,
    "model.optimization.learning_rate": 3e-3,
    "model.optimization.warmup_steps": 3,
    "model.evaluation.completions_per_prompt": 2,
    "data.train.init_args.size": 200,
    "data.evaluation.init_args.size": 4,
    "data.prompts_per_step": 3,
    "data.evaluation_chunk": 4,
    "run.steps": 4,
    "run.evaluate_every": 2,
    "run.checkpoint_every": 1,
    "run.save_policy": False,
}
"""What makes a recipe small, whatever its algorithm."""

DYNAMIC: Mapping[str, Any] = {
    "model.rollouts.collect": {"keep": {"class_path": "MixedOutcomes"}, "max_rounds": 3},
    "model.rewards.shaping": [{"class_path": "OverlongPenalty", "init_args": {"max_length": 12, "buffer": 4}}],
    "model.credit.weights": [{"class_path": "SkipTruncated"}],
    "model.credit.aggregate": {"class_path": "TokenMean"},
    "model.objective.surrogate": {"class_path": "Clip", "init_args": {"eps_low": 0.2, "eps_high": 0.28}},
    "model.objective.kl": {"class_path": "NoKL"},
}
"""DAPO's changes: dynamic sampling with its surplus, overlong shaping and filtering, token mean, clip-higher."""


def replaced(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The config with whole nodes replaced, named by dotted paths."""
    words = [(f"--{path}", yaml.safe_dump(value)) for path, value in overrides.items()]
    return override(config, [word for pair in words for word in pair])


_parsed: dict[str, Recipe] = {}


def parse_once(config: Mapping[str, Any]) -> Recipe:
    """The recipe of a config: parsed once, since that takes a fifth of a second, and a copy each time."""
    key = json.dumps(config)
    if key not in _parsed:
        _parsed[key] = parse(config)
    return Recipe(config=deepcopy(_parsed[key].config))


@cache
def parsed(name: str) -> Recipe:
    """experiments/<name>.yaml as it is."""
    return parse_once(read_recipe([EXPERIMENTS / f"{name}.yaml"]))


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a saved model of random weights, with its tokenizer."""
    folder = tmp_path_factory.mktemp("policy")
    tokenizer = character_tokenizer(ALPHABET)
    shape = TinyModel(hidden=32, layers=1, heads=2, feedforward=64, positions=64)
    tiny_model(shape, tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def small(tiny_policy: str) -> Callable[..., dict[str, Any]]:
    """`small(name, overrides)`: experiments/<name>.yaml at the size of a test, as plain data."""

    def config(name: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        made_small = {**SMALL, "model.policy.path": tiny_policy}
        base = replaced(read_recipe([EXPERIMENTS / f"{name}.yaml"]), made_small)
        if "after" in base:
            base["after"] = replaced(base["after"], made_small)
        return replaced(base, overrides or {})

    return config


@pytest.fixture(scope="session")
def recipe(small: Callable[..., dict[str, Any]]) -> Callable[..., Recipe]:
    """`recipe(name, overrides)`: the same, parsed."""
    return lambda name, overrides=None: parse_once(small(name, overrides))


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that do not inherit this one's path find `conftest`, as they find an installed package."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))


def pytest_configure(config: pytest.Config) -> None:
    """Guard against processes; and LightningCLI remarks on pytest's own command line."""
    from process_guard import ProcessGuard  # not for processes that import this module for `Contains`

    config.pluginmanager.register(ProcessGuard())
    config.addinivalue_line("filterwarnings", "ignore:LightningCLI's args parameter")


def pytest_collection_finish() -> None:
    """What was imported stays: no test searches it for garbage, which would take a tenth of the time."""
    gc.collect()
    gc.freeze()
