"""Items, learning curves and costs of a study that this test makes up, worked out by hand."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import yaml

from research.ablation.folder.tables import write_csv
from research.errors import UserError
from research.reporting.analysis.analysis import analyse
from research.reporting.analysis.costs import costs
from research.reporting.analysis.learning import collapse, crossing, learning
from research.reporting.analysis.results import read_results
from research.reporting.document import Table
from research.reporting.sections.costs import cost_tables
from research.reporting.sections.items import items_section
from research.reporting.sections.learning import learning_tables

METRIC = "evaluation/avg_at_k"
RIGHT = {("a", 0): (2, 0), ("a", 1): (4, 0), ("b", 0): (4, 2), ("b", 1): (4, 4)}
"""Cell and seed to the completions that were right, of four each, of two items at the last step."""


def study(folder: Path, **metric: object) -> Path:
    folder.mkdir()
    node = {
        "design": "methods",
        "seeds": [0, 1],
        "steps": 10,
        "metric": {"name": METRIC, "direction": "maximize", **metric},
        "cells": [{"id": c, "label": c.upper(), "levels": {"method": c}} for c in "ab"],
        "comparisons": [{"cell": "b", "reference": "a"}],
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(node))
    runs, curves, items = [], [], []
    for (cell, seed), right in RIGHT.items():
        run, last, tokens = f"{cell}-s{seed}", sum(right) / 8, {"a": 1000, "b": 2000}[cell]
        runs.append({"run": run, "cell": cell, "seed": seed, "status": "complete", METRIC: last})
        runs[-1] |= {f"start/{METRIC}": 0.25, "cost/tokens_sampled": tokens, "time/seconds": 60}
        for step in (0, 5, 10):
            value = {0: 0.25, 5: 0.5, 10: last}[step]
            curves.append({"run": run, "step": step, METRIC: value})
            curves[-1] |= {"cost/tokens_sampled": tokens * step / 10, "rollouts/truncated": 0.0} if step else {}
        for step, counts in ((0, (1, 1)), (10, right)):
            items += [{"run": run, "step": step, "prompt": f"p{i}", "k": 4, "right": r} for i, r in enumerate(counts)]
    for name, rows in {"runs.csv": runs, "curves.csv": curves, "items.csv.gz": items}.items():
        write_csv(folder / name, rows)
    return folder


def test_items_are_paired_by_seed_and_item(tmp_path: Path):
    found = analyse(study(tmp_path / "s")).items
    assert found is not None
    (pair,) = found.pairs
    # Gains of the items: 0.5 and 0.5 at seed 0; 0 and 1 at seed 1.
    assert (pair.seeds, pair.items, pair.gain.mean, pair.anew.mean) == (2, 2, 0.5, 0.5)
    # Item 0: b's 1, 1 against a's 0.5, 1 wins two pairs of seeds and ties two: 3/4. Item 1: 0.5, 1 wins all from 0, 0.
    assert pair.improvement.mean == pytest.approx((0.75 + 1) / 2)
    # Sign flips of the items' mean gains 0.25 and 0.75: only ++ and −− are as extreme.
    assert pair.p_items == 0.5
    assert [cell.items for cell in found.cells] == [2, 2]


def test_a_table_is_the_same_compressed(tmp_path: Path):
    rows = [{"run": "a-s0", "right": k} for k in range(50)]
    for name in ("items.csv", "items.csv.gz"):
        write_csv(tmp_path / name, rows)
    written = (tmp_path / "items.csv.gz").read_bytes()
    assert gzip.decompress(written) == (tmp_path / "items.csv").read_bytes()
    assert written[4:8] == bytes(4)  # no time of writing


def test_a_table_that_is_cut_off_is_a_sentence(tmp_path: Path):
    folder = study(tmp_path / "s")
    table = folder / "items.csv.gz"
    for damaged in (table.read_bytes()[:-20], b"run,step\n"):
        table.write_bytes(damaged)
        with pytest.raises(UserError, match=r"items\.csv\.gz is not a readable table"):
            read_results(folder)


def test_an_older_folder_has_the_items_as_text(tmp_path: Path):
    folder = study(tmp_path / "s")
    packed = folder / "items.csv.gz"
    expected = read_results(folder).items
    (folder / "items.csv").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert read_results(folder).items.equals(expected)


def test_another_metric_has_no_items(tmp_path: Path):
    folder = study(tmp_path / "s")
    (folder / "items.csv.gz").unlink()
    analysis = analyse(folder)
    assert analysis.items is None
    assert "not recorded" in str(items_section(analysis).blocks[0])


def test_curves_become_numbers(tmp_path: Path):
    found = learning(read_results(study(tmp_path / "s", threshold=0.625)))
    assert found is not None
    run = next(run for run in found.runs if run.run == "b-s1")
    # 0.25, 0.5, 1 at steps 0, 5, 10: (0.375 + 0.75) / 2; from 0.5 to 1 a quarter of five steps beyond step 5.
    assert (run.area, run.best, run.best_step, run.last, run.reached) == (0.5625, 1.0, 10, 1.0, 6.25)
    assert (found.threshold, found.stated) == (0.625, True)
    # a-s0 ends at 0.25, half below its best of 0.5.
    (fallen,) = [run for run in found.runs if run.collapse]
    assert (fallen.run, fallen.collapse, fallen.reached) == ("a-s0", ("metric",), None)
    assert found.pairs[0].sooner.n == 0


def test_a_threshold_that_the_study_does_not_state_is_half_way_to_the_median_cell(tmp_path: Path):
    found = learning(read_results(study(tmp_path / "s")))
    assert found is not None
    # Cells end at 0.375 and 0.875, their median is 0.625; from 0.25 half the way is 0.4375.
    assert (found.threshold, found.stated) == (0.4375, False)


def test_crossing_and_collapse_by_hand():
    assert crossing(np.array([0.0, 10.0]), np.array([0.5, 0.6]), 0.5) == 0.0
    assert crossing(np.array([0.0, 10.0]), np.array([0.1, 0.2]), 0.5) is None
    assert collapse(np.array([8.0, 2.0, 2.4]), sign=-1.0) == ()
    assert collapse(np.array([8.0, 2.0, 2.6]), sign=-1.0) == ("metric",)
    steps = np.linspace(1, 0.05, 40)
    assert collapse(np.array([0.1, 0.2]), sign=1.0, entropy=steps, truncated=1 - steps) == ("entropy", "length")
    assert collapse(np.array([0.1, 0.2]), sign=1.0, entropy=steps[:30], truncated=steps) == ()


def test_cells_are_compared_at_the_tokens_that_all_of_them_reached(tmp_path: Path):
    results = read_results(study(tmp_path / "s"))
    (budget,) = costs(results).budgets
    # a spends 1000 tokens in all, which b has spent at step 5, where its metric is 0.5.
    assert (budget.name, budget.budget, budget.steps) == ("tokens sampled", 1000.0, {"a": 10.0, "b": 5.0})
    assert (budget.cells["a"].mean, budget.cells["b"].mean) == (0.375, 0.5)
    assert budget.pairs[0].gain.mean == 0.125
    assert budget.pairs[0].least_p == 0.5


def test_gains_are_put_over_what_they_cost(tmp_path: Path):
    found = costs(read_results(study(tmp_path / "s")))
    worth = {(cost.cell, cost.column): cost.per_unit.mean for cost in found.cells}
    # a gains 0 and 0.25 over the start, 0.125 on average, in 1000 tokens and a minute.
    assert worth["a", "cost/tokens_sampled"] == pytest.approx(125.0)
    assert worth["a", "time/seconds"] == pytest.approx(0.125)
    (pair,) = [pair for pair in found.pairs if pair.column == "cost/tokens_sampled"]
    assert pair.extra.mean == 1.0
    assert pair.per_unit.mean == pytest.approx((0.625 - 0.25) * 1e6 / 2000)


def test_what_was_not_recorded_is_said(tmp_path: Path):
    folder = study(tmp_path / "s")
    (folder / "curves.csv").unlink()
    analysis = analyse(folder)
    assert analysis.learning is None
    assert learning_tables(analysis) == ()
    assert any("not recorded" in block for block in cost_tables(analysis) if isinstance(block, str))


def test_tables_have_a_row_for_every_cell_and_comparison(tmp_path: Path):
    analysis = analyse(study(tmp_path / "s"))
    blocks = (*items_section(analysis).blocks, *learning_tables(analysis), *cost_tables(analysis))
    sizes = [len(block.rows) for block in blocks if isinstance(block, Table)]
    assert sizes == [1, 3, 2, 1, 2, 1, 2]
