"""What MLflow is told of a run beside its metrics: datasets, and completions as a table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import yaml

from research.tracking.files import SAMPLES, read_lines

CONFIG, RESULT = "config.yaml", "result.json"
"""The run folder's resolved config, and its result, which is there once the run is complete."""
TABLE = "samples.json"
"""The artifact that MLflow's pages show as a table."""


@dataclass(frozen=True, kw_only=True)
class DatasetInput:
    """Prompts that a run read, as MLflow describes a dataset."""

    context: str
    """`training` or `evaluation`."""
    name: str
    digest: str
    """Their content hash."""
    source: str
    """The recipe's node, as JSON."""
    profile: str
    """Their numbers, as JSON."""


class Table(TypedDict):
    """A table of MLflow's pages."""

    columns: list[str]
    data: list[list[object]]


def dataset_inputs(folder: Path) -> list[DatasetInput]:
    """The run's training and held-out prompts as MLflow's datasets, by name, hash and number of rows.

    Returns: none for a run that is not complete.
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
    """The completions that a run kept of each evaluation, as the columns and rows of MLflow's tables; None for none."""
    rows = [{"step": line["step"], **sample} for line in read_lines(folder / SAMPLES) for sample in line["samples"]]
    if not rows:
        return None
    return {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}


def flattened(config: Mapping[str, object], path: str = "") -> dict[str, object]:
    """The config with one key a value; a list stays whole.

    Example:
        >>> flattened({"model": {"seed": 0, "gates": []}})
        {'model.seed': 0, 'model.gates': []}
    """
    flat: dict[str, object] = {}
    for key, value in config.items():
        at = f"{path}.{key}" if path else key
        flat |= flattened(value, at) if isinstance(value, Mapping) and value else {at: value}
    return flat
