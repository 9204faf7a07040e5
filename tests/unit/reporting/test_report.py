"""A report rendered from a study folder that this test makes up: none of its numbers is a result."""

import csv
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from research.errors import UserError
from research.reporting import terminal_table, write_report
from research.reporting.analysis.analysis import analyse
from research.reporting.sections.findings import caption
from research.reporting.sections.tables import factors_table

METRIC = "evaluation/avg_at_k"
PAPER = "experiments/papers/dapo_table1.yaml"
LADDER = {
    "0-base": ("Naive GRPO", {"clip": "symmetric", "aggregation": "sequence"}),
    "1-clip": ("+ clip higher", {"clip": "higher", "aggregation": "sequence"}),
    "2-aggregation": ("+ token mean", {"clip": "higher", "aggregation": "token"}),
}
MADE_UP = {
    ("0-base", 0): 0.30,
    ("0-base", 1): 0.34,
    ("0-base", 2): 0.29,
    ("1-clip", 0): 0.35,
    ("1-clip", 1): 0.40,
    ("1-clip", 2): 0.35,
    ("2-aggregation", 0): 0.33,
    ("2-aggregation", 1): 0.45,
    ("2-aggregation", 2): 0.36,
}


def study(seeds: list[int], paper: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "name": "made-up",
        "question": "Is this a test?",
        "command": "research ablate experiments/ablations/made_up.yaml",
        "commit": "0123abc",
        "dirty": True,
        "design": "ladder",
        "base": "experiments/grpo.yaml",
        "seeds": seeds,
        "metric": {"name": METRIC, "direction": "maximize"},
        "paper": paper,
        "scale": "a made-up model of no parameters",
        "steps": 4,
        "factors": {
            "clip": {"symmetric": {"a": 1}, "higher": {"a": 2}},
            "aggregation": {"sequence": {"b": 1}, "token": {"b": 2}},
        },
        "cells": [{"id": i, "label": label, "levels": levels} for i, (label, levels) in LADDER.items()],
        "comparisons": [
            {"cell": "1-clip", "reference": "0-base"},
            {"cell": "2-aggregation", "reference": "1-clip"},
            {"cell": "2-aggregation", "reference": "0-base"},
        ],
        "environment": {"python": "3.11.9", "torch": "2.13.0"},
        "protocol": {"completions_per_prompt": 8, "temperature": 1.0, "top_p": 0.7, "items": 64},
        **changes,
    }


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def write_study(
    folder: Path,
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    paper: str | None = PAPER,
    lost: tuple[tuple[str, int], ...] = (),
    spec: dict[str, Any] | None = None,
) -> Path:
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(spec or study(list(seeds), paper), sort_keys=False))
    runs, curves, origins = [], [], []
    for (cell, seed), value in MADE_UP.items():
        if seed not in seeds:
            continue
        name = f"{cell}-s{seed}"
        complete = (cell, seed) not in lost
        row = {"run": name, "cell": cell, "seed": seed, "status": "complete" if complete else "missing"}
        measured = {METRIC: value, f"start/{METRIC}": 0.25 + seed / 100, "evaluation/truncated": 0.125}
        measured |= {"cost/tokens_sampled": 12_000, "cost/groups_dropped": 3, "time/seconds": 61.25}
        runs.append(row | LADDER[cell][1] | {key: v if complete else "" for key, v in measured.items()})
        origins.append({"run": name, "mlflow_run_id": f"id{seed}", "config_hash": "cafe", "versions": "torch 2.13.0"})
        for step in range(1, 5):
            shown = {METRIC: value * (0.9 + 0.025 * step) if step % 2 == 0 else "", "rollouts/entropy_mean": 1 / step}
            curves.append({"run": name, "step": step, **shown, "rollouts/truncated": 0.1})
    write_csv(folder / "runs.csv", runs)
    write_csv(folder / "curves.csv", curves)
    write_csv(folder / "provenance.csv", origins)
    return folder


def line(report: str, start: str) -> str:
    """The first line that begins so, without its links and anchors."""
    return next(text for text in map(unlinked, report.splitlines()) if text.startswith(start))


def unlinked(text: str) -> str:
    return re.sub(r'<a id="[^"]*"></a>', "", re.sub(r"\[((?:[^][]|\[[^][]*\])*)\]\(#[^)]*\)", r"\1", text))


def test_a_full_study(tmp_path: Path):
    folder = write_study(tmp_path / "results" / "made-up")
    path = write_report(folder)
    assert path == folder / "report.md"
    report = path.read_text()
    for name in ("curves", "final", "effects", "panels"):
        assert (folder / "figures" / f"{name}.svg").stat().st_size > 2000
        assert report.count(f"(figures/{name}.svg)") == 1
    assert "The design's 9 runs (3 cells × 3 seeds) are all complete." in report
    assert line(report, "| Row | Seeds | avg@8, % [95 %]")
    assert line(report, "| Warm start | 3 | 26.0 [")
    # Per seed 5, 6 and 6 points: mean 5.667, half-width 4.3027 · 0.57735 / √3 = 1.434. Raw p 0.25, 0.75 (of ±2 ±5 ±1
    # six of eight reach |4|) and 0.25; Holm: 3 · 0.25, then its running maximum, so 0.75 three times.
    # The paper's pair is + Clip-Higher after + Overlong Filtering, 38 − 36.
    assert line(report, "| + clip higher | 3 |").endswith(
        "| Naive GRPO | +5.7 [+4.2, +7.1] | 0.750 (too few seeds) | 38 | +2 | same direction |"
    )
    assert line(report, "| + token mean | 3 |").endswith("| 0.750 (too few seeds) | 42 | +1 | undecided |")
    assert line(report, "| … + token mean | 3 |").endswith("| 0.750 (too few seeds) | 42 | — | no counterpart |")
    assert "cannot go below 2/2^3 = 0.25" in report
    assert "without overlong filtering" not in line(report, "**What was found.**")
    assert "ran without it" in report
    assert "Model, data and budget of this study are not the paper's" in report
    assert "Qwen2.5-32B base" in report
    assert "**Setting.** A made-up model of no parameters; evaluation: completions per prompt 8" in report
    assert line(report, "| DeepSeek-R1-Zero-Qwen-32B |") == "| DeepSeek-R1-Zero-Qwen-32B | — | — | 47 |"
    # Without the two changes that the study lacks, ours stands beside two of the paper's rows.
    for theirs, number in (("Naive GRPO", 30), ("+ Overlong Filtering", 36)):
        assert f"| {theirs} | Naive GRPO | 31.0 [24.4, 37.6] | {number} |" in unlinked(report)
    assert "with uncommitted changes" in report
    assert line(report, "| 1-clip-s2 | 2 | complete | 27.0 | 35.0 | `cafe` | `id2` |")
    assert line(report, "| Naive GRPO | 3 | 12,000 | 3 | 61.2 |")


def test_clearly_above_the_warm_start_needs_the_whole_interval(tmp_path: Path):
    report = write_report(write_study(tmp_path / "study")).read_text()
    section = report.split("## Against the warm start")[1]
    # Per seed 5, 8 and 2 points: 5 ± 4.3027 · 3/√3 reaches below 0; 10, 14 and 8 points: 10.667 ± 7.589 does not.
    assert line(section, "| Naive GRPO | 3 |").endswith("| +5.0 [−2.5, +12.5] | no |")
    assert line(section, "| + clip higher | 3 |").endswith("| +10.7 [+3.1, +18.3] | yes |")


def test_missing_runs_are_named_and_leave_their_pairs(tmp_path: Path):
    folder = write_study(tmp_path / "study", lost=(("1-clip", 1),))
    rows = (folder / "runs.csv").read_text().splitlines()
    (folder / "runs.csv").write_text("\n".join(row for row in rows if not row.startswith("2-aggregation-s0")))
    report = write_report(folder).read_text()
    assert "**2 of the design's 9 runs gave no result**" in report
    assert "- `1-clip-s1`: missing" in report
    assert "- `2-aggregation-s0`: no row in runs.csv" in report
    assert line(report, "| + clip higher | 2 | 35.0 [35.0, 35.0] | Naive GRPO |")
    assert "(1 paired seed)" in line(report, "| + token mean | 2 |")
    assert "cannot go below 2/2^1 = 1" in report
    assert line(report, "| 1-clip-s1 | 1 | missing | — | — |")


def test_one_seed_has_no_interval_and_decides_nothing(tmp_path: Path):
    report = write_report(write_study(tmp_path / "study", seeds=(0,))).read_text()
    gain = "| + clip higher | 1 | 35.0 [—] | Naive GRPO | +5.0 [—]"
    assert line(report, f"{gain} | 1.000 (too few seeds) | 38 | +2 | undecided |")
    assert "No comparison on avg@8 has an interval, since each rests on one seed" in report
    assert "same direction |" not in report


def test_without_a_paper_there_is_no_verdict(tmp_path: Path):
    report = write_report(write_study(tmp_path / "study", paper=None)).read_text()
    assert "Paper" not in line(report, "| Row | Seeds |")
    assert "verdict" not in report.lower()


def test_only_what_is_there_is_needed(tmp_path: Path):
    folder = write_study(tmp_path / "study")
    (folder / "curves.csv").unlink()
    (folder / "provenance.csv").unlink()
    kept = [
        {"run": f"{c}-s{s}", "cell": c, "seed": s, "status": "complete", METRIC: v} for (c, s), v in MADE_UP.items()
    ]
    write_csv(folder / "runs.csv", kept)
    report = write_report(folder).read_text()
    assert "nothing is compared with it" in report
    assert "## Cost" not in report
    assert not (folder / "figures" / "curves.svg").exists()
    assert (folder / "figures" / "final.svg").exists()


def test_no_complete_run_is_reported_and_not_an_error(tmp_path: Path):
    folder = write_study(tmp_path / "study", lost=tuple(MADE_UP))
    report = write_report(folder).read_text()
    assert "No run is complete, so nothing can be said yet." in report
    assert report.count(": missing") == 9


def test_a_minimized_metric_out_of_the_unit_range(tmp_path: Path):
    spec = study([0, 1, 2], None, metric={"name": "evaluation/loss", "direction": "minimize"})
    folder = write_study(tmp_path / "study", spec=spec)
    kept = [
        {"run": f"{c}-s{s}", "cell": c, "seed": s, "status": "complete", "evaluation/loss": 10 * v}
        for (c, s), v in MADE_UP.items()
    ]
    write_csv(folder / "runs.csv", kept)
    analysis = analyse(folder)
    assert not analysis.percent
    assert analysis.effects[0].gains == pytest.approx((-0.5, -0.6, -0.6))
    assert "| −0.57 [−0.71, −0.42] |" in unlinked(write_report(folder).read_text())


def test_the_terminal_shows_the_same_rows(tmp_path: Path):
    console = Console(width=200, record=True, file=StringIO())
    folder = write_study(tmp_path / "study", lost=(("0-base", 0),))
    console.print(terminal_table(folder))
    # The two seeds left both gain 6 points: an interval without width, which must not pass for certainty.
    assert "An interval without width" in caption(analyse(folder))
    text = console.export_text()
    assert "Warm start" in text
    assert "+6.0 [+6.0, +6.0]" in text
    assert "0-base-s0 (missing)" in text


def test_a_factorial_design_shows_main_effects_and_interactions(tmp_path: Path):
    cells = [
        {"id": f"{clip}-{mean}", "label": f"{clip} {mean}", "levels": {"clip": clip, "aggregation": mean}}
        for clip in ("symmetric", "higher")
        for mean in ("sequence", "token")
    ]
    pairs = [{"cell": cell["id"], "reference": cells[0]["id"]} for cell in cells[1:]]
    spec = study([0, 1], None, design="factorial", cells=cells, comparisons=pairs)
    folder = write_study(tmp_path / "study", spec=spec)
    made_up = dict(zip((cell["id"] for cell in cells), (0.1, 0.2, 0.4, 0.9), strict=True))
    rows = [
        {"run": f"{i}-s{s}", "cell": i, "seed": s, "status": "complete", METRIC: v + s * (i == "higher-token") / 25}
        for i, v in made_up.items()
        for s in (0, 1)
    ]
    write_csv(folder / "runs.csv", rows)
    table = factors_table(analyse(folder))
    assert table is not None
    # Seed 0 by hand: (40 + 90 − 10 − 20)/2 = 50; seed 1, whose best cell is 4 points better, 52.
    assert table.rows[0][:2] == ("clip = higher", "2")
    assert table.rows[0][2].startswith("+51.0 [")
    assert [row[0] for row in table.rows[1:]] == ["aggregation = token", "clip = higher × aggregation = token"]
    assert "## Main effects and interactions" in write_report(folder).read_text()


def break_csv(folder: Path) -> None:
    (folder / "runs.csv").write_text("run,cell,seed\na,b,0\n")


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda f: (f / "study.yaml").unlink(), "cannot read .*study.yaml: No such file"),
        (lambda f: (f / "runs.csv").unlink(), "There is no file"),
        (lambda f: (f / "study.yaml").write_text("a: [1"), "not valid YAML"),
        (lambda f: (f / "study.yaml").write_text("- a"), "holds no mapping"),
        (lambda f: (f / "study.yaml").write_text("name: a"), "lacks the key"),
        (break_csv, "lacks the columns status"),
        (
            lambda f: (f / "study.yaml").write_text(yaml.safe_dump(study([0], "nowhere.yaml"))),
            "there is no table .*papers/nowhere.yaml",
        ),
        (
            lambda f: (f / "study.yaml").write_text(
                yaml.safe_dump(study([0], None, comparisons=[{"cell": "9-no", "reference": "0-base"}]))
            ),
            "unknown cells: 9-no",
        ),
        (
            lambda f: (f / "study.yaml").write_text(
                yaml.safe_dump(study([0], None, metric={"name": "evaluation/none"}))
            ),
            "lacks the study's metric",
        ),
        (
            lambda f: (f / "study.yaml").write_text(
                yaml.safe_dump(study([0], None, metric={"name": METRIC, "direction": "up"}))
            ),
            "maximize or minimize",
        ),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, break_it: Any, sentence: str):
    folder = write_study(tmp_path / "study")
    break_it(folder)
    with pytest.raises(UserError, match=sentence):
        write_report(folder)


def test_no_folder(tmp_path: Path):
    with pytest.raises(UserError, match="no study folder"):
        write_report(tmp_path / "none")


def test_a_study_whose_proof_failed_says_so_first(tmp_path: Path):
    folder = write_study(tmp_path / "study", spec=study([0, 1, 2], PAPER, unproven="The baseline cell differs."))
    lead = write_report(folder).read_text().split("## ")[0]
    assert "**Not proven.** The baseline cell differs." in lead
    assert lead.index("Not proven") < lead.index("What was found")
