"""Tables of a study's results folder: runs.csv, curves.csv, items.csv.gz, provenance.csv."""

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from research.ablation.executors import last_line
from research.ablation.folder.provenance import provenance_row
from research.ablation.folder.record import copy_papers, study_of
from research.ablation.folder.study_file import STUDY
from research.ablation.plan import Plan, Run
from research.spreadsheets import as_texts
from research.tracking import ITEMS, RESULT, merged_steps, read_lines, replace_bytes, replace_text


def write_outputs(plan: Plan, *, command: str, failures: Mapping[str, str], mlflow_ids: Mapping[str, str]) -> None:
    """Write the study's files from its run folders; missing runs are rows without numbers."""
    replace_text(plan.folder / STUDY, study_of(plan, command).to_yaml())
    copy_papers(plan)
    write_csv(plan.folder / "runs.csv", [run_row(run, failures) for run in plan.runs])
    write_csv(plan.folder / "curves.csv", [row for run in plan.runs for row in curve_rows(run)])
    # Compressed: names of runs and prompts, which its rows repeat, are nine tenths of it.
    write_csv(plan.folder / "items.csv.gz", [row for run in plan.runs for row in item_rows(run)])
    write_csv(plan.folder / "provenance.csv", [provenance_row(run, mlflow_ids) for run in plan.runs])


def run_row(run: Run, failures: Mapping[str, str]) -> dict[str, Any]:
    """One row of runs.csv."""
    row: dict[str, Any] = {
        "run": run.id,
        "cell": run.cell.id,
        "seed": run.seed,
        "status": "complete",
        **run.cell.levels,
    }
    if not run.complete:
        reason = failures.get(run.id, "")
        return {**row, "status": f"missing: {last_line(reason)}" if reason else "missing"}
    result = json.loads((run.folder / RESULT).read_text())
    metrics = {name: value for name, value in result["last"].items() if not name.startswith("time/")}
    start = {f"start/{name}": value for name, value in result["start"].items()}
    first = {f"first/{name}": value for name, value in result.get("first", {}).items()}
    return {**row, **metrics, **start, **first, **result["seconds"], **result.get("memory", {})}


def curve_rows(run: Run) -> list[dict[str, Any]]:
    """The run's metrics, a row a step, without times."""
    return [
        {"run": run.id, "step": step, **{k: v for k, v in metrics.items() if not k.startswith("time/")}}
        for step, metrics in merged_steps(run.folder).items()
    ]


def item_rows(run: Run) -> list[dict[str, Any]]:
    """The first and the last evaluation, item by item."""
    lines = read_lines(run.folder / ITEMS)
    return [
        {"run": run.id, "step": line["step"], **item} for line in (lines[:1] + lines[1:][-1:]) for item in line["items"]
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of any columns as a table; what a row lacks is empty, and no text is a formula.

    Equal rows give equal bytes.

    Args:
        path: the file; compressed if it ends in .gz.
        rows: column to value.
    """
    columns: dict[str, None] = {}
    harmless = [as_texts(row) for row in rows]
    for row in harmless:
        columns.update(dict.fromkeys(row))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(harmless)
    if path.suffix == ".gz":
        replace_bytes(path, gzip.compress(text.getvalue().encode(), mtime=0))
    else:
        replace_text(path, text.getvalue())
