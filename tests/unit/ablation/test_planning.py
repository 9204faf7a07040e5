"""What a plan says before anything runs, from the runs of an earlier study."""

from dataclasses import replace
from io import StringIO
from math import isnan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from research.ablation.designs import Cell, Comparison
from research.ablation.plan import Plan, Run
from research.ablation.search_places import Place
from research.ablation.search_spec import SearchSpec
from research.ablation.spec import StudySpec
from research.recipe import Recipe
from research.reporting.planning import (
    Earlier,
    detectable,
    earlier_runs,
    expected_seconds,
    print_plan,
    residual_deviation,
)
from research.statistics import paired_power

METRIC = "evaluation/avg_at_k"


def plan(folder: Path, design: str = "ladder", cells: int = 3, complete: int = 0) -> Plan:
    """A study of one seed and ten steps a run."""
    made = [Cell(id=str(k), label=f"cell {k}", levels={"clip": str(k)}) for k in range(cells)]
    recipe = Recipe(config={"run": {"steps": 10, "evaluate_every": 10, "checkpoint_every": 10}})
    runs = [Run(id=f"{cell.id}-s0", cell=cell, seed=0, recipe=recipe, folder=folder / cell.id) for cell in made]
    for run in runs[:complete]:
        run.folder.mkdir(parents=True)
        (run.folder / "result.json").write_text("{}")
    spec = StudySpec(
        name="study",
        path="study.yaml",
        question="Does it help?",
        base="grpo.yaml",
        design=design,
        seeds=[0],
        metric={"name": METRIC, "direction": "maximize"},
        factors={"clip": {}},
    )
    against = [Comparison(cell=cell.id, reference="0") for cell in made[1:]]
    return Plan(spec=spec, folder=folder, cells=made, comparisons=against, runs=runs, guarantees=["All is proved."])


def earlier(**changes: Any) -> Earlier:
    known = {"source": "x", "deviation": 0.02, "freedom": 4, "seconds_a_step": {"0": 1.0, "": 2.0}, "percent": True}
    return Earlier(**{**known, **changes})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two cells at two seeds, one of which ends 2 points further apart; one run is missing at a third seed."""
    study = {
        "metric": {"name": METRIC, "direction": "maximize"},
        "seeds": [0, 1, 2],
        "steps": 5,
        "cells": [{"id": "a", "levels": {}}, {"id": "b", "levels": {}}],
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    rows = [("a", 0, 0.5, 10.0), ("b", 0, 0.6, 30.0), ("a", 1, 0.5, 10.0), ("b", 1, 0.62, 50.0), ("a", 2, 0.9, 10.0)]
    made = [
        {"run": f"{c}-s{s}", "cell": c, "seed": s, "status": "complete", METRIC: v, "time/seconds": t}
        for c, s, v, t in rows
    ]
    pd.DataFrame(made).to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path


def test_the_residual_deviation_is_that_of_runs_beyond_cells_and_seeds() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 2.0, (400, 6))
    table = pd.DataFrame(noise + random.normal(0, 9.0, (400, 1)) + np.arange(6) * 5)
    deviation, freedom = residual_deviation(table)
    assert freedom == 399 * 5
    assert deviation == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("table", [pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"a": [1.0], "b": [2.0]})])
def test_no_deviation_from_one_cell_or_one_seed(table: pd.DataFrame) -> None:
    deviation, freedom = residual_deviation(table)
    assert isnan(deviation)
    assert freedom == 0


def test_earlier_runs_are_read_where_both_cells_have_the_seed(results: Path) -> None:
    found = earlier_runs(results, METRIC)
    assert found is not None
    assert found.deviation == pytest.approx(0.01)  # gains of 0.10 and 0.12: residuals of ±0.005, one degree of freedom
    assert found.freedom == 1
    assert found.seconds_a_step == {"a": 2.0, "b": 8.0, "": 5.0}
    assert earlier_runs(results / "cells", METRIC) is None
    assert earlier_runs(results, "evaluation/other") is None


def test_a_detectable_gain_is_found_with_the_stated_power(tmp_path: Path) -> None:
    alone, under_holm = detectable(plan(tmp_path), earlier(), 5)
    assert paired_power(alone / (0.02 * sqrt(2)), 5) == pytest.approx(0.8, abs=1e-3)
    assert paired_power(under_holm / (0.02 * sqrt(2)), 5, level=0.025) == pytest.approx(0.8, abs=1e-3)
    contrast, _ = detectable(plan(tmp_path, "factorial", cells=16), earlier(), 5)
    assert contrast == pytest.approx(alone * (2 / 4) / sqrt(2))
    assert isnan(detectable(plan(tmp_path), earlier(), 1)[0])


def test_the_time_is_that_of_the_runs_that_are_left(tmp_path: Path) -> None:
    assert expected_seconds(plan(tmp_path), earlier(), 1) == 10 + 20 + 20
    assert expected_seconds(plan(tmp_path / "begun", complete=1), earlier(), 2) == 20
    assert expected_seconds(plan(tmp_path), earlier(), 9) == 20  # not shorter than the longest run
    assert expected_seconds(plan(tmp_path), earlier(seconds_a_step={}), 1) is None


def test_the_time_of_a_search_that_is_to_come(tmp_path: Path) -> None:
    search = SearchSpec(parameters={}, seeds=[100, 101], trials=3, steps=4)
    made = plan(tmp_path)
    place = Place(id="0-all", levels={}, recipe=made.runs[0].recipe, own={})
    searching = replace(made, spec=replace(made.spec, search=search), searched=[place, place])
    assert expected_seconds(searching, earlier(), 1) == 50 + 2 * 3 * 2 * 4 * earlier().seconds_a_step[""]
    found = replace(searching, spec=replace(searching.spec, found={("a",): {"alpha2": 0.1}}))
    assert expected_seconds(found, earlier(), 1) == 50


def printed(made: Plan, **words: Any) -> str:
    console = Console(width=160, record=True, file=StringIO())
    print_plan(made, console, **words)
    return " ".join(console.export_text().split())  # however long the path is, and wherever lines break


def test_what_is_printed(results: Path) -> None:
    text = printed(plan(results), earlier=results, workers=1)
    assert "compares 'cell 1' with 'cell 0'" in text
    assert "All is proved." in text
    assert "About 3 min" in text  # 3 runs of 10 steps of 5 s
    assert "1 degree of freedom" in text
    assert "1 (this study) │ — │" in text
    unknown = printed(plan(results / "nowhere"), earlier=None, workers=1)
    assert "Time and detectable gains are unknown" in unknown
