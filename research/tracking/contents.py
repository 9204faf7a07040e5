"""What MLflow is told of a run beside its metrics: datasets, and completions as a table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from research.tracking.files import SAMPLES, read_lines

CONFIG, RESULT = "config.yaml", "result.json"
"""The run folder's resolved config, and its result, which is there once the run is complete."""
TABLE = "samples.json"
"""The artifact that MLflow's pages show as a table."""


def dataset_inputs(folder: Path) -> list[Any]:
    """The run's training and held-out prompts as MLflow's datasets, by name, hash and number of rows.

    Returns: none for a run that is not complete.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if not (folder / RESULT).exists():
        return []
    result = json.loads((folder / RESULT).read_text())
    data = yaml.safe_load((folder / CONFIG).read_text())["data"]
    inputs = []
    for section, context in (("train", "training"), ("evaluation", "evaluation")):
        node, counts = data[section], result.get("data_counts", {}).get(section, {})
        settings = node.get("init_args") or {}
        name = settings.get("name") or settings.get("dataset") or node["class_path"]
        dataset = Dataset(
            name=str(name),
            digest=result["data_hashes"][section],
            source_type="recipe",
            source=json.dumps(node),
            profile=json.dumps({"num_rows": counts.get("kept", counts.get("loaded")), **counts}),
        )
        inputs.append(DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", context)]))
    return inputs


def sample_columns(folder: Path) -> dict[str, Any] | None:
    """The completions that a run kept of each evaluation, as the columns and rows of MLflow's tables; None for none."""
    rows = [{"step": line["step"], **sample} for line in read_lines(folder / SAMPLES) for sample in line["samples"]]
    if not rows:
        return None
    return {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}


def flattened(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The config with one key a value; a list stays whole.

    Example:
        >>> flattened({"model": {"seed": 0, "gates": []}})
        {'model.seed': 0, 'model.gates': []}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        at = f"{path}.{key}" if path else key
        flat |= flattened(value, at) if isinstance(value, Mapping) and value else {at: value}
    return flat
