"""What a report says before and beside its numbers, of a study that another test makes up."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from test_depth import METRIC, study

from research.reporting.analysis.analysis import analyse
from research.reporting.numbers import listed
from research.reporting.report import report
from research.reporting.sections.cautions import collapses, other_starts, unequal_data
from research.reporting.sections.findings import caption, findings
from research.reporting.sections.learning import learning_tables
from research.reporting.sections.setting import setting
from research.reporting.sections.tables import main_table


def changed(folder: Path, table: str, run: str, **values: Any) -> None:
    """Set values of the rows of one run, at one step if there is one among them."""
    path = folder / f"{table}.csv"
    frame = pd.read_csv(path)
    rows = frame["run"] == run
    if "step" in values:
        rows &= frame["step"] == values.pop("step")
    for column, value in values.items():
        frame.loc[rows, column] = value
    frame.to_csv(path, index=False)


def amended(folder: Path, **values: Any) -> Path:
    node = yaml.safe_load((folder / "study.yaml").read_text())
    (folder / "study.yaml").write_text(yaml.safe_dump(node | values))
    return folder


def said(folder: Path) -> str:
    return report(analyse(folder), {}).markdown()


def test_a_gain_that_more_tokens_bought_is_said_at_once(tmp_path: Path) -> None:
    text = findings(analyse(study(tmp_path / "s")))
    # Gains of 50 points at both seeds; after 1,000 tokens, at which b stands at 50 %, of 25 and 0.
    assert "Better than the reference: B vs A (+50.0 [+50.0, +50.0] points)." in text
    assert "At equal tokens sampled (1,000 a run) it no longer does: B vs A (+12.5 [" in text


def test_collapsed_runs_are_said_at_once(tmp_path: Path) -> None:
    made = study(tmp_path / "s")
    assert collapses(analyse(made)) == "1 run of 4 collapsed ([how](#learning-curves)): A (1 of 2)."
    assert "1 run of 4 collapsed" in findings(analyse(made))
    assert "| 1 of 2: metric at seed 0" in said(made).replace("[", "")


def test_a_row_with_a_warm_start_of_its_own_is_named_and_sets_no_threshold(tmp_path: Path) -> None:
    made = study(tmp_path / "s")
    assert other_starts(analyse(made)) == ""
    for seed in (0, 1):
        changed(made, "runs", f"b-s{seed}", **{f"start/{METRIC}": 0.05})
    analysis = analyse(made)
    assert "of B 5.0 %, where the table has that of the first row" in other_starts(analysis)
    assert other_starts(analysis) in said(made)
    assert analysis.learning is not None
    # Half the way from 0.25, which the table prints, to 0.625, the middle of the cells' 0.375 and 0.875.
    assert analysis.learning.threshold == pytest.approx(0.4375)


def test_steps_to_a_threshold_are_averaged_only_where_every_run_crosses_it(tmp_path: Path) -> None:
    made = study(tmp_path / "s", threshold=0.5)
    curves, _, pairs = learning_tables(analyse(made))
    assert curves.rows[0][5] == "5 [5, 5]"  # pyright: ignore
    assert pairs.rows[0][-1] == "+0 [+0, +0]"  # pyright: ignore
    changed(made, "curves", "a-s0", step=5, **{METRIC: 0.3})
    curves, _, pairs = learning_tables(analyse(made))
    assert curves.rows[0][5] == "— (1 of 2 runs)"  # pyright: ignore
    assert pairs.rows[0][-1] == "— (1 of 2 pairs)"  # pyright: ignore


def test_data_that_differ_within_a_seed_are_said_before_the_table(tmp_path: Path) -> None:
    made = study(tmp_path / "s")
    runs = pd.read_csv(made / "runs.csv")
    origins = pd.DataFrame({"run": runs["run"], "data_hash": "one", "commit": "abc"})
    origins.to_csv(made / "provenance.csv", index=False)
    assert unequal_data(analyse(made)) == ""
    changed(made, "provenance", "b-s0", data_hash="other")
    assert (
        "**Not fully paired.** The prompts of B are not those of A: the data hashes differ at seed 0."
        in (said(made).partition("## Result")[0])
    )


def test_the_commit_of_the_runs_is_said_where_it_is_not_the_studys(tmp_path: Path) -> None:
    made = amended(study(tmp_path / "s"), commit="def")
    pd.DataFrame({"run": ["a-s0", "b-s0"], "commit": "abc"}).to_csv(made / "provenance.csv", index=False)
    assert "- **commit of the runs**: `abc`" in said(made)
    assert "commit of the runs" not in said(amended(made, commit="abc"))


def test_the_setting_is_said_without_a_paper_too(tmp_path: Path) -> None:
    made = amended(study(tmp_path / "s"), scale="a model", budget="80 tokens", protocol={"completions_per_prompt": 4})
    text = "A model; evaluation: completions per prompt 4; 2 seeds (0, 1)."
    assert setting(analyse(made)) == f"{text} avg@4 is the share of right completions among 4 sampled for each prompt."
    assert f"**Setting.** {text}" in said(made)
    assert "at equal budgets (80 tokens)" in said(amended(made, steps=None))


def test_a_study_that_compares_no_two_cells_speaks_of_no_comparison(tmp_path: Path) -> None:
    made = amended(study(tmp_path / "s"), comparisons=[])
    assert main_table(analyse(made)).head == ("Row", "Seeds", "avg@k, % [95 %]")
    assert "Holm" not in caption(analyse(made))
    text = said(made)
    assert "Against |" not in text
    assert "comparison" not in text


def test_names_with_commas_are_told_apart(tmp_path: Path) -> None:
    cells = [{"id": c, "label": f"{c.upper()}, mixed", "levels": {"method": c}} for c in "ab"]
    made = amended(study(tmp_path / "s"), cells=cells)
    for seed in (0, 1):
        changed(made, "runs", f"b-s{seed}", **{METRIC: 0.75})
    assert "1 of 2 cells ends clearly above the warm start: B, mixed." in findings(analyse(made))
    assert listed(["A, mixed", "B, mixed"]) == "A, mixed; and B, mixed"
