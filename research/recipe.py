"""Recipes: YAML → checked objects, through LightningCLI. The constructors' types are the schema."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, Namespace
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from research.errors import UserError
from research.lazy import load_all
from research.prompts import PromptData
from research.schema import check
from research.slots import one_sentence
from research.training.legality import data_fault
from research.training.module import RLModule
from research.training.settings import RunSettings
from research.training.trainer_section import require_device, trainer_fault

load_all("research.prompts")  # the parser knows a class by its last word only where it has been imported


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


def parse(config: Mapping[str, Any]) -> Recipe:
    """Check a config against the constructors and fill in the numbers that have defaults.

    Args:
        config: nested mappings, as a recipe file has them.

    Raises: UserError with one sentence if anything is misspelt, missing or out of range.
    """
    check(config)
    cli = _cli(_ParsedOnly, config)
    resolved = yaml.safe_load(cli.parser.dump(cli.config, skip_none=False))
    if (reason := trainer_fault(resolved["trainer"])) is not None:
        raise UserError(reason)
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
        with redirect_stderr(noise), _own_modules():
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
    except MisconfigurationException as error:
        require_device(config["trainer"])
        raise UserError(f"trainer cannot be set up on this machine: {one_sentence(error)}") from error
    except SystemExit as error:
        raise UserError(one_sentence(noise.getvalue())) from error


@contextmanager
def _own_modules() -> Iterator[None]:
    """Let a recipe name a class in a module of the current folder, which is searched last."""
    here = os.getcwd()
    sys.path.append(here)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(here)


class _ParsedOnly(RecipeCLI):
    def instantiate_classes(self) -> None:
        """Check that every constructor accepts its arguments, without a trainer or a model."""
        namespace = self.parser.instantiate_classes(_without_trainer(self.config))
        self.model, self.datamodule = namespace.get("model"), namespace.get("data")


def _without_trainer(config: Namespace) -> Namespace:
    kept = config.clone()
    kept.pop("trainer", None)
    return kept
