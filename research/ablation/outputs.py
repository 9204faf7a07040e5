"""What a study leaves in its results folder: study.yaml, runs.csv, curves.csv, items.csv, provenance.csv."""

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from subprocess import run as run_process
from typing import Any

import yaml

from research.ablation.executors import last_line
from research.ablation.plan import Plan, Run
from research.ablation.search import FOUND
from research.recipe_file import read_yaml
from research.tracking import ITEMS, RESULT, merged_steps, read_lines, replace_text

PACKAGES = ("torch", "transformers", "lightning", "peft", "optuna", "mlflow", "numpy")


def write_outputs(plan: Plan, *, command: str, failures: Mapping[str, str], mlflow_ids: Mapping[str, str]) -> None:
    """Write the study's files from its run folders; missing runs are rows without numbers."""
    replace_text(
        plan.folder / "study.yaml", yaml.safe_dump(study_record(plan, command), sort_keys=False, allow_unicode=True)
    )
    write_csv(plan.folder / "runs.csv", [run_row(run, failures) for run in plan.runs])
    write_csv(plan.folder / "curves.csv", [row for run in plan.runs for row in curve_rows(run)])
    write_csv(plan.folder / "items.csv", [row for run in plan.runs for row in item_rows(run)])
    write_csv(plan.folder / "provenance.csv", [provenance_row(run, mlflow_ids) for run in plan.runs])


def study_record(plan: Plan, command: str) -> dict[str, Any]:
    """The resolved study: what it is, what it compares, and how to run it again."""
    spec, config = plan.spec, plan.runs[0].recipe.config
    evaluation = config["model"]["evaluation"]
    return {
        "name": spec.name,
        "question": spec.question,
        "command": command,
        **git_state(),
        "design": spec.design,
        **spec.options,
        "base": spec.base,
        "hold": {**spec.hold, **(spec.overlay.nodes if spec.overlay else {})},
        "seeds": list(spec.seeds),
        "metric": dict(spec.metric),
        "paper": [_from_root(spec.resolved(paper)) for paper in spec.papers] or None,
        "scale": spec.scale,
        **({"overlay": spec.overlay.path, "left_out": list(spec.left_out)} if spec.overlay else {}),
        "steps": plan.steps,
        "budget": str(plan.budget),
        "protocol": {
            "completions_per_prompt": evaluation["completions_per_prompt"],
            "temperature": evaluation["temperature"],
            "top_p": evaluation["top_p"],
            "items": config["data"]["evaluation"].get("init_args", {}).get("size"),
        },
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu": cpu_name(),
            **{package: version(package) for package in PACKAGES},
        },
        "factors": {
            factor: {level: nodes if isinstance(nodes, str) else dict(nodes) for level, nodes in levels.items()}
            for factor, levels in spec.factors.items()
        },
        "cells": [{"id": cell.id, "label": cell.label, "levels": dict(cell.levels)} for cell in plan.cells],
        "comparisons": [{"cell": c.cell, "reference": c.reference} for c in plan.comparisons],
        "guarantees": list(plan.guarantees),
        **({"search": read_yaml(plan.folder / FOUND)} if plan.spec.found else {}),
        **({"aliases": aliases.record} if (aliases := plan.aliases) else {}),
    }


def _from_root(path: Path) -> str:
    for parent in path.parents:
        if (parent / "pyproject.toml").exists():
            return str(path.relative_to(parent))
    return str(path)


def git_state() -> dict[str, Any]:
    """The commit that is checked out, and whether the work tree differs from it; `unknown` outside a repository."""
    commit = run_process(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    status = run_process(
        ["git", "status", "--porcelain", "--", "research", "experiments"], capture_output=True, text=True, check=False
    )
    if commit.returncode != 0:
        return {"commit": "unknown", "dirty": False}
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}


def cpu_name() -> str:
    """The processor, as the system calls it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


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


def provenance_row(run: Run, mlflow_ids: Mapping[str, str]) -> dict[str, Any]:
    """What a run's numbers lead back to."""
    path = run.folder / "provenance.json"
    recorded = json.loads(path.read_text()) if path.exists() else {}
    hashes = json.loads((run.folder / RESULT).read_text())["data_hashes"] if run.complete else {}
    return {
        "run": run.id,
        "mlflow_run_id": mlflow_ids.get(run.id, ""),
        "config_hash": run.recipe.digest,
        "data_hash": "-".join(hashes.values()),
        **recorded,
    }


def record_provenance(run: Run) -> None:
    """Note, when a run is begun, which code and which packages it is begun with."""
    path = run.folder / "provenance.json"
    if not path.exists():
        versions = " ".join(f"{package} {version(package)}" for package in PACKAGES)
        replace_text(path, json.dumps({"commit": git_state()["commit"], "versions": versions}))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of any columns as a table; what a row lacks is empty."""
    columns: dict[str, None] = {}
    for row in rows:
        columns.update(dict.fromkeys(row))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_text(path, text.getvalue())
