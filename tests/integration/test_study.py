"""A small real study from the command to its report: complete, killed and continued, repeated, and partly failing."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import optuna
import psutil
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from research.cli import main

TESTS = Path(__file__).parents[1]
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


@dataclass(frozen=True)
class Study:
    """A study's file, its results folder, and the databases beside that."""

    file: Path
    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "study"

    def words(self, workers: int) -> list[str]:
        return ["ablate", str(self.file), "--output", str(self.folder), "--workers", str(workers)]

    def here(self, workers: int) -> tuple[int, str]:
        """Run it from this process; exit status and standard error."""
        errors = StringIO()
        with redirect_stderr(errors), redirect_stdout(StringIO()):
            status = main(self.words(workers))
        return status, errors.getvalue()

    def process(self, workers: int) -> subprocess.Popen:
        """Run it as the command that a user types."""
        python_path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "log.txt").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "research.cli", *self.words(workers)],
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
        storage = f"sqlite:///{self.home / 'optuna.db'}"
        (found,) = optuna.get_all_study_summaries(storage)
        return optuna.load_study(study_name=found.study_name, storage=storage).trials

    def mlflow(self) -> tuple[MlflowClient, list[MlflowRun]]:
        client = MlflowClient(tracking_uri=f"sqlite:///{self.home / 'mlflow.db'}")
        experiments = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
        return client, list(client.search_runs(experiments))

    def children(self) -> list[MlflowRun]:
        return [run for run in self.mlflow()[1] if "mlflow.parentRunId" in run.data.tags]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", autouse=True)
def _own_stores() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def study_file(small: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(small("grpo")))
    study = {
        "question": "Does either change matter?",
        "base": "recipe.yaml",
        "design": "ladder",
        "seeds": [0, 1],
        "metric": {"name": "evaluation/avg_at_k", "direction": "maximize"},
        "factors": FACTORS,
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def whole(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study, run without an interruption on one worker."""
    study = Study(study_file, tmp_path_factory.mktemp("whole"))
    status, errors = study.here(workers=1)
    assert status == 0, errors
    return study


def check_records(study: Study) -> None:
    """One COMPLETE trial and one FINISHED child run for each run, agreeing with its files and logged once."""
    values = {row["run"]: float(row["evaluation/avg_at_k"]) for row in study.rows()}
    trials = study.trials()
    assert sorted(trial.user_attrs["run"] for trial in trials) == sorted(RUNS)
    for trial in trials:
        assert trial.state.name == "COMPLETE"
        assert trial.value == values[trial.user_attrs["run"]]
        assert trial.user_attrs["run"].endswith(f"-s{trial.params['seed']}")
        cell = trial.user_attrs["run"].rpartition("-s")[0]
        assert {k: v for k, v in trial.params.items() if k != "seed"} == LEVELS[cell]
    _, runs = study.mlflow()
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.status == "FINISHED"
    children = [run for run in runs if run is not parent]
    assert sorted(run.info.run_name for run in children) == sorted(RUNS)
    for run in children:
        name = run.info.run_name
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        cell, _, seed = name.rpartition("-s")
        assert {k: v for k, v in run.data.params.items() if k != "cell"} == {**LEVELS[cell], "seed": seed}
        assert run.data.metrics["evaluation/avg_at_k"] == values[name]
    with sqlite3.connect(study.home / "mlflow.db") as database:
        logged = database.execute("select run_uuid, key, step, count(*) from metrics group by 1, 2, 3").fetchall()
    assert logged
    assert [row for row in logged if row[3] != 1] == []
    assert {row[2] for row in logged if row[1] == "evaluation/avg_at_k"} == {0, 2, 4}
    assert {row[2] for row in logged if row[1] == "time/step_seconds"} == {1, 2, 3, 4}


class TestComplete:
    def test_runs(self, whole: Study) -> None:
        rows = whole.rows()
        assert [row["run"] for row in rows] == RUNS
        for row in rows:
            assert row["status"] == "complete"
            assert f"{row['cell']}-s{row['seed']}" == row["run"]
            assert {factor: row[factor] for factor in FACTORS} == LEVELS[row["cell"]]
            assert 0 <= float(row["evaluation/avg_at_k"]) <= 1
            assert 0 <= float(row["start/evaluation/avg_at_k"]) <= 1

    def test_a_seed_starts_every_cell_alike(self, whole: Study) -> None:
        starts: dict[str, set[str]] = {}
        for row in whole.rows():
            starts.setdefault(row["seed"], set()).add(row["start/evaluation/avg_at_k"])
        assert all(len(values) == 1 for values in starts.values())

    def test_optuna_and_mlflow(self, whole: Study) -> None:
        check_records(whole)

    def test_report_figures_and_tables(self, whole: Study) -> None:
        report = (whole.folder / "report.md").read_text()
        assert "Does either change matter?" in report
        assert list((whole.folder / "figures").glob("*.png"))
        curves = read_rows(whole.folder / "curves.csv")
        assert [int(row["step"]) for row in curves if row["run"] == RUNS[0]] == [0, 1, 2, 3, 4]
        items = read_rows(whole.folder / "items.csv")
        assert {(row["run"], row["step"]) for row in items} == {(run, step) for run in RUNS for step in ("0", "4")}
        provenance = read_rows(whole.folder / "provenance.csv")
        ids = {run.info.run_name: run.info.run_id for run in whole.children()}
        assert {row["run"]: row["mlflow_run_id"] for row in provenance} == ids
        assert len({row["data_hash"] for row in provenance}) == 1
        assert len({row["config_hash"] for row in provenance}) == len(RUNS)

    def test_nothing_is_left_but_the_lock(self, whole: Study) -> None:
        hidden = {path.name for path in whole.folder.rglob(".*")}
        assert hidden <= {".lock"}

    def test_again_says_complete_and_runs_nothing(self, whole: Study) -> None:
        before, results = whole.numbers(), {path: path.stat().st_mtime_ns for path in whole.folder.rglob("result.json")}
        began = monotonic()
        status, errors = whole.here(workers=2)
        assert status == 0
        assert "6 runs, 6 complete already" in errors
        assert monotonic() - began < 60
        assert {path: path.stat().st_mtime_ns for path in whole.folder.rglob("result.json")} == results
        assert whole.numbers() == before
        check_records(whole)


def half_done(folder: Path) -> bool:
    """Some runs are complete, and another has a checkpoint to continue from."""
    cells = list((folder / "cells").glob("*"))
    complete = [cell for cell in cells if (cell / "result.json").exists()]
    begun = [cell for cell in cells if (cell / "last.ckpt").exists() and cell not in complete]
    return bool(complete and begun) and len(complete) < len(RUNS) - 1


class TestKilled:
    def test_its_workers_go_and_the_same_command_completes_it(
        self, whole: Study, study_file: Path, tmp_path: Path
    ) -> None:
        """Another folder, another number of workers and a kill in between: the numbers are those of the same seeds."""
        study = Study(study_file, tmp_path / "killed")
        process = study.process(workers=2)
        log = study.home / "log.txt"
        try:
            deadline = monotonic() + 100
            while not half_done(study.folder):
                assert process.poll() is None, log.read_text()
                assert monotonic() < deadline, log.read_text()
                sleep(0.01)
            workers = psutil.Process(process.pid).children(recursive=True)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert len(workers) >= 2
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE] == []
        finished = {path: path.stat().st_mtime_ns for path in study.folder.rglob("result.json")}
        assert 0 < len(finished) < len(RUNS)
        assert not (study.folder / "runs.csv").exists()

        status, errors = study.here(workers=2)
        assert status == 0, errors
        assert f"6 runs, {len(finished)} complete already" in errors
        assert {path: path.stat().st_mtime_ns for path in finished} == finished
        check_records(study)
        assert study.numbers() == whole.numbers()
        for table in ("curves.csv", "items.csv"):
            assert read_rows(study.folder / table) == read_rows(whole.folder / table)


class TestFailing:
    @pytest.fixture(scope="class")
    def failed(
        self, small: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
    ) -> tuple[Study, int, str]:
        """A study one of whose two cells cannot load its policy."""
        folder = tmp_path_factory.mktemp("failing")
        base = small("grpo", {"run.steps": 2})
        (folder / "recipe.yaml").write_text(yaml.safe_dump(base))
        study = {
            "question": "Does a policy help?",
            "base": "recipe.yaml",
            "design": "ladder",
            "seeds": [3],
            "metric": {"name": "evaluation/avg_at_k", "direction": "maximize"},
            "factors": {
                "policy": {
                    "there": {"model.policy.path": base["model"]["policy"]["path"]},
                    "nowhere": {"model.policy.path": "nowhere/at/all"},
                }
            },
        }
        (folder / "failing.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
        made = Study(folder / "failing.yaml", folder)
        status, errors = made.here(workers=1)
        return made, status, errors

    def test_it_is_tried_twice_and_named_as_missing(self, failed: tuple[Study, int, str]) -> None:
        study, status, errors = failed
        assert status == 1
        assert errors.count("1-policy-s3: failed: ") == 2
        (last,) = [line for line in errors.splitlines() if line.startswith("research: ")]
        assert "1-policy-s3 is missing after two attempts" in last
        assert "nowhere/at/all" in last
        assert "Traceback" not in errors
        assert "nowhere/at/all" in (study.folder / "cells" / "1-policy-s3" / "failure.txt").read_text()

    def test_the_other_cell_is_complete(self, failed: tuple[Study, int, str]) -> None:
        study, _, _ = failed
        there, missing = study.rows()
        assert (there["run"], there["status"]) == ("0-base-s3", "complete")
        assert missing["run"] == "1-policy-s3"
        assert missing["status"].startswith("missing: ")
        assert "nowhere/at/all" in missing["status"]
        assert missing["evaluation/avg_at_k"] == ""
        result = json.loads((study.folder / "cells" / "0-base-s3" / "result.json").read_text())
        assert float(there["evaluation/avg_at_k"]) == result["last"]["evaluation/avg_at_k"]
        assert "1-policy-s3" in (study.folder / "report.md").read_text()

    def test_optuna_and_mlflow_say_so(self, failed: tuple[Study, int, str]) -> None:
        study, _, _ = failed
        states = {trial.user_attrs["run"]: trial.state.name for trial in study.trials()}
        assert states == {"0-base-s3": "COMPLETE", "1-policy-s3": "FAIL"}
        assert len(study.trials()) == 2
        statuses = {run.info.run_name: run.info.status for run in study.mlflow()[1]}
        assert statuses.pop("0-base-s3") == "FINISHED"
        assert statuses.pop("1-policy-s3") == "FAILED"
        assert list(statuses.values()) == ["FAILED"]
