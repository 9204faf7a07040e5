"""A run belongs to the code and data outside the package that it began with."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import refused

from research.ablation.plan import Plan, Run, make_plan
from research.ablation.run import _refuse_stale
from research.ablation.spec import read_study
from research.recipe import Recipe
from research.runs.folder import claim
from research.runs.outside import changed, outside
from research.tracking import METRICS

TRICK = """
from dataclasses import dataclass
from research.credit import Advantage
import outside_numbers

@dataclass(frozen=True, kw_only=True)
class Mine(Advantage):
    def __call__(self, *, rewards, mask):
        return mask * outside_numbers.ONE
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside_tricks.py").write_text(TRICK)
    (tmp_path / "outside_numbers.py").write_text("ONE = 1.0\n")
    (tmp_path / "data.jsonl").write_text('{"q": "1+1=", "a": "2"}\n')
    return tmp_path


def recipe_of(**changes: object) -> Recipe:
    train = {"class_path": "research.prompts.LocalJsonl", "init_args": {"path": "data.jsonl"}}
    model = {"credit": {"advantage": {"class_path": "outside_tricks.Mine"}}, "seed": 0}
    return Recipe(config={"model": model, "data": {"train": train}, "trainer": {}, "run": {}, **changes})


def begun(where: Path) -> Path:
    claim(recipe_of(), where)
    (where / METRICS).write_text('{"step": 0}\n')
    return where


def test_modules_their_neighbours_and_data_are_hashed() -> None:
    assert {Path(name).name for name in outside(recipe_of())} == {
        "outside_tricks.py",
        "outside_numbers.py",
        "data.jsonl",
    }


def test_the_package_and_what_is_installed_are_not() -> None:
    names = ["research.credit.GroupMean", "torch.nn.Linear", "json.loads", "nowhere.Thing"]
    config = {"model": {"parts": [{"class_path": name} for name in names]}}
    assert outside(recipe_of(**config)).keys() == {str(Path("data.jsonl").resolve())}


@pytest.mark.parametrize("name", ["outside_tricks.py", "outside_numbers.py", "data.jsonl"])
def test_a_run_is_not_continued_with_another_file(folder: Path, name: str) -> None:
    where = begun(folder / "run")
    claim(recipe_of(), where)
    (folder / name).write_text((folder / name).read_text() + "\n")
    assert changed(recipe_of(), where) == [name]
    message = refused(lambda: claim(recipe_of(), where))
    assert message.startswith(f"{name} changed since the run in {where} began: give another folder")


def test_a_run_that_has_measured_nothing_takes_the_new_file(folder: Path) -> None:
    claim(recipe_of(), folder / "run")
    (folder / "outside_numbers.py").write_text("ONE = 2.0\n")
    claim(recipe_of(), folder / "run")
    assert changed(recipe_of(), folder / "run") == []


@pytest.fixture
def plan(folder: Path, recipe: Callable[..., Recipe]) -> Plan:
    """A study with a trick of one's own, of which two runs have begun."""
    (folder / "mad.yaml").write_text(
        """
question: Does it matter?
base: grpo.yaml
design: add_one_in
seeds: [0, 1]
metric: {name: evaluation/avg_at_k, direction: maximize}
factors:
  advantage:
    ours: {model.credit.advantage: {class_path: GroupZScore}}
    mine: {model.credit.advantage: {class_path: outside_tricks.Mine}}
"""
    )
    plan = make_plan(read_study(folder / "mad.yaml"), folder / "study")
    for run in plan.runs[:2]:
        claim(run.recipe, run.folder)
        (run.folder / METRICS).write_text('{"step": 0}\n')
    return plan


def mine(plan: Plan) -> Run:
    return next(run for run in plan.runs if run.begun and "mine" in str(run.cell.levels))


def test_a_study_names_the_stale_runs_and_the_two_ways_on(folder: Path, plan: Plan) -> None:
    _refuse_stale(plan, redo=False)
    (folder / "outside_numbers.py").write_text("ONE = 2.0\n")
    message = refused(lambda: _refuse_stale(plan, redo=False))
    assert f"outside_numbers.py changed since these runs of the study began: {mine(plan).id}. " in message
    assert "with --output, or run them again with --redo" in message


def test_redo_deletes_the_stale_runs_alone(folder: Path, plan: Plan) -> None:
    stale, other = mine(plan), next(run for run in plan.runs if run.begun and run is not mine(plan))
    (plan.folder / "cells" / "identity").write_text("0123abcd")
    (folder / "outside_tricks.py").write_text(TRICK.replace("ONE", "ONE * 2"))
    _refuse_stale(plan, redo=True)
    assert not stale.folder.exists()
    assert other.begun
    assert not (plan.folder / "cells" / "identity").exists()
