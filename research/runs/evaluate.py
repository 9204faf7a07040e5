"""Evaluation of a policy: a run's checkpoint, a recipe's start, a saved model or a hub id."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.evaluation.protocol import PROTOCOLS
from research.evaluation.record import SETTINGS, Record, item_of
from research.recipe import Recipe, instantiate, parse
from research.recipe_file import override, read_recipe
from research.runs.fit import at_hand_over, first_rank
from research.runs.folder import checkpoint_in
from research.runs.train import trainer_settings
from research.tracking import CONFIG
from research.yaml_file import read_yaml

START = "@start"
"""Suffix of a run folder that names the policy that the run started from."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A policy to evaluate."""

    name: str
    """Name as the user gave it."""
    config: Mapping[str, Any]
    """Recipe with the settings of the evaluation."""
    checkpoint: Path | None
    """Checkpoint to load; None for the recipe's start."""
    folder: Path
    """Folder of its evaluations."""


def find_target(name: str, recipe: Path | None) -> Target:
    """The policy with this name: a run folder, a run folder followed by `@start`, a recipe file, or a model.

    Args:
        name: as the user gave it.
        recipe: settings for the evaluation of a model; not used otherwise.

    Raises: UserError if there is nothing of that name, or if a model comes without a recipe.
    """
    path = Path(name.removesuffix(START))
    if (path / CONFIG).exists():
        checkpoint = None if name.endswith(START) else checkpoint_in(path)
        return Target(name=name, config=read_yaml(path / CONFIG), checkpoint=checkpoint, folder=path / "evaluations")
    if path.suffix in (".yaml", ".yml"):
        folder = Path("runs") / path.stem / "evaluations"
        return Target(name=name, config=read_recipe([path]), checkpoint=None, folder=folder)
    if recipe is not None:
        config = override(read_recipe([recipe]), ["--model.policy.path", name])
        folder = Path("runs") / name.strip("/").replace("/", "--") / "evaluations"
        return Target(name=name, config=config, checkpoint=None, folder=folder)
    if path.is_dir() and not (path / "config.json").exists():
        raise UserError(f"{path} holds neither a run nor a model: give a folder that `research fit` has written")
    raise UserError(
        f"{name} is not a run folder or a recipe: to evaluate a model, give its recipe with "
        "--recipe experiments/<recipe>.yaml"
    )


def evaluate(recipe: Recipe, folder: Path, checkpoint: Path | None, seeds: Sequence[int] | None = None) -> Record:
    """Sample and verify the recipe's evaluation prompts, once for each seed.

    Args:
        recipe: prompts and settings.
        folder: of the run.
        checkpoint: of this recipe; None for the policy that it starts from.
        seeds: of sampling; None for the recipe's own.

    Raises: UserError if the policy cannot be loaded, or if the checkpoint belongs to another recipe.
    """
    settings = recipe.run_settings()
    start = recipe if checkpoint is None else at_hand_over(recipe, folder)
    module, data, trainer = instantiate(start, **{**trainer_settings(settings, folder, []), "logger": False})
    path, items, metrics = str(checkpoint) if checkpoint else None, [], []
    chosen = list(seeds) if seeds is not None else [module.seed]
    with closing(module.rollouts.sampler), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in chosen:
            module.held_out.seed = seed
            trainer.validate(module, data, ckpt_path=path, verbose=False, weights_only=True)
            items += [item_of(group, seed, module.rewards.answer) for group in module.held_out.groups]
            metrics.append(module.held_out.metrics())
            path = None  # loaded
    decoding = module.held_out.decoding
    return Record(
        settings={
            "completions_per_prompt": module.evaluation.completions_per_prompt,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "top_k": decoding.top_k,
            "max_completion_tokens": decoding.max_tokens,
            "seeds": chosen,
            "prompts": data.hashes()["evaluation"],
            "policy": recipe.config["model"]["policy"]["path"],
            "checkpoint": str(checkpoint) if checkpoint else None,
            "step": module.steps_done,
            "config": recipe.digest,
            "metrics": metrics,
        },
        items=items,
    )


def evaluated(
    target: Target,
    *,
    protocol: str | None,
    seeds: Sequence[int] | None,
    overrides: Sequence[str] = (),
    output: Path | None = None,
) -> tuple[Record, Path]:
    """Evaluate a policy by a protocol, and write the record.

    Args:
        target: the policy.
        protocol: a name in `PROTOCOLS`; None for the recipe's own settings.
        seeds: of sampling; None for the protocol's number of seeds from 0, or else the recipe's own.
        overrides: `--section.key=value` arguments, applied after the protocol.
        output: folder of the record; None for the target's folder.

    Raises: UserError if the protocol is unknown or the evaluation fails.
    """
    config = target.config
    if protocol is not None:
        if protocol not in PROTOCOLS:
            raise UserError(f"there is no protocol {protocol!r}: there are {', '.join(PROTOCOLS)}")
        chosen = PROTOCOLS[protocol]
        config = override(config, [f"--{name}={value}" for name, value in chosen.overrides().items()])
        seeds = seeds if seeds is not None else list(range(chosen.seeds)) if chosen.seeds > 1 else None
    recipe = parse(override(config, list(overrides)))
    record = evaluate(recipe, target.folder.parent, target.checkpoint, seeds)
    record = Record(settings={**record.settings, "target": target.name, "protocol": protocol}, items=record.items)
    where = output or target.folder / f"{protocol or 'recipe'}{'-start' if target.name.endswith(START) else ''}"
    if first_rank():
        record.write(where)
    return record, where


def records_of(
    before: str, after: str, *, recipe: Path | None, protocol: str | None, seeds: Sequence[int] | None
) -> tuple[Record, Record]:
    """Two records to compare, each read from a folder or made now.

    A policy that is evaluated now takes protocol and seeds from the other record, unless they are given.
    """
    kept = [Record.read(Path(name)) if (Path(name) / SETTINGS).exists() else None for name in (before, after)]
    for record in kept:
        if record is not None:
            seeds = seeds if seeds is not None else record.seeds
            protocol = protocol if protocol is not None else record.settings["protocol"]

    def now(name: str) -> Record:
        return evaluated(find_target(name, recipe), protocol=protocol, seeds=seeds)[0]

    first, second = (record or now(name) for record, name in zip(kept, (before, after), strict=True))
    return first, second
