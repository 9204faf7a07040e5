"""Optuna's and MLflow's records of a study, what is tried again, what the terminal shows, a worker that is killed."""

import json
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from conftest import refused

from research.ablation import mlflow_runs
from research.ablation.designs import design_cells
from research.ablation.executors import Job, Outcome
from research.ablation.executors.local import Worker
from research.ablation.live import StudyView
from research.ablation.mlflow_runs import Runs
from research.ablation.optuna_trials import Trials
from research.ablation.plan import Plan, Run
from research.ablation.run import _State
from research.ablation.spec import StudySpec, read_study
from research.ablation.stores import Stores
from research.recipe import Recipe

STUDY = {
    "question": "Which?",
    "base": "recipe.yaml",
    "design": "ladder",
    "seeds": [0, 1],
    "metric": {"name": "evaluation/avg_at_k", "direction": "maximize"},
    "factors": {
        "clip": {"low": {"model.clip": {"eps": 1}}, "high": {"model.clip": {"eps": 2}}},
        "loss": {"sequence": {"model.loss": "sequence"}, "token": {"model.loss": "token"}},
    },
}


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return read_study(tmp_path / "study.yaml")


def planned(spec: StudySpec, folder: Path) -> Plan:
    """A plan whose recipes are never trained."""
    cells, comparisons = design_cells(spec.design, spec.factors, spec.baseline)
    recipe = Recipe(
        config={"model": {"clip": 1}, "run": {"steps": 4, "evaluate_every": 2, "checkpoint_every": 1}, "trainer": {}}
    )
    runs = [
        Run(
            id=f"{cell.id}-s{seed}",
            cell=cell,
            seed=seed,
            recipe=recipe,
            folder=folder / "cells" / f"{cell.id}-s{seed}",
        )
        for seed in spec.seeds
        for cell in cells
    ]
    return Plan(spec=spec, folder=folder, cells=cells, comparisons=comparisons, runs=runs)


def completed(run: Run, value: float) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "result.json").write_text(json.dumps({"last": {"evaluation/avg_at_k": value}}))


def stores_in(folder: Path, **urls: str) -> Stores:
    """Databases in files of this folder, unless they are given."""
    files = {name: f"sqlite:///{folder / name}.db" for name in ("mlflow", "optuna")}
    return Stores(**{**files, **urls}, artifacts=folder / "artifacts")


def trials_in(storage: str) -> list[optuna.trial.FrozenTrial]:
    names = [study.study_name for study in optuna.get_all_study_summaries(storage)]
    return [trial for name in names for trial in optuna.load_study(study_name=name, storage=storage).trials]


class TestTrials:
    @pytest.fixture
    def stores(self, tmp_path: Path) -> Stores:
        return stores_in(tmp_path)

    def seen(self, stores: Stores) -> list[tuple[str, str, Any]]:
        """Run, state and value of every trial, with the parameters checked to be the run's."""
        trials = trials_in(stores.optuna)
        for trial in trials:
            assert trial.user_attrs["run"].endswith(f"-s{trial.params['seed']}")
        return [(trial.user_attrs["run"], trial.state.name, trial.value) for trial in trials]

    def test_runs_are_claimed_in_the_order_of_the_plan_and_once(
        self, spec: StudySpec, tmp_path: Path, stores: Stores
    ) -> None:
        plan = planned(spec, tmp_path / "out")
        names = [run.id for run in plan.runs]
        trials = Trials(plan, stores)
        assert self.seen(stores) == [(name, "WAITING", None) for name in names]
        assert [trials.claim() for _ in names] == names
        assert trials.claim() is None
        assert self.seen(stores) == [(name, "RUNNING", None) for name in names]
        assert not trials.finished

    def test_after_a_kill_running_trials_are_claimed_again(
        self, spec: StudySpec, tmp_path: Path, stores: Stores
    ) -> None:
        plan = planned(spec, tmp_path / "out")
        first, second = plan.runs[:2]
        trials = Trials(plan, stores)
        assert [trials.claim(), trials.claim()] == [first.id, second.id]
        trials.complete(first, 0.5)
        again = Trials(plan, stores)
        assert again.claim() == second.id
        again.complete(second, 0.25)
        again.complete(second, 0.75)
        Trials(plan, stores).complete(second, 0.75)
        assert self.seen(stores)[:3] == [
            (first.id, "COMPLETE", 0.5),
            (second.id, "COMPLETE", 0.25),
            (plan.runs[2].id, "WAITING", None),
        ]

    def test_a_failure_is_tried_again_and_then_final(self, spec: StudySpec, tmp_path: Path, stores: Stores) -> None:
        plan = planned(spec, tmp_path / "out")
        run = plan.runs[0]
        trials = Trials(plan, stores)
        assert trials.claim() == run.id
        assert trials.fail(run)
        assert trials.claim() == run.id
        assert not trials.fail(run)
        assert trials.claim() == plan.runs[1].id
        assert self.seen(stores)[0] == (run.id, "FAIL", None)
        again = Trials(plan, stores)  # the same command, once more
        assert again.claim() == run.id
        again.complete(run, 0.5)
        ended = [seen for seen in self.seen(stores) if seen[0] == run.id]
        assert ended == [(run.id, "FAIL", None), (run.id, "COMPLETE", 0.5)]

    def test_what_is_released_is_free(self, spec: StudySpec, tmp_path: Path, stores: Stores) -> None:
        plan = planned(spec, tmp_path / "out")
        trials = Trials(plan, stores)
        assert trials.claim() == plan.runs[0].id
        trials.release(plan.runs[0])
        assert trials.mine == {}
        assert trials.claim() == plan.runs[0].id

    def test_it_is_finished_when_all_have_ended(self, spec: StudySpec, tmp_path: Path, stores: Stores) -> None:
        plan = planned(spec, tmp_path / "out")
        trials = Trials(plan, stores)
        for run in plan.runs:
            assert not trials.finished
            trials.complete(run, float(run.seed))
        assert trials.finished
        found = trials_in(stores.optuna)
        assert [t.params for t in found] == [{**run.cell.levels, "seed": run.seed} for run in plan.runs]

    def test_seeds_are_added_later(self, spec: StudySpec, tmp_path: Path, stores: Stores) -> None:
        for seeds in ([0, 1], [0, 1, 2]):
            more = StudySpec(**{**vars(spec), "seeds": seeds})
            plan = planned(more, tmp_path / "out")
            trials = Trials(plan, stores)
            for run in plan.runs:
                trials.complete(run, 0.5)
        assert [state for _, state, _ in self.seen(stores)] == ["COMPLETE"] * 9

    def test_other_levels_are_refused(self, spec: StudySpec, tmp_path: Path, stores: Stores) -> None:
        Trials(planned(spec, tmp_path / "out"), stores)
        factors = {"clip": {"low": {"model.clip": 1}, "wide": {"model.clip": 2}}, "loss": spec.factors["loss"]}
        other = planned(StudySpec(**{**vars(spec), "factors": factors, "seeds": [5]}), tmp_path / "out")
        assert "has other levels or seeds" in refused(lambda: Trials(other, stores))

    def test_a_study_in_another_folder_has_its_own(self, spec: StudySpec, tmp_path: Path, stores: Stores) -> None:
        for folder, value in (("one", 0.25), ("other", 0.75)):
            plan = planned(spec, tmp_path / folder)
            Trials(plan, stores).complete(plan.runs[0], value)
        name = plan.runs[0].id
        completed = [seen for seen in self.seen(stores) if seen[1] == "COMPLETE"]
        assert sorted(completed) == [(name, "COMPLETE", 0.25), (name, "COMPLETE", 0.75)]

    def test_a_storage_that_cannot_be_used(self, spec: StudySpec, tmp_path: Path) -> None:
        plan = planned(spec, tmp_path / "out")
        for storage in (f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}", "nonsense"):
            stores = stores_in(tmp_path, optuna=storage)
            assert storage in refused(lambda stores=stores: Trials(plan, stores))


class TestStores:
    def test_one_process_has_the_folder(self, tmp_path: Path) -> None:
        stores = stores_in(tmp_path)
        with stores.folder(tmp_path / "out"):
            message = refused(lambda: stores.folder(tmp_path / "out").__enter__())
        assert "another process is running the study" in message
        with stores.folder(tmp_path / "out"):
            pass

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "Give another folder" in refused(lambda: stores_in(tmp_path).folder(tmp_path / "file").__enter__())

    def test_what_several_machines_share(self, tmp_path: Path) -> None:
        server = "postgresql://ada:secret@127.0.0.1:1/optuna"
        assert not stores_in(tmp_path).shared
        assert "--tracking" in refused(lambda: stores_in(tmp_path, optuna=server))
        assert "a database each" in refused(lambda: stores_in(tmp_path, optuna=server, mlflow=server))

    def test_a_server_that_is_not_there(self, tmp_path: Path) -> None:
        pytest.importorskip("psycopg")
        server = "postgresql://ada:secret@127.0.0.1:1/optuna"
        stores = stores_in(tmp_path, optuna=server, mlflow="http://127.0.0.1:1")
        message = refused(lambda: stores.alone("study").__enter__())
        assert message.startswith("cannot reach the database postgresql://ada:***@127.0.0.1:1/optuna: ")
        assert "secret" not in message


class ToldTrials(Trials):
    """Only remembers what it is told."""

    def __init__(self, told: list[tuple[Any, ...]]) -> None:
        self.told, self.mine, self.again = told, {}, True

    def complete(self, run: Run, value: float) -> None:
        self.told.append(("trial completes", run.id, value))

    def fail(self, run: Run) -> bool:
        self.told.append(("trial fails", run.id))
        return self.again

    def release(self, run: Run) -> None:
        self.told.append(("trial is released", run.id))


class ToldRuns(Runs):
    """Only remembers what it is told."""

    def __init__(self, told: list[tuple[Any, ...]]) -> None:
        self.told, self.ids = told, {}

    def begin(self, run: Run) -> None:
        self.told.append(("run begins", run.id))

    def pause(self, run: Run) -> None:
        self.told.append(("run pauses", run.id))

    def finish(self, run: Run, status: str, reason: str = "") -> None:
        self.told.append(("run ends", run.id, status))


class TestState:
    def state(self, plan: Plan) -> tuple[_State, list[tuple[Any, ...]]]:
        told: list[tuple[Any, ...]] = []
        for run in plan.runs:
            run.folder.mkdir(parents=True)
        return _State(plan, ToldTrials(told), ToldRuns(told)), told

    def test_a_failure_leaves_its_reason_until_it_is_complete(self, spec: StudySpec, tmp_path: Path) -> None:
        plan = planned(spec, tmp_path)
        state, told = self.state(plan)
        name = plan.runs[0].id
        state.end(Outcome(run=name, reason="broke 1"))
        assert told == [("trial fails", name)]
        state.trials.again = False  # pyright: ignore
        state.end(Outcome(run=name, reason="broke 2"))
        assert told[1:] == [("trial fails", name), ("run ends", name, "FAILED")]
        assert state.failures == {name: "broke 2"}
        completed(plan.runs[0], 0.5)
        state.end(Outcome(run=name, result={}))
        assert state.failures == {}
        assert told[3:] == [("run ends", name, "FINISHED"), ("trial completes", name, 0.5)]

    def test_what_stopped_is_anybodys(self, spec: StudySpec, tmp_path: Path) -> None:
        plan = planned(spec, tmp_path)
        state, told = self.state(plan)
        name = plan.runs[0].id
        state.end(Outcome(run=name, stopped=True))
        assert told == [("run pauses", name), ("trial is released", name)]
        assert state.failures == {}

    def test_catching_up_tells_what_is_complete(self, spec: StudySpec, tmp_path: Path) -> None:
        plan = planned(spec, tmp_path)
        state, told = self.state(plan)
        completed(plan.runs[2], 0.75)
        state.catch_up()
        name = plan.runs[2].id
        assert told == [("run ends", name, "FINISHED"), ("trial completes", name, 0.75)]

    def test_a_metric_that_is_not_there(self, spec: StudySpec, tmp_path: Path) -> None:
        unknown = StudySpec(**{**vars(spec), "metric": {"name": "evaluation/avg", "direction": "maximize"}})
        plan = planned(unknown, tmp_path)
        state, _ = self.state(plan)
        completed(plan.runs[0], 0.5)
        message = refused(lambda: state.value(plan.runs[0]))
        assert "'evaluation/avg'" in message
        assert "evaluation/avg_at_k" in message


class ToldTracker:
    """Only remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def run(self, *words: Any, **more: Any) -> str:
        return "id"

    def watch(self, run_id: str) -> None:
        self.told.append("watch")

    def unwatch(self, run_id: str) -> None:
        self.told.append("unwatch")

    def mirror(self, folder: Path, run_id: str) -> None:
        self.told.append("mirror")


class TestRuns:
    def test_metrics_are_sent_now_and_then_and_before_a_pause(
        self, spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [100.0]
        monkeypatch.setattr(mlflow_runs, "monotonic", lambda: clock[0])
        monkeypatch.setattr(mlflow_runs, "Tracker", lambda *words: ToldTracker())
        monkeypatch.setattr(mlflow_runs, "compare_view", lambda *words: "/#/view")
        plan = planned(spec, tmp_path)
        runs = Runs(plan, "sqlite:///nowhere.db", tmp_path)
        for _ in range(3):
            runs.mirror(plan.runs[0])
        runs.mirror(plan.runs[1])
        assert runs.tracker.told.count("mirror") == 2  # once each
        clock[0] += mlflow_runs.MIRRORED_EVERY
        runs.mirror(plan.runs[0])
        assert runs.tracker.told.count("mirror") == 3
        runs.pause(plan.runs[0])
        assert runs.tracker.told[-2:] == ["mirror", "unwatch"]


class TestView:
    def test_off_a_terminal_every_end_is_a_line(
        self, spec: StudySpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plan = planned(spec, tmp_path)
        completed(plan.runs[0], 0.5)
        second, third = plan.runs[1], plan.runs[2]
        with StudyView(plan) as view:
            view.update({second.id})
            second.folder.mkdir(parents=True)
            (second.folder / "metrics.jsonl").write_text('{"step": 0}\n{"step": 3}\n{"step": 4, "cut')
            view.update({second.id})
            assert (view.notes[second.id], view.steps[second.id]) == ("3/4", 3)
            completed(second, 0.25)
            view.ended(second, Outcome(run=second.id, result={}))
            view.ended(third, Outcome(run=third.id, reason="Traceback\n  more\nValueError: last line\n"))
            view.ended(third, Outcome(run=third.id, stopped=True))
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "study: 6 runs, 1 complete already"
        assert lines[1].startswith("[8/24 steps")
        assert lines[1].endswith(f"{second.id}: 0.250")
        assert lines[2].startswith("[8/24 steps")
        assert lines[2].endswith(f"{third.id}: failed: ValueError: last line")
        assert lines[3].endswith(f"{third.id}: stopped at 0 of 4 steps")
        assert len(lines) == 4


class TestWorker:
    @pytest.mark.process
    def test_one_that_is_killed_says_so(self, tmp_path: Path) -> None:
        worker = Worker(threads=1, gpus=None)
        worker.give(Job(run="some-run", config={}, folder=tmp_path))
        worker.process.kill()
        worker.process.join()
        outcome = worker.outcome()
        assert (outcome.run, outcome.result) == ("some-run", None)
        assert str(-signal.SIGKILL) in outcome.reason
        assert worker.run is None
        assert not worker.alive
        worker.end()
