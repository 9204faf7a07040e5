"""The null run: the base recipe and the baseline cell run for a few steps each, and their metrics are compared."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
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
SHOWN = 5
"""Differences that a sentence names."""


class Unproven(UserError):
    """The baseline cell does not reproduce the base recipe, so a study's toggles change more than they name."""

    status = 1


@dataclass(frozen=True, kw_only=True)
class NullProof:
    """Result of the null run."""

    sentence: str
    holds: bool
    """True if nothing differed, or if nothing was run because the device need not give the same numbers twice."""


def prove_null(
    folder: Path,
    base: Recipe,
    baseline: Recipe,
    executor: Executor,
    interrupts: Interrupts,
    *,
    say: Callable[[str], None],
    accept: bool = False,
) -> NullProof:
    """Run the base recipe and the baseline cell for a few steps each, and compare their metrics bit for bit.

    Args:
        folder: the study's; it keeps the result for the next command.
        base: the base recipe with the held nodes, at the study's first seed.
        baseline: the cell with every factor at its first level, at the same seed.
        executor: runs them; it has no other runs.
        interrupts: may request a stop.
        say: prints a line.
        accept: whether the study goes on if they differ; the proof then says so.

    Returns: the result. Nothing is run on another device than the CPU, since kernels there need not give the same
        numbers twice. A proof that holds is not made again; one that failed is, with the code as it is then.

    Raises: Unproven if they differ and that is not accepted; UserError if one of them cannot be run; KeyboardInterrupt
        after a request to stop.
    """
    if base.config["trainer"]["accelerator"] != "cpu":
        sentence = "The baseline was not run twice: off the CPU a run need not repeat itself bit for bit."
        return NullProof(sentence=sentence, holds=True)
    kept = folder / "cells" / f"null-{base.digest}"
    held = kept.with_suffix(".txt")
    if not held.exists():
        if (failed := kept.with_suffix(".failed")).exists():  # it is made again, with the code as it is now
            rmtree(kept, ignore_errors=True)
            failed.unlink()
        jobs = [
            Job(run=f"null-{side}", config=_short(recipe.config), folder=(kept / side).resolve())
            for side, recipe in zip(SIDES, (base, baseline), strict=True)
        ]
        _run(jobs, executor, interrupts, say)
        measured = [_measured(kept / side) for side in SIDES]
        if moved := _moved(*measured):
            return _failed(kept, moved, accept)
        replace_text(held, _same(measured[0]))
    return NullProof(sentence=held.read_text(), holds=True)


def _failed(kept: Path, moved: Sequence[str], accept: bool) -> NullProof:
    more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    sentence = (
        f"The baseline cell does not reproduce the base recipe over {STEPS} steps, so the study's changes do "
        f"more than they name: {'; '.join(moved[:SHOWN])}{more}."
    )
    replace_text(kept.with_suffix(".failed"), sentence)
    if accept:
        return NullProof(sentence=sentence, holds=False)
    raise Unproven(
        f"{sentence} The study was not started, and what it has already is kept. Both runs lie in {kept}. Mend what "
        "differs and run the same command again, or go on with --accept-unproven, which the report then says first"
    )


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


def _moved(one: Mapping[int, Mapping[str, float]], other: Mapping[int, Mapping[str, float]]) -> list[str]:
    """The metrics that differ, each with the first step at which it does and both values."""
    first: dict[str, str] = {}
    for step in sorted(one.keys() | other.keys()):
        left, right = one.get(step, {}), other.get(step, {})
        for key in sorted(left.keys() | right.keys()):
            if repr(left.get(key)) != repr(right.get(key)):
                first.setdefault(key, f"{key} at step {step}: {left.get(key)} and {right.get(key)}")
    return list(first.values())


def _same(one: Mapping[int, Mapping[str, float]]) -> str:
    count = len({key for metrics in one.values() for key in metrics})
    return (
        f"Over {STEPS} steps the baseline cell and the base recipe, run apart at one seed, gave the same {count} "
        "metrics bit for bit."
    )
