"""Training of a recipe in a folder, from its start or from its checkpoint."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from time import time
from typing import Any

from lightning import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from research.recipe import Recipe, instantiate
from research.runs.callbacks import StartClock
from research.runs.folder import BEFORE, claim, is_complete, write_result
from research.runs.train import train, trainer_settings
from research.tracking import RESULT
from research.training.memory import forget_peak
from research.training.progress import StepProgress
from research.training.stopping import StopWhenAsked


def fit(
    recipe: Recipe, folder: Path, callbacks: Sequence[Callback] = (), *, began: float | None = None
) -> Mapping[str, Any]:
    """Train the recipe in a folder until its budget is spent, from the folder's checkpoint if there is one.

    A recipe that runs after another one trains that one first, then continues its steps, metrics and costs.

    Args:
        recipe: the recipe to train.
        folder: of the run.
        callbacks: of Lightning, called before the run's own; one may set `trainer.should_stop` at the end of an epoch.
        began: start of the run, in seconds of `time.time`; None for now.

    Returns: the run's `research.runs.folder.Result`; empty on ranks other than the first.

    Raises: UserError if the folder holds a run of another recipe, or if training fails.
    """
    claim(recipe, folder)
    settings = recipe.run_settings()
    if is_complete(folder):
        return json.loads((folder / RESULT).read_text())
    forget_peak()
    began = time() if began is None else began
    if recipe.before is not None:
        total = recipe.before.run_settings().budget.whole_steps
        bars = [StepProgress(f"{bar.title}, before", total) for bar in callbacks if isinstance(bar, StepProgress)]
        stops = [callback for callback in callbacks if isinstance(callback, StopWhenAsked)]
        fit(recipe.before, folder / BEFORE, [*bars, *stops], began=began)
        began = time()
    handed_over, clock = at_hand_over(recipe, folder), StartClock(began)
    module, data, trainer = instantiate(handed_over, **trainer_settings(settings, folder, [clock, *callbacks]))
    with closing(module.rollouts.sampler):
        train(trainer, module, data, folder, folder / BEFORE if recipe.before is not None else None)
    if settings.save_policy:
        module.model.save(folder / "policy")
    return write_result(folder, data, clock.seconds) if first_rank() else {}


def at_hand_over(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the policy to start from that the recipe before it has saved in the run's folder."""
    return recipe if recipe.before is None else recipe.starting_from(folder / BEFORE / "policy")


def first_rank() -> bool:
    """True in the only process of a run, or in the first of several, which writes the files."""
    return getattr(rank_zero_only, "rank", 0) == 0
