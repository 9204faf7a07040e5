"""Origin of a run's numbers: code, packages, config, data, and its record in MLflow."""

import json
from collections.abc import Mapping
from typing import Any

from research.ablation.plan import Run
from research.provenance import code, versions
from research.tracking import RESULT, replace_text


def provenance_row(run: Run, mlflow_ids: Mapping[str, str]) -> dict[str, Any]:
    """The run's row of provenance.csv."""
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
        found = " ".join(f"{package} {number}" for package, number in versions().items())
        replace_text(path, json.dumps({"commit": code().commit, "dirty": code().dirty, "versions": found}))
