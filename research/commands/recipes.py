"""Recipes as the command line gives them, looked over before anything heavy is imported."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.recipe_file import override, read_recipe
from research.schema import check
from research.shipped import find


def found(paths: Sequence[Path]) -> list[Path]:
    """The files of a recipe and its overlays, each given as a path or as the name of one that comes with the package.

    Raises: UserError if there is neither.
    """
    first, *others = paths
    return [find(first, "recipe"), *(find(path, "overlay", "recipe") for path in others)]


def checked(paths: Sequence[Path], words: Sequence[str]) -> dict[str, Any]:
    """A recipe with overlays and the command line's overrides, without a word that no constructor knows.

    Raises: UserError if a file cannot be read, or a word is misspelt or missing.
    """
    config = override(read_recipe(found(paths)), words)
    check(config)
    return config


def with_steps(config: Mapping[str, Any], steps: int | None) -> dict[str, int | None]:
    """Config path → value, for a run of so many steps: what belongs to the number of steps follows it.

    Args:
        config: the recipe, or a cell's.
        steps: of the run; None changes nothing.

    Raises: UserError if it is not at least 1.
    """
    if steps is None:
        return {}
    if steps < 1:
        raise UserError(f"--steps is at least 1, got {steps}")
    every = min(steps, config["run"].get("evaluate_every") or steps)
    divisor = next(n for n in range(every, 0, -1) if steps % n == 0)
    others = {f"run.{name}": None for name in ("tokens", "seconds") if config["run"].get(name) is not None}
    return {"run.steps": steps, "run.evaluate_every": divisor, **others}


def check_target(target: str, recipe: Path | None, words: Sequence[str]) -> None:
    """Refuse what a command is to look at, if it is not there, or a recipe with a misspelt word.

    Args:
        target: a run folder, a recipe or a model, as the user gave it.
        recipe: how a model is asked; None for none.
        words: overrides.

    Raises: UserError if a file cannot be read, or a word is misspelt or missing.
    """
    path = Path(target.removesuffix("@start"))
    for file in (path, recipe):
        if file is not None and file.suffix in (".yaml", ".yml"):
            check(override(read_recipe([file]), words))
    if recipe is None and path.suffix not in (".yaml", ".yml") and not path.exists():
        raise UserError(
            f"there is no run folder and no recipe {path}: to evaluate a model of the hub, say how with "
            "--recipe experiments/<recipe>.yaml"
        )


def check_study(spec: Any, overrides: Mapping[str, Any]) -> int:
    """Refuse a study with a cell in which a word is misspelt or missing; how many cells it has.

    Raises: UserError if a cell cannot be composed, or a word is misspelt or missing.
    """
    from research.ablation.designs import design_cells

    cells, _ = design_cells(spec.design, spec.factors, spec.baseline, spec.labels, spec.options)
    for cell in cells:
        check(spec.config(cell.levels, spec.seeds[0], overrides))
    return len(cells)


def say(text: str) -> None:
    """Print a line at once, on the first rank of a run."""
    if all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID")):
        print(text, flush=True)
