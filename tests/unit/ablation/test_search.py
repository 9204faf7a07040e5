"""A search inside a design, on an executor whose runs compute the metric from their config."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from conftest import refused
from mlflow import MlflowClient

from research.ablation.executors import Executor, Job, Outcome, Resources
from research.ablation.executors.base import STOP
from research.ablation.folder.record import study_of
from research.ablation.mlflow_runs import Runs
from research.ablation.nodes import at, differences
from research.ablation.plan import Plan, Run, make_plan
from research.ablation.search import run as searching
from research.ablation.search.run import run_search
from research.ablation.search_places import FOUND, search_lines, with_found
from research.ablation.spec import read_study
from research.ablation.stores import Stores, identity
from research.tracking import METRICS, RESULT, merged_steps

METRIC = "evaluation/avg_at_k"
ALPHA, NORM = "model.credit.advantage.init_args.alpha2", "model.credit.advantage.init_args.norm_set"
BEST = {"zero_filled": 0.7, "polarity": 0.3}
"""Where the metric is highest, by the level of the factor."""
STEPS = 4
SEARCH = f"""
search:
  parameters:
    alpha2: {{path: {ALPHA}, low: 0.0, high: 1.0}}
  trials: 12
  seeds: [100]
  at: [normalisation]
"""
STUDY = f"""
question: Does it matter?
base: recipe.yaml
design: factorial
seeds: [0, 1]
metric: {{name: {METRIC}, direction: maximize}}
factors:
  normalisation:
    zero_filled: {{{NORM}: zero_filled}}
    polarity: {{{NORM}: polarity}}
{SEARCH}"""


def metric(config: Mapping[str, Any], step: int) -> float:
    """Rises from 0 with the steps, to what a parabola has at the run's α2."""
    return step / STEPS * (1.0 - (at(config, ALPHA) - BEST[at(config, NORM)]) ** 2)


class Computing(Executor):
    """Runs take one evaluation a wait; no training.

    Args:
        workers: runs at once.
        killed: evaluations after which the process dies; None for never.
        failing: whether a run of this config fails.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        killed: int | None = None,
        failing: Callable[[Mapping[str, Any]], bool] = lambda config: False,
    ) -> None:
        super().__init__(Resources(workers=workers))
        self.killed, self.failing = killed, failing
        self.begun: list[str] = []
        self.evaluations = 0

    def _start(self, job: Job) -> None:
        self.begun.append(job.run)

    def _ended(self, seconds: float) -> list[Outcome]:
        outcomes = [self._evaluate(job) for job in self.running.values()]
        return [outcome for outcome in outcomes if outcome is not None]

    def _evaluate(self, job: Job) -> Outcome | None:
        if self.killed == self.evaluations:
            raise KeyboardInterrupt
        self.evaluations += 1
        if (job.folder / STOP).exists():
            return Outcome(run=job.run, stopped=True)
        if self.failing(job.config):
            return Outcome(run=job.run, reason="Traceback:\nit does not converge")
        step = len(merged_steps(job.folder))
        value = metric(job.config, step) + job.config["model"]["seed"] - 100
        with (job.folder / METRICS).open("a") as file:
            file.write(json.dumps({"step": step, METRIC: value}) + "\n")
        if step < STEPS:
            return None
        hashes = {"train": "0", "evaluation": "1"}
        (job.folder / RESULT).write_text(json.dumps({"last": {METRIC: value}, "data_hashes": hashes}))
        return Outcome(run=job.run, result={})

    def close(self) -> None:
        self.running = {}


class ToldRuns(Runs):
    """Only remembers what it is told: a run's last state, over all processes that search in a folder."""

    states: ClassVar[dict[Path, str]] = {}

    def __init__(self, plan: Plan, uri: str, artifacts: Path) -> None:
        pass

    def begin(self, run: Run) -> None:
        assert run.tries
        self.states[run.folder] = "RUNNING"

    def mirror(self, run: Run) -> None:
        assert self.states[run.folder] == "RUNNING"

    def pause(self, run: Run) -> None:
        self.mirror(run)

    def finish(self, run: Run, status: str, reason: str = "") -> None:
        assert (run.folder / RESULT).exists() == (status == "FINISHED")
        assert status == "FINISHED" or reason or self.states[run.folder] in (status, "RUNNING")
        self.states[run.folder] = status


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> dict[Path, str]:
    """MLflow's view of every trial's runs, without MLflow: folder → status."""
    monkeypatch.setattr(searching, "Runs", ToldRuns)
    monkeypatch.setattr(ToldRuns, "states", {})
    return ToldRuns.states


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, small: Callable[..., dict[str, Any]]) -> Path:
    """A folder with a recipe; what else is written there does no harm."""
    folder = tmp_path_factory.mktemp("search")
    config = small("gtpo", {"run.steps": STEPS, "run.evaluate_every": 1})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def planned(home: Path) -> Plan:
    """The study's plan before its search."""
    return make_plan(read_study(written(home, STUDY)), home / "nowhere")


@pytest.fixture(scope="module")
def stores(home: Path) -> Stores:
    return Stores(optuna=f"sqlite:///{home / 'optuna.db'}", mlflow="sqlite://", artifacts=home)


def written(home: Path, text: str) -> Path:
    path = home / "study.yaml"
    path.write_text(text)
    return path


def there(plan: Plan, folder: Path, **search: Any) -> Plan:
    """The plan in a folder, with another search."""
    assert plan.spec.search is not None
    return replace(plan, folder=folder, spec=replace(plan.spec, search=replace(plan.spec.search, **search)))


def found_in(plan: Plan) -> list[dict[str, Any]]:
    return list(yaml.safe_load((plan.folder / FOUND).read_text())["found"].values())


def measured(plan: Plan) -> int:
    """How many evaluations all runs have in their files."""
    return sum(len(path.read_text().splitlines()) for path in plan.folder.rglob(METRICS))


class TestSearch:
    def test_each_place_finds_its_own_best_and_the_cells_have_it(
        self, planned: Plan, stores: Stores, home: Path
    ) -> None:
        folder = home / "best"
        plan = there(planned, folder)
        run_search(plan, stores, Computing())
        for one in found_in(plan):
            best = BEST[one["levels"]["normalisation"]]
            tried = [trial["alpha2"] for trial in one["trials"]]
            assert tried[0] == 0.1  # the recipe's own
            assert len(tried) == len(set(tried)) == 12
            assert abs(one["values"]["alpha2"] - best) == min(abs(alpha - best) for alpha in tried) < 0.1
            assert one["metric"] == pytest.approx(1 - (one["values"]["alpha2"] - best) ** 2)

        after = make_plan(read_study(written(home, STUDY)), folder)
        alphas = {one["levels"]["normalisation"]: one["values"]["alpha2"] for one in found_in(plan)}
        for run in after.runs:
            level = run.cell.levels["normalisation"]
            assert at(run.recipe.config, ALPHA) == alphas[level]
            assert run.cell.label.endswith(f"(alpha2 {alphas[level]:.3g})")
        assert [cell.id for cell in after.cells] == [cell.id for cell in planned.cells]
        one, other = (run.recipe.config for run in after.runs[:2])
        assert set(differences(one, other)) == {ALPHA, NORM}
        assert "seed 100" in after.guarantees[-1]
        assert study_of(after, "research ablate").search["found"] == {
            place.id: found for place, found in zip(plan.searched, found_in(plan), strict=True)
        }
        assert search_lines(after.spec)[-1] == f"found for polarity: alpha2 {alphas['polarity']:.3g}"

        executor = Computing()
        run_search(plan, stores, executor)  # found once is found
        assert executor.begun == []
        others = [replace(place, recipe=run.recipe) for place, run in zip(plan.searched, plan.runs, strict=False)]
        message = refused(lambda: with_found(plan.spec, plan.cells, others, folder))
        assert str(folder / FOUND) in message
        assert "--output" in message

    def test_one_search_for_all_cells(self, planned: Plan, stores: Stores, tmp_path: Path) -> None:
        everywhere = [replace(planned.searched[0], id="0-all", levels={})]
        plan = replace(there(planned, tmp_path, at=[], trials=3), searched=everywhere)
        run_search(plan, stores, Computing())
        spec, cells = with_found(plan.spec, plan.cells, everywhere, tmp_path)
        (one,) = found_in(plan)
        assert {at(spec.config(cell.levels, 0), ALPHA) for cell in cells} == {one["values"]["alpha2"]}
        assert [cell.label for cell in cells] == [cell.label for cell in planned.cells]

    def test_bad_trials_are_pruned_and_the_best_is_not(
        self, planned: Plan, stores: Stores, tmp_path: Path, told: dict[Path, str]
    ) -> None:
        plan = there(planned, tmp_path)
        run_search(plan, stores, Computing())
        for one, place in zip(found_in(plan), planned.searched, strict=True):
            pruned = [trial for trial in one["trials"] if trial["state"] == "pruned"]
            complete = [trial for trial in one["trials"] if trial["state"] == "complete"]
            assert pruned
            assert len(pruned) + len(complete) == 12
            assert [trial["number"] for trial in complete][:3] == [0, 1, 2]
            for trial in pruned:
                folder = tmp_path / "search" / place.id / str(trial["number"])
                assert len(merged_steps(folder)) < STEPS + 1
                assert not (folder / RESULT).exists()
                assert told[folder] == "KILLED"
            for trial in complete:
                assert told[tmp_path / "search" / place.id / str(trial["number"])] == "FINISHED"
            assert one["metric"] == max(trial["value"] for trial in complete)

    def test_without_a_pruner_every_trial_is_completed(self, planned: Plan, stores: Stores, tmp_path: Path) -> None:
        plan = there(planned, tmp_path, pruner="none", trials=5)
        run_search(plan, stores, Computing())
        assert {trial["state"] for one in found_in(plan) for trial in one["trials"]} == {"complete"}

    @pytest.mark.parametrize("kills", [[3, 20, 19], [10, 2, 2, 2]])
    def test_a_killed_search_is_the_same_search(
        self, kills: list[int], planned: Plan, stores: Stores, tmp_path: Path, told: dict[Path, str]
    ) -> None:
        whole, killed = (there(planned, tmp_path / name, trials=6) for name in ("whole", "killed"))
        run_search(whole, stores, Computing())
        for evaluations in kills:
            with pytest.raises(KeyboardInterrupt):
                run_search(killed, stores, Computing(killed=evaluations))
            assert not (killed.folder / FOUND).exists()
        run_search(killed, stores, Computing())
        assert found_in(killed) == found_in(whole)
        assert (killed.folder / "search.csv").read_text() == (whole.folder / "search.csv").read_text()
        assert measured(killed) == measured(whole)
        ends = [
            {path.relative_to(plan.folder): told[path] for path in told if plan.folder in path.parents}
            for plan in (whole, killed)
        ]
        assert ends[0] == ends[1]
        assert len(ends[0]) == 12

    def test_several_workers_and_seeds(self, planned: Plan, stores: Stores, tmp_path: Path) -> None:
        plan = there(planned, tmp_path, seeds=[100, 101], trials=6)
        executor = Computing(workers=3)
        run_search(plan, stores, executor)
        assert len(executor.begun) == len(set(executor.begun))
        for one in found_in(plan):
            assert len(one["trials"]) == 6
            best = BEST[one["levels"]["normalisation"]]
            assert one["metric"] == pytest.approx(1.5 - (one["values"]["alpha2"] - best) ** 2)

    def test_a_trial_that_fails_is_tried_again_once(
        self, planned: Plan, stores: Stores, tmp_path: Path, told: dict[Path, str]
    ) -> None:
        plan = there(planned, tmp_path, trials=4)
        executor = Computing(failing=lambda config: at(config, ALPHA) == 0.1)
        run_search(plan, stores, executor)
        assert [[trial["state"] for trial in one["trials"]] for one in found_in(plan)] == [
            ["fail", "complete", "complete", "complete"]
        ] * 2
        assert executor.begun.count(f"search-{plan.searched[0].id}-0") == 2
        assert told[tmp_path / "search" / plan.searched[0].id / "0"] == "FAILED"

    def test_a_search_without_a_complete_trial(self, planned: Plan, stores: Stores, tmp_path: Path) -> None:
        plan = there(planned, tmp_path, trials=2)
        message = refused(lambda: run_search(plan, stores, Computing(failing=lambda config: True)))
        assert "normalisation zero_filled" in message
        assert message.endswith("it does not converge")
        run_search(plan, stores, Computing())  # mended, it goes on
        assert (plan.folder / FOUND).exists()

    def test_other_settings_are_refused_and_more_trials_are_not(
        self, planned: Plan, stores: Stores, tmp_path: Path
    ) -> None:
        plan = there(planned, tmp_path, trials=2)
        run_search(plan, stores, Computing())
        (tmp_path / FOUND).unlink()
        assert "--output" in refused(lambda: run_search(there(plan, tmp_path, seeds=[200]), stores, Computing()))
        executor = Computing()
        run_search(there(plan, tmp_path, trials=3), stores, executor)
        assert executor.begun == [f"search-{place.id}-2" for place in plan.searched]


class TestInMlflow:
    def test_every_trial_is_a_run_below_the_study(
        self, planned: Plan, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        monkeypatch.setattr(searching, "Runs", Runs)
        monkeypatch.setattr(Runs, "mirror", lambda self, run: self.begin(run))  # no watch on the machine
        plan = replace(there(planned, tmp_path / "study", trials=2, at=[]), searched=planned.searched[:1])
        first = plan.searched[0].own["alpha2"]
        with pytest.raises(KeyboardInterrupt):
            run_search(plan, replace(stores, mlflow=uri), Computing(killed=2))
        run_search(plan, replace(stores, mlflow=uri), Computing(failing=lambda config: at(config, ALPHA) != first))
        client = MlflowClient(uri)
        (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
        runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
        assert len(runs) == 3
        parent, good, bad = (
            runs[name] for name in (planned.spec.name, *(f"search-{plan.searched[0].id}-{k}" for k in (0, 1)))
        )
        assert [good.info.status, bad.info.status] == ["FINISHED", "FAILED"]
        for run in (good, bad):
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert run.data.tags["search"] == identity(plan.folder)
            assert "study" not in run.data.tags  # the cells' comparison leaves it out
            assert run.data.params["normalisation"] == "zero_filled"
        assert float(good.data.params["alpha2"]) == first
        assert "does not converge" in bad.data.tags["mlflow.note.content"]


class TestDeclaration:
    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            (SEARCH, "\nsearch: 3", ["parameters", "got 3"]),
            ("  trials: 12", "  trails: 12", ["trails"]),
            ("  trials: 12", "  trials: 0", ["trials", "got 0"]),
            ("  trials: 12", "  steps: 1.5", ["steps", "1.5"]),
            ("  trials: 12", "  pruner: hyperband", ["pruner", "hyperband", "median"]),
            ("  seeds: [100]\n", "", ["seeds is missing"]),
            ("  seeds: [100]", "  seeds: 100", ["seeds", "100"]),
            ("at: [normalisation]", "at: [clip]", ["clip", "normalisation"]),
            ("at: [normalisation]", "at: normalisation", ["list of different factors"]),
            ("    alpha2: {", "    value: {", ["value", "another name"]),
            ("low: 0.0, ", "", ["alpha2", "low"]),
            ("low: 0.0", "low: 1.0", ["alpha2", "low is below high"]),
            ("low: 0.0", "low: tiny", ["alpha2", "tiny"]),
            ("low: 0.0", "low: .nan", ["alpha2", "nan"]),
            ("high: 1.0", "high: 1.0, log: true", ["alpha2", "above 0"]),
            ("high: 1.0", "high: 1.0, log: 1", ["true or false"]),
            ("high: 1.0", "high: 1.5, integer: true", ["whole numbers"]),
            (f"path: {ALPHA}", f"path: {NORM}", ["normalisation", NORM]),
            (f"path: {ALPHA}", "path: model.credit", ["normalisation", "model.credit"]),
        ],
    )
    def test_a_mistake_in_the_file(self, old: str, new: str, words: list[str], home: Path) -> None:
        assert old in STUDY
        path = written(home, STUDY.replace(old, new))
        message = refused(lambda: read_study(path))
        for word in [f"{path}: search", *words]:
            assert word in message

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("seeds: [100]", "seeds: [100, 1]", ["seed 1"]),
            (f"path: {ALPHA}", "path: model.credit.advantage.init_args.alpha3", ["alpha3"]),
            ("low: 0.0", "low: -1.0", ["alpha2 -1", "at least 0"]),
        ],
    )
    def test_a_mistake_that_shows_in_the_config(self, old: str, new: str, words: list[str], home: Path) -> None:
        spec = read_study(written(home, STUDY.replace(old, new)))
        message = refused(lambda: make_plan(spec, home / "nowhere"))
        for word in words:
            assert word in message

    def test_a_searched_number_on_the_command_line(self, planned: Plan, home: Path) -> None:
        assert ALPHA in refused(lambda: make_plan(planned.spec, home / "nowhere", {ALPHA: 0.5}))

    def test_what_the_plan_says(self, planned: Plan) -> None:
        assert search_lines(planned.spec) == [
            f"searches alpha2 ({ALPHA}) in [0, 1]",
            "at 2 combinations of normalisation: 12 trials × 1 seed, 24 runs; "
            "a trial below the median of the earlier ones is ended",
        ]
        assert search_lines(replace(planned.spec, search=None)) == []
