"""study.yaml: a study as its results folder keeps it. The study runner writes it, reports read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml

from research.ablation.designs import OPTIONS, Cell
from research.errors import UserError
from research.statistics import Direction
from research.yaml_file import read_yaml, required

STUDY = "study.yaml"
PAPERS = "papers"
"""The folder, within a study's, of the papers' tables that it is set beside."""
_WHEN_THERE = ("overlay", "left_out", "budget", "guarantees", "unproven", "search", "aliases")
"""Keys that the file has only where they say something."""
_TEXTS = ("question", "command", "commit", "design", "base", "scale", "budget", "unproven")
_MAPPINGS = ("hold", "protocol", "environment", "factors", "search", "aliases")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study: its question, what varies, what is compared, and what its numbers were measured with."""

    name: str
    question: str
    command: str
    """The command that ran it."""
    commit: str
    """The commit of the code that ran it."""
    dirty: bool
    """True if that code differed from the commit."""
    design: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the design, such as a fraction's `generators`; in the file they stand beside `design`."""
    base: str
    """The recipe that every cell starts from."""
    hold: Mapping[str, Any] = field(default_factory=dict)
    """Config path → node that stands there in every cell."""
    seeds: tuple[int, ...]
    metric: str
    direction: Direction
    threshold: float | None = None
    """Value of the metric that a run should reach; None where the study states none."""
    papers: tuple[str, ...] = ()
    """Tables of papers, as `file` or `file#model/metric`."""
    scale: str
    """Model, data and budget in words."""
    overlay: str | None = None
    """The scale's file, where the study was laid out at another one than its own."""
    left_out: tuple[str, ...] = ()
    """Levels that this scale cannot have, each with the reason."""
    steps: int | None
    """Steps of every run; None where something else ends them."""
    budget: str = ""
    """Budget of every run in words."""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the evaluation."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Machine and versions of packages."""
    factors: Mapping[str, Any] = field(default_factory=dict)
    """Factor → level → nodes or recipe; the first level is the baseline."""
    cells: tuple[Cell, ...]
    comparisons: tuple[tuple[str, str], ...] = ()
    """(cell, reference) ids."""
    guarantees: tuple[str, ...] = ()
    """Properties of the configs that were proved before the study ran, in sentences."""
    unproven: str = ""
    """Result of a null run that failed and was accepted; empty otherwise."""
    search: Mapping[str, Any] = field(default_factory=dict)
    """Values that a search found, with its trials; empty without a search."""
    aliases: Mapping[str, Any] = field(default_factory=dict)
    """Effects that a fraction cannot tell apart; empty for other designs."""

    def cell(self, cell_id: str) -> Cell:
        """The cell with this id."""
        return next(cell for cell in self.cells if cell.id == cell_id)

    @property
    def baseline(self) -> Mapping[str, str]:
        """Factor → its first level; the first cell's levels where no factors are recorded."""
        return {factor: str(next(iter(levels))) for factor, levels in self.factors.items()} or self.cells[0].levels

    def to_yaml(self) -> str:
        """The study as the text of study.yaml."""
        threshold = {} if self.threshold is None else {"threshold": self.threshold}
        record: dict[str, Any] = {
            "name": self.name,
            "question": self.question,
            "command": self.command,
            "commit": self.commit,
            "dirty": self.dirty,
            "design": self.design,
            **self.options,
            "base": self.base,
            "hold": dict(self.hold),
            "seeds": list(self.seeds),
            "metric": {"name": self.metric, "direction": self.direction, **threshold},
            "paper": list(self.papers) or None,
            "scale": self.scale,
            "overlay": self.overlay,
            "left_out": list(self.left_out),
            "steps": self.steps,
            "budget": self.budget,
            "protocol": dict(self.protocol),
            "environment": dict(self.environment),
            "factors": {factor: dict(levels) for factor, levels in self.factors.items()},
            "cells": [{"id": cell.id, "label": cell.label, "levels": dict(cell.levels)} for cell in self.cells],
            "comparisons": [{"cell": cell, "reference": reference} for cell, reference in self.comparisons],
            "guarantees": list(self.guarantees),
            "unproven": self.unproven,
            "search": dict(self.search),
            "aliases": dict(self.aliases),
        }
        kept = {key: value for key, value in record.items() if value or key not in _WHEN_THERE}
        return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, path: Path) -> "Study":
        """The study that a file holds.

        Raises: UserError if the file is missing or malformed, names a cell twice, or compares an unknown one.
        """
        node = read_yaml(path)
        try:
            study = cls(**_fields(node, path))
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} is malformed: {error}") from None
        known = {cell.id for cell in study.cells}
        if len(known) != len(study.cells):
            raise UserError(f"{path} names a cell twice")
        if unknown := sorted({cell for pair in study.comparisons for cell in pair} - known):
            raise UserError(f"{path} compares unknown cells: {', '.join(unknown)}")
        return study


def _fields(node: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The fields of a study, checked and with their types."""
    metric, cells = required(node, "metric", path), required(node, "cells", path)
    if not cells:
        raise UserError(f"{path} has no cells")
    direction, threshold = metric.get("direction", "maximize"), metric.get("threshold")
    if direction not in get_args(Direction):
        raise UserError(f"{path}: the metric's direction is maximize or minimize, not '{direction}'")
    paper, steps = node.get("paper") or (), node.get("steps")
    return {
        **{key: str(node.get(key) or "").strip() for key in _TEXTS},
        **{key: dict(node.get(key) or {}) for key in _MAPPINGS},
        **{key: tuple(node.get(key) or ()) for key in ("left_out", "guarantees")},
        "name": str(node.get("name") or path.resolve().parent.name),
        "dirty": bool(node.get("dirty", False)),
        "options": {key: node[key] for key in OPTIONS if key in node},
        "seeds": tuple(int(seed) for seed in required(node, "seeds", path)),
        "metric": str(required(metric, "name", path)),
        "direction": direction,
        "threshold": None if threshold is None else float(threshold),
        "papers": (paper,) if isinstance(paper, str) else tuple(map(str, paper)),
        "overlay": node.get("overlay"),
        "steps": None if steps is None else int(steps),
        "cells": tuple(_cell(cell, path) for cell in cells),
        "comparisons": tuple(
            (str(required(pair, "cell", path)), str(required(pair, "reference", path)))
            for pair in node.get("comparisons") or ()
        ),
    }


def _cell(node: Mapping[str, Any], path: Path) -> Cell:
    cell_id = str(required(node, "id", path))
    levels = {str(factor): str(level) for factor, level in (node.get("levels") or {}).items()}
    return Cell(id=cell_id, label=str(node.get("label") or cell_id), levels=levels)
