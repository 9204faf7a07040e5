"""The null run: the base recipe and the baseline cell run for a few steps each, and their metrics are compared."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from research.ablation.executors import Executor, Job, Outcome, last_line
from research.ablation.interrupts import Interrupts
from research.ablation.loop import drive
from research.errors import UserError
from research.recipe import Recipe
from research.tracking import merged_steps, replace_text

STEPS = 2
"""Steps of each of the two runs."""
SIDES = ("base", "baseline")


def prove_null(
    folder: Path,
    base: Recipe,
    baseline: Recipe,
    executor: Executor,
    interrupts: Interrupts,
    *,
    say: Callable[[str], None],
) -> str:
    """Run the base recipe and the baseline cell for a few steps each, and compare their metrics bit for bit.

    Args:
        folder: the study's; it keeps the result for the next command.
        base: the base recipe with the held nodes, at the study's first seed.
        baseline: the cell with every factor at its first level, at the same seed.
        executor: runs them; it has no other runs.
        interrupts: may request a stop.
        say: prints a line.

    Returns: the result in a sentence. Nothing is run on another device than the CPU, since kernels there need not give
        the same numbers twice.

    Raises: UserError if one of them cannot be run; KeyboardInterrupt after a request to stop.
    """
    if base.config["trainer"]["accelerator"] != "cpu":
        return "The baseline was not run twice: off the CPU a run need not repeat itself bit for bit."
    kept = folder / "cells" / f"null-{base.digest}"
    sentence = kept.with_suffix(".txt")
    if not sentence.exists():
        jobs = [
            Job(run=f"null-{side}", config=_short(recipe.config), folder=(kept / side).resolve())
            for side, recipe in zip(SIDES, (base, baseline), strict=True)
        ]
        _run(jobs, executor, interrupts, say)
        replace_text(sentence, _compared(*(_measured(kept / side) for side in SIDES)))
    return sentence.read_text()


def _run(jobs: Sequence[Job], executor: Executor, interrupts: Interrupts, say: Callable[[str], None]) -> None:
    by_name = {job.run: job for job in jobs}
    waiting = deque(jobs)

    def end(outcome: Outcome) -> None:
        if outcome.stopped:
            waiting.append(by_name[outcome.run])
        elif outcome.result is None:
            raise UserError(f"the base recipe does not run for {STEPS} steps: {last_line(outcome.reason)}")

    drive(
        executor,
        interrupts,
        begin=lambda: waiting.popleft() if waiting else None,
        end=end,
        finished=lambda: not waiting,
        say=say,
    )


def _short(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with so few steps, in both phases if there are two."""
    run = {**config["run"], "steps": STEPS, "tokens": None, "seconds": None, "save_policy": False}
    short = {**config, "run": {**run, "evaluate_every": STEPS, "checkpoint_every": STEPS}}
    return {**short, "after": _short(config["after"])} if config.get("after") else short


def _measured(folder: Path) -> dict[int, dict[str, float]]:
    """Step → metrics of a run, without times and memory."""
    return {
        step: {key: value for key, value in metrics.items() if not key.startswith(("time/", "memory/"))}
        for step, metrics in merged_steps(folder).items()
    }


def _compared(one: Mapping[int, Mapping[str, float]], other: Mapping[int, Mapping[str, float]]) -> str:
    if moved := sorted({key for step in one.keys() | other.keys() for key in _unequal(one.get(step), other.get(step))}):
        return f"The baseline cell does not reproduce the base recipe over {STEPS} steps: {', '.join(moved)} differ."
    count = len({key for metrics in one.values() for key in metrics})
    return (
        f"Over {STEPS} steps the baseline cell and the base recipe, run apart at one seed, gave the same {count} "
        "metrics bit for bit."
    )


def _unequal(one: Mapping[str, float] | None, other: Mapping[str, float] | None) -> list[str]:
    one, other = one or {}, other or {}
    return [key for key in one.keys() | other.keys() if repr(one.get(key)) != repr(other.get(key))]
