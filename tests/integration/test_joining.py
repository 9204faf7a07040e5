"""Several workers on one study through PostgreSQL: nobody runs what another is running, and nothing is left over."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from postgres import Cluster, missing, running
from studies import FACTORS, Study, check_records, write_study

from research.ablation.optuna_trials import Trials
from research.ablation.plan import Plan, make_plan
from research.ablation.spec import read_study
from research.ablation.stores import Stores
from research.errors import UserError
from research.tracking import Tracker, merged_steps

pytestmark = [pytest.mark.process, pytest.mark.skipif(missing() is not None, reason=missing() or "")]
GRACE = 2.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running() as cluster:
        yield cluster


@pytest.fixture
def stores(cluster: Cluster, tmp_path: Path) -> Stores:
    url = cluster.create(f"optuna {tmp_path.name}")
    return Stores(optuna=url, mlflow="http://127.0.0.1:1", artifacts=tmp_path, grace=GRACE)


@pytest.fixture(scope="module")
def plan(small: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("plan")
    return make_plan(read_study(write_study(folder, small("grpo"))), folder / "study")


def moved(plan: Plan, folder: Path) -> Plan:
    """The same plan in another folder."""
    runs = [replace(run, folder=folder / "cells" / run.id) for run in plan.runs]
    return replace(plan, folder=folder, runs=runs)


class TestClaims:
    def test_many_workers_at_once_and_no_run_twice(self, plan: Plan, stores: Stores, tmp_path: Path) -> None:
        """They begin together on an empty database, so they also make the tables and the trials together."""
        here = moved(plan, tmp_path / "study")

        def work(_: int) -> list[str]:
            trials = Trials(here, stores)
            return [name for name in iter(trials.claim, None)]

        with ThreadPoolExecutor(6) as pool:
            claimed = [name for names in pool.map(work, range(6)) for name in names]
        assert sorted(claimed) == sorted(run.id for run in plan.runs)
        assert len(Trials(here, stores).study.trials) == len(plan.runs)

    def test_a_silent_worker_loses_its_run_and_a_live_one_keeps_it(
        self, plan: Plan, stores: Stores, tmp_path: Path
    ) -> None:
        here = moved(plan, tmp_path / "study")
        silent, live, third = (Trials(here, stores) for _ in range(3))
        lost, kept = silent.claim(), live.claim()
        with live.alive():
            rest = {third.claim() for _ in range(len(plan.runs) - 2)}
            assert rest == {run.id for run in plan.runs} - {lost, kept}
            with third.alive():
                assert third.claim() is None
                sleep(2 * GRACE)
                assert third.claim() == lost
                assert third.claim() is None
                with silent.alive():  # awake again
                    sleep(GRACE)
                assert silent.mine == {}
        assert lost is not None
        (run,) = [run for run in plan.runs if run.id == lost]
        assert silent.fail(run)
        silent.release(run)
        third.complete(run, 0.5)
        states = {t.user_attrs["run"]: t.state.name for t in third.study.trials}
        assert states[lost] == "COMPLETE"

    def test_another_study_of_the_same_name_is_refused_while_workers_run_it(
        self, plan: Plan, stores: Stores, tmp_path: Path
    ) -> None:
        first = moved(plan, tmp_path / "one" / "study")
        trials = Trials(first, stores)
        assert trials.claim()
        with trials.alive():  # however slow the machine is
            with pytest.raises(UserError, match="from another results folder"):
                Trials(moved(plan, tmp_path / "other" / "study"), stores)
            with pytest.raises(UserError, match="with other cells, seeds or settings"):
                Trials(replace(first, runs=first.runs[:3]), stores)
            Trials(first, stores)
        sleep(GRACE + 1)
        Trials(moved(plan, tmp_path / "other" / "study"), stores)


class TestMistakes:
    def test_a_wrong_password_and_a_database_that_is_not_there(
        self, plan: Plan, cluster: Cluster, stores: Stores, tmp_path: Path
    ) -> None:
        for url, reason in (
            (cluster.url("postgres", "guess"), "password authentication failed"),
            (cluster.url("nowhere"), 'database "nowhere" does not exist'),
        ):
            with pytest.raises(UserError) as caught:
                Trials(moved(plan, tmp_path / "study"), replace(stores, optuna=url))
            assert reason in str(caught.value)
            assert "guess" not in str(caught.value)
            assert "\n" not in str(caught.value)
            with pytest.raises(UserError) as caught:
                Tracker(url, "experiment")
            assert "guess" not in str(caught.value)
            assert "\n" not in str(caught.value)


def test_one_of_two_workers_is_killed_and_the_other_completes_the_study(
    small: Callable[..., dict[str, Any]], cluster: Cluster, tmp_path: Path
) -> None:
    servers = {"storage": cluster.create("optuna"), "tracking": cluster.create("mlflow")}
    factors = {"clip": FACTORS["clip"]}
    file = write_study(tmp_path, small("grpo"), factors=factors)
    study = Study(file, tmp_path, servers)
    one, other = (study.process(1, "--grace", "4") for _ in range(2))
    log, cells = tmp_path / "log.txt", study.folder / "cells"
    try:
        deadline = monotonic() + 240
        while len(begun := [path for path in cells.glob("*") if merged_steps(path)]) < 2:
            assert one.poll() is None, log.read_text()
            assert other.poll() is None, log.read_text()
            assert monotonic() < deadline, log.read_text()
            sleep(0.02)
        one.send_signal(signal.SIGKILL)
        left = [path for path in begun if not (path / "result.json").exists()]
        assert other.wait(timeout=240) == 0, log.read_text()
    finally:
        one.kill()
        other.kill()
    assert left
    check_records(study, [f"{cell}-s{seed}" for seed in (0, 1) for cell in ("0-base", "1-clip")], factors)
    workers = {trial.user_attrs["worker"] for trial in study.trials()}
    assert len(workers) <= 2
    assert "between tests" not in (study.folder / "study.yaml").read_text()
    assert "***@127.0.0.1" in (study.folder / "study.yaml").read_text()
