"""The slots of a recipe, and the classes that may stand in each."""

import re
from collections.abc import Mapping
from difflib import get_close_matches

import research.credit
import research.objective
import research.prompts
import research.rewards
import research.rollouts
from research.component import Component

SLOTS: Mapping[str, type] = {
    "advantage": research.credit.Advantage,
    "weights": research.credit.TokenWeight,
    "aggregate": research.credit.Aggregate,
    "ratio": research.objective.Ratio,
    "surrogate": research.objective.Surrogate,
    "kl": research.objective.KL,
    "entropy": research.objective.Entropy,
    "verifiers": research.rewards.Verifier,
    "functions": research.rewards.RewardFunction,
    "shaping": research.rewards.Shaping,
    "tokens": research.rewards.TokenReward,
    "steps": research.rewards.StepVerifier,
    "keep": research.rollouts.Keep,
    "retire": research.rollouts.Retire,
    "gates": research.objective.Gate,
    "sampler": research.rollouts.Sampler,
    "tool": research.rollouts.Tool,
    "source": research.rollouts.Source,
    "train": research.prompts.PromptSource,
    "evaluation": research.prompts.PromptSource,
    "targets": research.prompts.Targets,
    "chat": research.prompts.Chat,
    "filters": research.prompts.Filter,
    "against": research.prompts.PromptSource,
    "sources": research.prompts.PromptSource,
}
"""The slot that the last word of a config path stands for."""


def component_classes() -> set[str]:
    """The names of everything that may stand in a slot."""
    return {kind.__name__ for slot in {Component, *SLOTS.values()} for kind in _subclasses(slot)}


def component_names(path: str) -> list[str]:
    """The classes that may stand at a config path, by name."""
    return sorted(kind.__name__ for kind in _subclasses(SLOTS.get(path.rpartition(".")[2], Component)))


def _subclasses(kind: type) -> set[type]:
    below = {sub for direct in kind.__subclasses__() for sub in {direct, *_subclasses(direct)}}
    return {sub for sub in below if not sub.__subclasses__() and sub.__module__.startswith("research.")}


def one_sentence(error: object) -> str:
    """A parser's message on one line; for a misspelt class name, with the names there are."""
    text = " ".join(str(error).split())
    misspelt = re.search(r'key "([\w.]+)".*Expected a dot import path string: (\S+)', text)
    if misspelt is None:
        return text
    key, name = misspelt.groups()
    known = component_names(key)
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}."
    return f"{key}: nothing is called {name}; {hint}"
