"""A small real study from the command to its report: complete, killed and continued, repeated, and partly failing."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil
import pytest
import torch
import yaml
from studies import FACTORS, LEVELS, RUNS, Study, check_records, read_rows, write_study

from research.tracking import merged_steps

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", autouse=True)
def _own_stores() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def study_file(small: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("files"), small("grpo"))


@pytest.fixture(scope="module")
def whole(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study, run without an interruption on one worker."""
    study = Study(study_file, tmp_path_factory.mktemp("whole"))
    status, errors = study.here(workers=1)
    assert status == 0, errors
    return study


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
            assert 0 < float(row["time/overhead_seconds"]) < 120

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
        assert list((whole.folder / "figures").glob("*.svg"))
        curves = read_rows(whole.folder / "curves.csv")
        assert [int(row["step"]) for row in curves if row["run"] == RUNS[0]] == [0, 1, 2, 3, 4]
        items = read_rows(whole.folder / "items.csv.gz")
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
            deadline = monotonic() + 240
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
        finished = {path: path.stat().st_mtime_ns for path in (study.folder / "cells").glob("*/result.json")}
        assert 0 < len(finished) < len(RUNS)
        assert not (study.folder / "runs.csv").exists()

        status, errors = study.here(workers=2)
        assert status == 0, errors
        assert f"6 runs, {len(finished)} complete already" in errors
        assert {path: path.stat().st_mtime_ns for path in finished} == finished
        check_records(study)
        assert study.numbers() == whole.numbers()
        for table in ("curves.csv", "items.csv.gz"):
            assert read_rows(study.folder / table) == read_rows(whole.folder / table)


class TestInterrupted:
    def test_cells_finish_their_step_and_continue_from_there(
        self, whole: Study, study_file: Path, tmp_path: Path
    ) -> None:
        """Ctrl-C, as a terminal sends it to all processes; no checkpoint but the one that stopping writes."""
        study, only = Study(study_file, tmp_path / "interrupted"), ("--seeds", "0", "--run.checkpoint_every=100")
        process = study.process(1, *only)
        log, cells = study.home / "log.txt", study.folder / "cells"
        try:
            deadline = monotonic() + 240
            while not [path for path in cells.glob("*/metrics.jsonl") if '"step": 1' in path.read_text()]:
                assert process.poll() is None, log.read_text()
                assert monotonic() < deadline, log.read_text()
                sleep(0.01)
            for one in [process, *psutil.Process(process.pid).children(recursive=True)]:
                one.send_signal(signal.SIGINT)
            assert process.wait(timeout=120) == 130, log.read_text()
        finally:
            process.kill()
        assert "running cells finish their step" in log.read_text()
        assert "the same command continues" in log.read_text()
        begun = [cell for cell in cells.iterdir() if cell.is_dir() and merged_steps(cell)]
        left = [cell for cell in begun if not (cell / "result.json").exists()]
        assert len(begun) < 3 or left
        for cell in left:
            state = torch.load(cell / "last.ckpt", weights_only=True)["research"]
            assert state["steps_done"] == max(merged_steps(cell))
        assert {path.name for path in study.folder.rglob("stop")} == set()

        status, errors = study.here(1, *only)
        assert status == 0, errors
        assert study.numbers() == [row for row in whole.numbers() if row["seed"] == "0"]


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
