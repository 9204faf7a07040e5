"""Contents of a run for MLflow besides metrics: datasets, and a table of completions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import yaml

from research.tracking.files import SAMPLES, read_lines

CONFIG, RESULT = "config.yaml", "result.json"
"""File names of the resolved recipe and of the result, which exists once the run is complete."""
TABLE = "samples.json"
"""Name of the artifact that MLflow shows as a table."""


@dataclass(frozen=True, kw_only=True)
class DatasetInput:
    """The prompts of a run, described as a dataset of MLflow."""

    context: str
    """`training` or `evaluation`."""
    name: str
    digest: str
    """Content hash of the prompts."""
    source: str
    """Node of the recipe, as JSON."""
    profile: str
    """Numbers of prompts, as JSON."""


class Table(TypedDict):
    """A table artifact of MLflow."""

    columns: list[str]
    data: list[list[object]]


def dataset_inputs(folder: Path) -> list[DatasetInput]:
    """Descriptions of the training and held-out prompts of a complete run.

    Returns: an empty list for a run that is not complete.
    """
    if not (folder / RESULT).exists():
        return []
    result = json.loads((folder / RESULT).read_text())
    data = yaml.safe_load((folder / CONFIG).read_text())["data"]
    inputs = []
    for section, context in (("train", "training"), ("evaluation", "evaluation")):
        node, counts = data[section], result.get("data_counts", {}).get(section, {})
        settings = node.get("init_args") or {}
        name = settings.get("name") or settings.get("dataset") or node["class_path"]
        inputs.append(
            DatasetInput(
                context=context,
                name=str(name),
                digest=result["data_hashes"][section],
                source=json.dumps(node),
                profile=json.dumps({"num_rows": counts.get("kept", counts.get("loaded")), **counts}),
            )
        )
    return inputs


def sample_columns(folder: Path) -> Table | None:
    """A table of the sample completions of all evaluations; None if there are none."""
    rows = [{"step": line["step"], **sample} for line in read_lines(folder / SAMPLES) for sample in line["samples"]]
    if not rows:
        return None
    return {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}


def flattened(config: Mapping[str, object], path: str = "") -> dict[str, object]:
    """Flatten a config to dotted keys; lists are kept as values.

    Example:
        >>> flattened({"model": {"seed": 0, "gates": []}})
        {'model.seed': 0, 'model.gates': []}
    """
    flat: dict[str, object] = {}
    for key, value in config.items():
        at = f"{path}.{key}" if path else key
        flat |= flattened(value, at) if isinstance(value, Mapping) and value else {at: value}
    return flat
