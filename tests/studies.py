"""A study small enough for a test: its file, its command, and what must be true of its records in the end."""

import csv
import gzip
import os
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import optuna
import psutil
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from sqlalchemy import create_engine, text

from research.ablation.executors import Executor, Job, Outcome
from research.cli import main
from research.tracking import merged_steps

TESTS = Path(__file__).parent
FACTORS: dict[str, Any] = {
    "clip": {
        level: {
            "model.objective.surrogate": {"class_path": "Clip", "init_args": {"eps_low": 0.2, "eps_high": eps_high}}
        }
        for level, eps_high in (("symmetric", 0.2), ("higher", 0.28))
    },
    "aggregation": {
        "sequence": {"model.credit.aggregate": {"class_path": "SequenceMean"}},
        "token": {"model.credit.aggregate": {"class_path": "TokenMean"}},
    },
}
LEVELS = {
    "0-base": {"clip": "symmetric", "aggregation": "sequence"},
    "1-clip": {"clip": "higher", "aggregation": "sequence"},
    "2-aggregation": {"clip": "higher", "aggregation": "token"},
}
RUNS = [f"{cell}-s{seed}" for seed in (0, 1) for cell in LEVELS]


def write_study(folder: Path, recipe: Mapping[str, Any], **changes: Any) -> Path:
    """A study file, and its base recipe beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(dict(recipe)))
    study = {
        "question": "Does either change matter?",
        "base": "recipe.yaml",
        "design": "ladder",
        "seeds": [0, 1],
        "metric": {"name": "evaluation/avg_at_k", "direction": "maximize"},
        "factors": FACTORS,
        **changes,
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return folder / "tiny.yaml"


@dataclass(frozen=True)
class Study:
    """A study's file, its results folder, and the databases beside that."""

    file: Path
    home: Path
    servers: Mapping[str, str] = field(default_factory=dict)
    """`storage` and `tracking`, where they are not files beside the results."""

    def store(self, option: str, file: str) -> str:
        return self.servers.get(option, f"sqlite:///{self.home / file}")

    @property
    def folder(self) -> Path:
        return self.home / "study"

    def words(self, workers: int, *more: str) -> list[str]:
        servers = [word for option, url in self.servers.items() for word in (f"--{option}", url)]
        return ["ablate", str(self.file), "--output", str(self.folder), "--workers", str(workers), *servers, *more]

    def here(self, workers: int, *more: str) -> tuple[int, str]:
        """Run it from this process; exit status and standard error."""
        errors = StringIO()
        with redirect_stderr(errors), redirect_stdout(StringIO()):
            status = main(self.words(workers, *more))
        return status, errors.getvalue()

    def process(self, workers: int, *more: str) -> subprocess.Popen:
        """Run it as the command that a user types."""
        python_path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "log.txt").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "research.cli", *self.words(workers, *more)],
                cwd=self.home,
                env={**environment, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )

    def rows(self) -> list[dict[str, str]]:
        return read_rows(self.folder / "runs.csv")

    def numbers(self) -> list[dict[str, str]]:
        """runs.csv without the columns that a clock fills."""
        return [{k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))} for row in self.rows()]

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        storage = self.store("storage", "optuna.db")
        (found,) = optuna.get_all_study_summaries(storage)
        return optuna.load_study(study_name=found.study_name, storage=storage).trials

    def mlflow(self) -> tuple[MlflowClient, list[MlflowRun]]:
        client = MlflowClient(tracking_uri=self.store("tracking", "mlflow.db"))
        experiments = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
        return client, list(client.search_runs(experiments))

    def children(self) -> list[MlflowRun]:
        return [run for run in self.mlflow()[1] if "mlflow.parentRunId" in run.data.tags]


def numbers(folder: Path) -> dict[int, dict[str, float]]:
    """A run's metrics by step, without what a clock fills."""
    return {
        step: {name: value for name, value in metrics.items() if not name.startswith(("time/", "memory/"))}
        for step, metrics in merged_steps(folder).items()
    }


def drive(executor: Executor, jobs: list[Job]) -> dict[str, Outcome]:
    """The loop of `Executor`'s docstring."""
    outcomes, queue = {}, deque(jobs)
    while queue or executor.running:
        while queue and executor.free:
            executor.submit(queue.popleft())
        outcomes |= {outcome.run: outcome for outcome in executor.wait(seconds=1.0)}
    return outcomes


def holder(folder: Path, above: psutil.Process | None = None) -> psutil.Process:
    """The process that holds the run's lock, below another one if that is named."""
    for process in psutil.process_iter() if above is None else above.children(recursive=True):
        with suppress(psutil.Error):
            if any(Path(file.path) == folder / ".lock" for file in process.open_files()):
                return process
    raise AssertionError(f"no process has {folder}")


def read_rows(path: Path) -> list[dict[str, str]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def check_records(study: Study, runs: Sequence[str] = RUNS, factors: Mapping[str, Any] = FACTORS) -> None:
    """One COMPLETE trial and one FINISHED child run for each run, agreeing with its files and logged once."""
    levels = {row["cell"]: {factor: row[factor] for factor in factors} for row in study.rows()}
    assert [row["run"] for row in study.rows()] == list(runs)
    assert {row["status"] for row in study.rows()} == {"complete"}
    values = {row["run"]: float(row["evaluation/avg_at_k"]) for row in study.rows()}
    trials = study.trials()
    assert sorted(trial.user_attrs["run"] for trial in trials) == sorted(runs)
    for trial in trials:
        assert trial.state.name == "COMPLETE"
        assert trial.value == values[trial.user_attrs["run"]]
        assert trial.user_attrs["run"].endswith(f"-s{trial.params['seed']}")
        cell = trial.user_attrs["run"].rpartition("-s")[0]
        assert {k: v for k, v in trial.params.items() if k != "seed"} == levels[cell]
    _, logged = study.mlflow()
    (parent,) = [run for run in logged if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.status == "FINISHED"
    children = [run for run in logged if run is not parent]
    assert sorted(run.info.run_name for run in children) == sorted(runs)
    for run in children:
        name = run.info.run_name
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        cell, _, seed = name.rpartition("-s")
        assert {k: v for k, v in run.data.params.items() if k != "cell"} == {**levels[cell], "seed": seed}
        assert run.data.metrics["evaluation/avg_at_k"] == values[name]
    with create_engine(study.store("tracking", "mlflow.db")).connect() as database:
        query = "select run_uuid, key, step, count(*) from metrics group by run_uuid, key, step"
        rows = database.execute(text(query)).fetchall()
    assert rows
    assert [row for row in rows if row[3] != 1] == []
    assert {row[2] for row in rows if row[1] == "evaluation/avg_at_k"} == {0, 2, 4}
    assert {row[2] for row in rows if row[1] == "time/step_seconds"} == {1, 2, 3, 4}
