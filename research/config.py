"""Recipes: YAML → checked objects, through LightningCLI. The constructors' types are the schema."""

import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, Namespace
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import research.credit
import research.objective
import research.prompts
import research.rewards
import research.rollouts
from research.component import Component
from research.errors import UserError
from research.prompts import PromptData
from research.training.legality import data_fault
from research.training.module import RLModule
from research.training.settings import RunSettings

SECTIONS = frozenset({"model", "data", "trainer", "run", "after"})


class RecipeCLI(LightningCLI):
    """LightningCLI with a `run` section: how many steps, how often to evaluate and to checkpoint."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `run`, and let one seed serve the module and the data."""
        parser.add_class_arguments(RunSettings, "run")
        parser.link_arguments("model.seed", "data.seed")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A parsed recipe: complete, checked, and not yet instantiated."""

    config: Mapping[str, Any]
    """The resolved config as plain data."""

    @property
    def text(self) -> str:
        """The resolved config as YAML."""
        return yaml.safe_dump(dict(self.config), sort_keys=False, allow_unicode=True)

    def run_settings(self) -> RunSettings:
        """The recipe's `run` section."""
        return RunSettings(**self.config["run"])

    @property
    def before(self) -> "Recipe | None":
        """The recipe whose policy this one goes on with, at this one's seed and on its hardware; None for none."""
        config = self.config.get("after")
        if config is None:
            return None
        model, run = {**config["model"], "seed": self.config["model"]["seed"]}, {**config["run"], "save_policy": True}
        return Recipe(config={**config, "model": model, "run": run, "trainer": self.config["trainer"]})

    def starting_from(self, path: Path) -> "Recipe":
        """The recipe with the policy of a folder as its start."""
        model = {**self.config["model"], "policy": {**self.config["model"]["policy"], "path": str(path)}}
        return Recipe(config={**self.config, "model": model})

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of what is trained: everything but where the run lives and on what hardware."""
        kept = {key: value for key, value in self.config.items() if key != "trainer"}
        where, budgets = ("folder", "tracking", "save_policy", "checkpoint_every"), ("steps", "tokens", "seconds")
        kept["run"] = {k: v for k, v in kept["run"].items() if k not in where and not (k in budgets and v is None)}
        if self.before is not None:
            kept["after"] = self.before.digest
        return sha256(yaml.safe_dump(kept, sort_keys=True).encode()).hexdigest()[:12]


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping.

    Raises: UserError if the file is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no mapping: a recipe begins with model, data, trainer and run")
    return content


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the mappings of `over` laid on top, key by key; a component, or what is no mapping, is replaced."""
    merged = deepcopy(dict(base))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping) and "class_path" not in value
        merged[key] = overlay(merged[key], value) if both else deepcopy(value)
    return merged


def read_recipe(paths: Sequence[Path]) -> dict[str, Any]:
    """The first file, a recipe, with the others laid over it: hardware overlays.

    `after: {recipe: FILE, run: …}` becomes that file's whole recipe, with this `run` section in the place of its own.

    Raises: UserError if a file cannot be read, or `after` holds anything else.
    """
    config: dict[str, Any] = {}
    for path in paths:
        config = overlay(config, read_yaml(path))
    if (after := config.get("after")) is not None and "recipe" in after:
        if set(after) != {"recipe", "run"}:
            raise UserError(f"{paths[0]}: after is {{recipe: FILE, run: the section for it}}, got {', '.join(after)}")
        config["after"] = {**read_recipe([paths[0].parent / after["recipe"]]), "run": after["run"]}
    return config


def override(config: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """A config with command-line words such as `--model.seed=3` or `--run.steps 20` laid over it, values read as YAML.

    Raises: UserError if a word is not of this form.
    """
    changed, rest = deepcopy(dict(config)), list(words)
    while rest:
        name, equals, text = rest.pop(0).partition("=")
        if not name.startswith("--") or "." not in name or not (equals or rest):
            raise UserError(f"cannot read {name!r}: an override is --section.key=value, for instance --model.seed=3")
        *parents, leaf = name.removeprefix("--").split(".")
        node = changed
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"{name}: {parent} holds a value, not keys")
        value = text if equals else rest.pop(0)
        try:
            node[leaf] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"{name}: {value!r} is not a YAML value") from error
    return changed


def parse(config: Mapping[str, Any]) -> Recipe:
    """Check a config against the constructors and fill in the numbers that have defaults.

    Args:
        config: nested mappings, as a recipe file has them.

    Raises: UserError with one sentence if anything is misspelt, missing or out of range.
    """
    if unknown := sorted(set(config) - SECTIONS):
        raise UserError(f"no section is called {unknown[0]}: a recipe has {', '.join(sorted(SECTIONS))}")
    cli = _cli(_ParsedOnly, config)
    resolved = yaml.safe_load(cli.parser.dump(cli.config, skip_none=False))
    recipe = Recipe(config={section: resolved[section] for section in ("model", "data", "trainer", "run")})
    return recipe if config.get("after") is None else _two_phases(recipe, parse(config["after"]))


def _two_phases(recipe: Recipe, before: Recipe) -> Recipe:
    """The recipe with the one that it goes on from.

    Raises: UserError if they do not start from one policy, or the recipe counts steps from its own start.
    """
    model = recipe.config["model"]
    if before.config["model"]["policy"] != model["policy"]:
        raise UserError("model.policy of a recipe and of the one it runs after differ: both say where the first starts")
    for name in ("critic", "iterations"):
        if model[name] is not None:
            raise UserError(f"model.{name} counts steps from a run's start: leave it null in a recipe after another")
    return Recipe(config={**recipe.config, "after": before.config})


def instantiate(recipe: Recipe, **trainer: Any) -> tuple[RLModule, PromptData, Trainer]:
    """The module, the data and the trainer of a recipe; `trainer` adds to its `trainer` section.

    Raises: UserError if a constructor refuses its arguments.
    """

    class Instantiated(RecipeCLI):
        def instantiate_trainer(self, **kwargs: Any) -> Trainer:
            return super().instantiate_trainer(**kwargs, **trainer)

    cli = _cli(Instantiated, recipe.config)
    return cli.model, cli.datamodule, cli.trainer


def constructed(recipe: Recipe) -> tuple[RLModule, PromptData]:
    """The module and the data of a recipe, without a trainer: so it may ask for devices that are not here."""
    cli = _cli(_ParsedOnly, recipe.config)
    return cli.model, cli.datamodule


def _cli(kind: type[RecipeCLI], config: Mapping[str, Any]) -> RecipeCLI:
    noise = StringIO()
    try:
        with redirect_stderr(noise):
            cli = kind(
                RLModule,
                PromptData,
                save_config_callback=None,
                seed_everything_default=False,
                parser_kwargs={"exit_on_error": False, "prog": "research"},
                run=False,
                args=deepcopy({section: node for section, node in config.items() if section != "after"}),
            )
        if (reason := data_fault(cli.model, cli.datamodule)) is not None:
            raise ValueError(reason)
        return cli
    except (ArgumentError, ValueError, TypeError, KeyError) as error:
        raise UserError(one_sentence(error)) from error
    except SystemExit as error:
        raise UserError(one_sentence(noise.getvalue())) from error


class _ParsedOnly(RecipeCLI):
    def instantiate_classes(self) -> None:
        """Check that every constructor accepts its arguments, without a trainer or a model."""
        namespace = self.parser.instantiate_classes(_without_trainer(self.config))
        self.model, self.datamodule = namespace.get("model"), namespace.get("data")


def _without_trainer(config: Namespace) -> Namespace:
    kept = config.clone()
    kept.pop("trainer", None)
    return kept


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
