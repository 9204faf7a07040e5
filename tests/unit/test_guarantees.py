"""What a study proves of itself, on configs by hand and on a run made twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import refused

from research.ablation.designs import design_cells
from research.ablation.guarantees import check_baseline, check_null, check_single_changes, null_of
from research.ablation.spec import StudySpec
from research.config import Recipe

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


class TestSingleChanges:
    def test_all_pairs(self) -> None:
        (sentence,) = proved()
        assert sentence == (
            "The resolved configs of all 3 pairs of cells differ exactly at the nodes of the factors that differ, each "
            "of which changes something."
        )

    def test_a_cell_that_differs_elsewhere(self) -> None:
        message = refused(lambda: proved(lambda cell, model: model.update(kl=cell)))
        assert message == "cells 0-base and 1-clip also differ at model.kl, which none of their factors names"

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
        sentence = null_of(tmp_path, base, recipe("grpo"))
        assert sentence.startswith(
            "Over 2 steps the baseline cell and the base recipe, run apart at one seed, gave the "
        )
        assert sentence.endswith("metrics bit for bit.")
        assert null_of(tmp_path, base, recipe("grpo", {"model.seed": 1})) == sentence  # found once for each folder

    def test_a_difference_is_seen(self, recipe: Callable[..., Recipe]) -> None:
        other = recipe("grpo", {"model.optimization.learning_rate": 1e-2})
        sentence = check_null(recipe("grpo"), other)
        assert "does not reproduce the base recipe over 2 steps" in sentence
        assert "objective/kl_mean" in sentence

    def test_nothing_is_run_off_the_cpu(self, recipe: Callable[..., Recipe]) -> None:
        base = recipe("grpo", {"trainer.accelerator": "gpu"})
        assert "was not run twice" in check_null(base, base)
