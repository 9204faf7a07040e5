"""What a study proves of itself, on configs by hand and on a run made twice."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import refused

from research.ablation.designs import design_cells
from research.ablation.executors import Executor, Job, Outcome, Resources
from research.ablation.guarantees import check_baseline, check_single_changes
from research.ablation.interrupts import Interrupts
from research.ablation.spec import StudySpec
from research.ablation.unchanged import Unproven, prove_null
from research.recipe import Recipe
from research.runs.fit import fit

FACTORS: dict[str, dict[str, dict[str, Any]]] = {
    "clip": {"low": {"model.clip": {"eps": 1}}, "high": {"model.clip": {"eps": 2}}},
    "loss": {"sequence": {"model.loss": "sequence"}, "token": {"model.loss": "token"}},
}


def proved(change: Callable[[str, dict[str, Any]], Any] = lambda cell, model: None, **levels: Any) -> list[str]:
    """The check on the ladder over clip and loss, after `change` has had each cell's id and `model` section."""
    spec = StudySpec(
        name="s",
        path="s.yaml",
        question="?",
        base="r.yaml",
        design="ladder",
        seeds=[0],
        metric={},
        factors={**FACTORS, **levels},
    )
    cells, _ = design_cells("ladder", spec.factors, "base")
    recipes = {}
    for cell in cells:
        model: dict[str, Any] = {}
        for factor, level in cell.levels.items():
            for path, node in spec.factors[factor][level].items():  # pyright: ignore[reportAttributeAccessIssue]
                model[path.removeprefix("model.")] = node
        change(cell.id, model)
        recipes[cell.id] = Recipe(config={"model": model})
    return check_single_changes(spec, cells, recipes)


def run_here(job: Job) -> Outcome:
    return Outcome(run=job.run, result=fit(Recipe(config=job.config), job.folder))


class Here(Executor):
    """One run at a time, in this process."""

    def __init__(self, run: Callable[[Job], Outcome] = run_here) -> None:
        super().__init__(Resources(workers=1))
        self.run, self.ran = run, list[str]()

    def _start(self, job: Job) -> None:
        self.ran.append(job.run)

    def _ended(self, seconds: float) -> list[Outcome]:
        return [self.run(job) for job in self.running.values()]

    def close(self) -> None:
        self.running = {}


def prove(folder: Path, base: Recipe, baseline: Recipe, executor: Here, interrupts: Interrupts | None = None) -> str:
    proof = prove_null(folder, base, baseline, executor, interrupts or Interrupts(), say=print)
    assert proof.holds
    return proof.sentence


class TestSingleChanges:
    def test_all_pairs(self) -> None:
        (sentence,) = proved()
        assert sentence == (
            "The resolved configs of all 3 pairs of cells differ exactly at the nodes of the factors that differ, each "
            "of which changes something."
        )

    def test_a_cell_that_differs_elsewhere(self) -> None:
        message = refused(lambda: proved(lambda cell, model: model.update(kl=cell)))
        assert message.startswith(
            "cells 0-base and 1-clip also differ at model.kl, which none of their factors names: "
        )

    def test_two_cells_that_differ_from_the_first_as_they_may_and_from_one_another_as_they_may_not(self) -> None:
        """Cell 2 moves clip back: a change that clip accounts for beside cell 0, and nothing does beside cell 1."""

        def change(cell: str, model: dict[str, Any]) -> None:
            if cell == "2-loss":
                model["clip"] = {"eps": 3}

        assert "1-clip and 2-loss also differ at model.clip.eps" in refused(lambda: proved(change))

    def test_a_path_is_not_named_by_its_beginning(self) -> None:
        message = refused(lambda: proved(lambda cell, model: model.update(clip_range=cell)))
        assert "model.clip_range" in message

    def test_levels_that_are_one_config_are_named(self) -> None:
        same = {"sequence": {"model.loss": "token"}, "token": {"model.loss": "token"}}
        changes, null = proved(loss=same)
        assert changes.endswith("but for those below.")
        assert null == "The levels sequence and token of loss are one config: their difference is noise."


class TestNull:
    def test_a_baseline_that_leaves_its_base(self) -> None:
        base = Recipe(config={"model": {"loss": "token"}, "run": {}})
        other = Recipe(config={"model": {"loss": "sequence"}, "run": {}})
        assert base.digest in check_baseline(base, base)
        assert "the first levels change model.loss of the base recipe" in refused(lambda: check_baseline(base, other))

    def test_a_run_made_twice(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        base = recipe("grpo")
        executor = Here()
        sentence = prove(tmp_path, base, recipe("grpo"), executor)
        assert executor.ran == ["null-base", "null-baseline"]
        assert sentence.startswith(
            "Over 2 steps the baseline cell and the base recipe, run apart at one seed, gave the "
        )
        assert sentence.endswith("metrics bit for bit.")
        assert prove(tmp_path, base, base, executor) == sentence  # found once for each folder
        assert len(executor.ran) == 2

    def test_a_difference_stops_the_study(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        base, other, executor = recipe("grpo"), recipe("grpo", {"model.optimization.learning_rate": 1e-2}), Here()
        with pytest.raises(Unproven) as raised:
            prove(tmp_path, base, other, executor)
        assert raised.value.status == 1
        message = str(raised.value)
        assert "does not reproduce the base recipe over 2 steps" in message
        assert re.search(r": \w+/\w+ at step [012]: -?[\d.e-]+ and -?[\d.e-]+; ", message)
        assert "or go on with --accept-unproven" in message
        proof = prove_null(tmp_path, base, other, executor, Interrupts(), say=print, accept=True)
        assert not proof.holds
        assert message.startswith(proof.sentence)

    def test_a_failed_proof_is_made_again(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        base, other, executor = recipe("grpo"), recipe("grpo", {"model.optimization.learning_rate": 1e-2}), Here()
        with pytest.raises(Unproven):
            prove(tmp_path, base, other, executor)
        assert "bit for bit" in prove(tmp_path, base, base, executor)
        assert len(executor.ran) == 4

    def test_nothing_is_run_off_the_cpu(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        base, executor = recipe("grpo", {"trainer.accelerator": "gpu"}), Here()
        assert "was not run twice" in prove(tmp_path, base, base, executor)
        assert executor.ran == []

    def test_one_that_cannot_be_run(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        failing = Here(lambda job: Outcome(run=job.run, reason="Traceback\nValueError: no such verifier"))
        message = refused(lambda: prove(tmp_path, recipe("grpo"), recipe("grpo"), failing))
        assert message == "the base recipe does not run for 2 steps: ValueError: no such verifier"

    def test_one_that_a_scheduler_stops_is_continued(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        """And what is asked to stop ends there."""
        stops = iter([True])
        executor = Here(lambda job: Outcome(run=job.run, stopped=True) if next(stops, False) else run_here(job))
        assert "bit for bit" in prove(tmp_path / "a", recipe("grpo"), recipe("grpo"), executor)
        assert executor.ran == ["null-base", "null-baseline", "null-base"]
        asked, interrupted = Here(), Interrupts()
        interrupted.asked = True
        with pytest.raises(KeyboardInterrupt):
            prove(tmp_path / "b", recipe("grpo"), recipe("grpo"), asked, interrupted)
        assert asked.ran == []
