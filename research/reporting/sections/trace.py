"""Origin of a report's numbers: the gains seed by seed, and every run with its config, data and commit."""

from typing import Any

from research.ablation.designs import Cell
from research.reporting.analysis.analysis import START, Analysis
from research.reporting.analysis.results import NO_ROW, as_number
from research.reporting.document import Linked, Table, anchor
from research.reporting.numbers import NONE, number

ORIGIN = {"config_hash": "Config", "data_hash": "Data", "commit": "Commit", "mlflow_run_id": "MLflow run"}
"""Column of provenance.csv to heading."""


def cell_anchor(cell_id: str) -> str:
    """The anchor of a cell's runs.

    Example:
        >>> cell_anchor("1-clip")
        'cell-1-clip'
    """
    return anchor("cell", cell_id)


def gain_anchor(cell_id: str, reference_id: str) -> str:
    """The anchor of a comparison's gains, seed by seed.

    Example:
        >>> gain_anchor("1-clip", "0-base")
        'gain-1-clip-0-base'
    """
    return anchor("gain", cell_id, reference_id)


def run_anchor(run: str) -> str:
    """The anchor of one run.

    Example:
        >>> run_anchor("1-clip-s0")
        'run-1-clip-s0'
    """
    return anchor("run", run)


def gains_table(analysis: Analysis) -> Table | None:
    """Every comparison's gain at every seed, each leading to the cell's run; None without comparisons."""
    study = analysis.results.study
    if not study.comparisons:
        return None
    sign = 1 if study.direction == "maximize" else -1
    rows = []
    for cell_id, reference_id in study.comparisons:
        cell, reference = analysis.summary(cell_id), analysis.summary(reference_id)
        gains = {
            seed: sign * (value - reference.values[seed])
            for seed, value in cell.values.items()
            if seed in reference.values
        }
        shown = (
            Linked(number(gains.get(seed), percent=analysis.percent, signed=True), _run_of(analysis, cell.cell, seed))
            for seed in study.seeds
        )
        against = Linked(reference.cell.label, cell_anchor(reference_id))
        rows.append((Linked(cell.cell.label, cell_anchor(cell_id)), against, *shown))
    return Table(
        head=("Row", "Against", *(f"Seed {seed}" for seed in study.seeds)),
        rows=tuple(rows),
        anchors=tuple(gain_anchor(*pair) for pair in study.comparisons),
    )


def _run_of(analysis: Analysis, cell: Cell, seed: int) -> str:
    return run_anchor(next(str(run["run"]) for run in _runs(analysis) if (run["cell"], run["seed"]) == (cell.id, seed)))


def _runs(analysis: Analysis) -> list[dict[str, Any]]:
    """The rows of runs.csv cell by cell, and one for every run of the design that has none."""
    study = analysis.results.study
    found: dict[tuple[str, int], dict[str, Any]] = {
        (str(run["cell"]), int(run["seed"])): {str(key): value for key, value in run.items()}
        for run in analysis.results.runs.to_dict("records")
    }
    design = [(cell.id, seed) for cell in study.cells for seed in study.seeds]
    rest = sorted(found.keys() - set(design))
    return [
        found.get(key) or {"run": f"{key[0]}-s{key[1]}", "cell": key[0], "seed": key[1], "status": NO_ROW}
        for key in [*design, *rest]
    ]


def runs_table(analysis: Analysis, *, server: str | None = None) -> Table:
    """Every run, complete or not, cell by cell, and where it comes from.

    Args:
        analysis: the study.
        server: the address of the MLflow server that has the runs, so that their ids lead to its pages.
    """
    results, study = analysis.results, analysis.results.study
    origins = {str(row["run"]): row for row in results.provenance.to_dict("records")}
    kept = [column for column in ORIGIN if column in results.provenance]
    columns = (START + study.metric, study.metric) if START + study.metric in results.runs else (study.metric,)
    runs = _runs(analysis)
    rows = []
    for run in runs:
        origin = origins.get(str(run["run"]), {})
        values = (number(as_number(run.get(column)), percent=analysis.percent) for column in columns)
        codes = (_origin(column, origin.get(column), server) for column in kept)
        rows.append((str(run["run"]), str(run["seed"]), str(run["status"]), *values, *codes))
    unit = ", %" if analysis.percent else ""
    names = ("Warm start" + unit, analysis.metric_name + unit)[-len(columns) :]
    return Table(
        head=("Run", "Seed", "Status", *names, *(ORIGIN[column] for column in kept)),
        rows=tuple(rows),
        anchors=tuple(run_anchor(str(run["run"])) for run in runs),
        groups=tuple(cell_anchor(str(run["cell"])) for run in runs),
    )


def _origin(column: str, value: object, server: str | None) -> str:
    if value is None or value != value:
        return NONE
    if column == "commit":
        return f"`{str(value)[:12]}`"
    if column == "mlflow_run_id" and server:
        return f"[`{value}`]({server.rstrip('/')}/#/runs/{value})"
    return f"`{value}`"
