"""Cells as jobs of a real Slurm, whose two nodes are processes of this machine."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import sleep, time

import psutil
import pytest
from slurm_cluster import SlurmCluster, missing, running
from studies import FACTORS, Study, check_records, drive, holder, numbers, write_study

from research.ablation.executors import Executor, Job, Outcome, Resources, make_executor
from research.ablation.executors.cell import run_cell
from research.errors import UserError
from research.recipe import Recipe
from research.tracking import merged_steps

pytest.importorskip("submitit")
pytestmark = [pytest.mark.process, pytest.mark.skipif(missing() is not None, reason=missing() or "")]


@pytest.fixture
def cluster(importable: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(running())
        except TimeoutError as error:
            pytest.skip(str(error))
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        yield cluster


@pytest.fixture
def executor(cluster: SlurmCluster, tmp_path: Path) -> Iterator[Executor]:
    resources = Resources(folder=tmp_path, options={"partition": "short", "time": 30})
    with make_executor("slurm", resources) as executor:
        yield executor


LONG = {"run.steps": 80, "run.evaluate_every": 40, "run.checkpoint_every": 10}


def job(folder: Path, recipe: Recipe) -> Job:
    return Job(run=folder.name, config=recipe.config, folder=folder)


def lose_a_node(cluster: SlurmCluster, has_begun: Callable[[], bool]) -> None:
    """Once the run has begun, kill the daemon of the node that runs something, and all that it had started."""
    while not has_begun():
        sleep(0.01)
    node = next(iter(cluster.jobs().values()))
    daemon = psutil.Process(cluster.daemons[node].pid)
    steps = [one for one in psutil.process_iter(["cmdline"]) if f"[{node}" in " ".join(one.info["cmdline"] or [])]
    for process in [daemon, *(child for step in steps for child in [step, *step.children(recursive=True)])]:
        process.kill()


def test_a_run_whose_node_is_lost_continues_on_another(
    cluster: SlurmCluster, executor: Executor, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    asked, here = (job(tmp_path / name, recipe("grpo", LONG)) for name in ("run", "here"))
    begun = lambda: 2 in merged_steps(asked.folder)  # noqa: E731
    threading.Thread(target=lose_a_node, args=(cluster, begun), daemon=True).start()
    outcome = drive(executor, [asked])[asked.run]
    assert outcome.result is not None, outcome.reason
    here.folder.mkdir()
    assert run_cell(here, threads=1, began=time()).result is not None
    assert numbers(asked.folder) == numbers(here.folder)


@pytest.mark.slow
def test_a_job_that_is_killed_is_submitted_again(
    cluster: SlurmCluster, executor: Executor, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """Without accounting, too: that it is gone is told by the queue."""
    asked = job(tmp_path / "run", recipe("grpo", LONG))

    def kill() -> None:
        while 2 not in merged_steps(asked.folder):
            sleep(0.01)
        holder(asked.folder).kill()

    threading.Thread(target=kill, daemon=True).start()
    outcome = drive(executor, [asked])[asked.run]
    assert outcome.result is not None, outcome.reason


def test_what_waits_for_a_node_is_cancelled(
    cluster: SlurmCluster, executor: Executor, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    config = recipe("grpo", LONG)
    jobs = [job(tmp_path / name, config) for name in ("first", "second", "third")]
    for one in jobs:
        executor.submit(one)
    while any(1 not in merged_steps(one.folder) for one in jobs[:2]):
        assert executor.wait(0.1) == []
    for one in jobs:
        executor.stop(one.run)
    outcomes = []
    while executor.running:
        outcomes += executor.wait(1.0)
    assert sorted(outcomes, key=lambda one: one.run) == [Outcome(run=one.run, stopped=True) for one in jobs]
    assert [len(merged_steps(one.folder)) > 1 for one in jobs] == [True, True, False]


def test_what_slurm_refuses_is_said_in_a_sentence(
    cluster: SlurmCluster, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    resources = Resources(folder=tmp_path, options={"partition": "nowhere"})
    with (
        make_executor("slurm", resources) as executor,
        pytest.raises(UserError, match=r"Slurm refused the job of run: .*invalid partition"),
    ):
        executor.submit(job(tmp_path / "run", recipe("grpo")))


@pytest.mark.slow
def test_a_study_of_which_a_node_is_lost(cluster: SlurmCluster, small: Callable[..., dict], tmp_path: Path) -> None:
    """Complete, no cell twice, and the numbers of the study that ran on this machine without Slurm."""
    factors = {"clip": FACTORS["clip"]}
    runs = [f"{cell}-s{seed}" for seed in (0, 1) for cell in ("0-base", "1-clip")]
    file = write_study(tmp_path, small("grpo"), factors=factors)
    study, whole = Study(file, tmp_path / "slurm"), Study(file, tmp_path / "here")
    process = study.process(2, "--executor", "slurm", "--slurm.partition=short", "--slurm.time=30")
    cells = study.folder / "cells"
    begun = lambda: any(1 in merged_steps(cells / run) for run in runs)  # noqa: E731
    try:
        lose_a_node(cluster, begun)
        assert process.wait(timeout=280) == 0, (study.home / "log.txt").read_text()
    finally:
        process.kill()
    check_records(study, runs, factors)
    assert whole.here(1)[0] == 0
    assert study.numbers() == whole.numbers()
