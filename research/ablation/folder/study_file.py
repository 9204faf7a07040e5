"""study.yaml: what a study is, what it compares, and how to run it again."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from research.ablation.plan import Plan
from research.ablation.search.places import FOUND
from research.provenance import PACKAGES, cpu_name, git_state
from research.recipe_file import read_yaml


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
