"""The folder of a run: names of its files, protection from other recipes, and the final `result.json`."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from research.errors import UserError
from research.prompts import PromptData
from research.recipe import Recipe
from research.runs.outside import keep, refuse_changed
from research.tracking import CONFIG, METRICS, RESULT, merged_steps, read_lines, replace_text
from research.training.memory import peak_bytes
from research.yaml_file import read_yaml

CHECKPOINT = "last.ckpt"
OVERHEAD = "time/overhead_seconds"
BEFORE = "before"
"""Name of the subfolder with the run that a two-phase run continues from."""


def is_complete(folder: Path) -> bool:
    """True if the run in this folder has reached its last step."""
    return (folder / RESULT).exists()


def claim(recipe: Recipe, folder: Path) -> None:
    """Write the resolved recipe into the folder, unless another recipe, other code or other data has results there.

    Raises: UserError if it has, or if the folder cannot be written.
    """
    path = folder / CONFIG
    begun = (folder / CHECKPOINT).exists() or read_lines(folder / METRICS)
    if path.exists() and begun:
        there = Recipe(config=read_yaml(path))
        if there.digest != recipe.digest:
            raise UserError(
                f"{folder} holds a run of another recipe (config {there.digest}, this one is {recipe.digest}): "
                "give another folder with --run.folder, or delete that one"
            )
        refuse_changed(recipe, folder)
    else:
        replace_text(path, recipe.text)
        keep(recipe, folder)


def checkpoint_in(folder: Path) -> Path:
    """The checkpoint of a run folder.

    Raises: UserError if there is none.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        raise UserError(f"{folder} holds no checkpoint: give a folder that `research fit` has written")
    return path


class Result(TypedDict):
    """The content of `result.json`."""

    steps: int
    start: dict[str, float]
    first: dict[str, float]
    last: dict[str, float]
    seconds: dict[str, float]
    memory: dict[str, float]
    evaluated: list[int]
    data_hashes: dict[str, str]
    data_counts: dict[str, dict[str, int]]


def write_result(folder: Path, data: PromptData, overhead: float) -> Result:
    """Write the metrics of the start and of the last step to `result.json`, which marks the run as complete.

    Args:
        folder: of the run.
        data: its prompts.
        overhead: seconds until its first evaluation or step, in the process that completed it.
    """
    steps = merged_steps(folder)
    evaluated = [step for step, metrics in steps.items() if "evaluation/avg_at_k" in metrics]
    result: Result = {
        "steps": max(steps),
        "start": {name: value for name, value in steps[0].items() if name.startswith("evaluation/")},
        "first": {"rewards/reward_mean": steps[1]["rewards/reward_mean"]} if "rewards/reward_mean" in steps[1] else {},
        "last": steps[max(steps)],
        "seconds": {**summed_times(steps.values()), OVERHEAD: overhead},
        "memory": {"memory/peak_bytes": peak_bytes()},
        "evaluated": evaluated,
        "data_hashes": data.hashes(),
        "data_counts": data.counts,
    }
    replace_text(folder / RESULT, json.dumps(result, indent=2))
    return result


def summed_times(steps: Iterable[dict[str, float]]) -> dict[str, float]:
    """Sums of each `time/` metric over all steps, and their total `time/seconds` over steps and evaluations."""
    seconds: dict[str, float] = {}
    for metrics in steps:
        for name, value in metrics.items():
            if name.startswith("time/"):
                seconds[name] = seconds.get(name, 0.0) + value
    seconds["time/seconds"] = seconds.get("time/step_seconds", 0.0) + seconds.get("time/evaluation_seconds", 0.0)
    return seconds
