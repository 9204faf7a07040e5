"""What an executor does with a run: it trains, stops when it is asked to, and goes on where it stopped."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from time import monotonic, sleep, time
from typing import Any

import psutil
import pytest
from studies import FACTORS, Study, check_records, drive, holder, numbers, write_study

from research.ablation.executors import EXECUTORS, Executor, Job, Outcome, Resources, make_executor
from research.ablation.executors.base import STOP
from research.ablation.executors.cell import run_cell
from research.errors import UserError
from research.recipe import Recipe
from research.runs.folder import CHECKPOINT, OVERHEAD
from research.tracking import METRICS, RESULT, merged_steps, read_lines
from research.tracking.tracker import TRAINED


@pytest.fixture
def job(recipe: Callable[..., Recipe], tmp_path: Path) -> Job:
    """A run that writes no checkpoint but its last, unless it is stopped."""
    (tmp_path / "run").mkdir()
    config = recipe("grpo", {"run.checkpoint_every": 100}).config
    return Job(run="run", config=config, folder=tmp_path / "run")


@pytest.fixture
def _handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(job: Job) -> Outcome:
    return run_cell(job, threads=1, began=time())


def ask_by_file(job: Job) -> None:
    (job.folder / STOP).touch()


def ask_by_signal(_: Job) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("_handler")
class TestStopping:
    @pytest.mark.parametrize("ask", [ask_by_file, ask_by_signal])
    def test_finishes_the_step_and_continues_as_if_nothing_had_been(
        self, job: Job, ask: Callable[[Job], None], tmp_path: Path
    ) -> None:
        def ask_in_the_middle() -> None:
            while 1 not in merged_steps(job.folder):
                sleep(0.002)
            ask(job)

        asker = threading.Thread(target=ask_in_the_middle, daemon=True)
        asker.start()
        outcome = run(job)
        asker.join()
        assert outcome == Outcome(run="run", stopped=True)
        stopped = numbers(job.folder)
        assert 1 <= max(stopped) < 4
        assert (job.folder / CHECKPOINT).exists()
        (job.folder / STOP).unlink(missing_ok=True)

        outcome = run(job)
        assert outcome.result is not None, outcome.reason
        (tmp_path / "whole").mkdir()
        assert run(Job(run="whole", config=job.config, folder=tmp_path / "whole")).result is not None
        assert numbers(job.folder) == numbers(tmp_path / "whole")
        assert {step: numbers(job.folder)[step] for step in stopped} == stopped

    def test_asked_before_it_begins(self, job: Job) -> None:
        ask_by_file(job)
        assert run(job) == Outcome(run="run", stopped=True)
        assert merged_steps(job.folder) == {}

    def test_overhead_is_what_passes_before_the_first_evaluation(self, job: Job) -> None:
        result = run_cell(job, threads=1, began=time() - 50).result
        assert result is not None
        assert 50 < result["seconds"][OVERHEAD] < 80

    def test_a_fault_is_a_traceback_and_a_mistake_a_sentence(self, job: Job) -> None:
        nowhere = {**job.config["model"], "policy": {**job.config["model"]["policy"], "path": "nowhere/at/all"}}
        mistaken = run(Job(run="run", config={**job.config, "model": nowhere}, folder=job.folder))
        assert "nowhere/at/all" in mistaken.reason
        assert "Traceback" not in mistaken.reason
        faulty = run(Job(run="run", config={}, folder=job.folder.with_name("other")))
        assert faulty.reason.startswith("Traceback")
        assert faulty.result is mistaken.result is None
        assert not faulty.stopped


class TestTable:
    def test_a_name_that_is_none(self) -> None:
        with pytest.raises(UserError, match="no executor is called 'cloud'; there are local, ray, slurm"):
            make_executor("cloud", Resources(workers=1, threads=1))

    def test_a_library_that_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(EXECUTORS, "cloud", "no_such_package.cloud:Executor")  # pyright: ignore
        with pytest.raises(UserError, match=r"needs the package no_such_package: pip install 'research-rlvr\[cloud\]'"):
            make_executor("cloud", Resources(workers=1, threads=1))


def test_gpus_are_dealt_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from research.ablation.executors.local import DEVICES, visible_gpus

    monkeypatch.setenv(DEVICES, "3,GPU-8f")
    assert visible_gpus() == ["3", "GPU-8f"]
    monkeypatch.setenv(DEVICES, "")
    assert visible_gpus() == []


@pytest.mark.usefixtures("importable")
class TestSlurm:
    """submitit's own way to run jobs as processes of this machine, which needs no Slurm."""

    @pytest.fixture
    def executor(self, tmp_path: Path) -> Iterator[Executor]:
        pytest.importorskip("submitit")
        resources = Resources(folder=tmp_path, options={"cluster": "local", "partition": "short", "time": 5})
        with make_executor("slurm", resources) as executor:
            yield executor

    @pytest.mark.process
    def test_a_job_is_stopped_by_its_scheduler_and_submitted_again(
        self, executor: Executor, recipe: Callable[..., Recipe], tmp_path: Path
    ) -> None:
        """A time limit is a signal; the job ends after its step, and the same run continues."""
        config = recipe("grpo", {"run.steps": 60, "run.evaluate_every": 60, "run.checkpoint_every": 100}).config
        job = Job(run="run", config=config, folder=tmp_path / "run")

        def interrupt() -> None:
            while 1 not in merged_steps(job.folder):
                sleep(0.002)
            holder(job.folder, psutil.Process()).send_signal(signal.SIGUSR2)

        threading.Thread(target=interrupt, daemon=True).start()
        assert drive(executor, [job])[job.run] == Outcome(run=job.run, stopped=True)
        assert 1 <= max(merged_steps(job.folder)) < 60
        outcome = drive(executor, [job])[job.run]
        assert outcome.result is not None, outcome.reason
        assert sorted(merged_steps(job.folder)) == [*range(61)]

    def test_where_there_is_no_slurm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("submitit")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(UserError, match="cannot use Slurm here"):
            make_executor("slurm", Resources(folder=tmp_path))
        with pytest.raises(UserError, match="cannot use Slurm here"):
            make_executor("slurm", Resources(folder=tmp_path, options={"cluster": "nowhere"}))


@pytest.mark.usefixtures("importable")
class TestRay:
    def test_a_cluster_that_is_not_there(self) -> None:
        pytest.importorskip("ray")
        with pytest.raises(UserError, match=r"cannot use the Ray cluster at 127\.0\.0\.1:1: .*refused"):
            make_executor("ray", Resources(address="127.0.0.1:1"))

    @pytest.mark.slow
    def test_a_worker_that_is_killed_within_a_cell(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        """Ray starts the task again, which continues from the checkpoint: as if nothing had been."""
        pytest.importorskip("ray")
        config = recipe("grpo", {"run.steps": 40, "run.evaluate_every": 20}).config
        jobs = [Job(run=name, config=config, folder=tmp_path / name) for name in ("one", "other")]
        with make_executor("ray", Resources(cpus=0.5)) as executor:
            killed: list[int] = []

            def kill() -> None:
                while not killed:
                    if 3 in merged_steps(jobs[0].folder):
                        process = holder(jobs[0].folder, psutil.Process())
                        process.kill()
                        killed.append(max(merged_steps(jobs[0].folder)))
                    sleep(0.002)

            threading.Thread(target=kill, daemon=True).start()
            outcomes = drive(executor, jobs)
        assert 3 <= killed[0] < 40
        for job in jobs:
            assert outcomes[job.run].result is not None, outcomes[job.run].reason
            assert [line["step"] for line in read_lines(job.folder / METRICS) if TRAINED in line] == [*range(1, 41)]
        assert numbers(jobs[0].folder) == numbers(jobs[1].folder)


@pytest.mark.slow
@pytest.mark.usefixtures("importable")
def test_a_run_whose_ray_node_is_lost_continues_on_another(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """A cluster of three nodes, each a daemon of this machine; one runs nothing but the cluster."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    config = recipe("grpo", {"run.steps": 80, "run.evaluate_every": 40, "run.checkpoint_every": 10}).config
    job, here = (Job(run=name, config=config, folder=tmp_path / name) for name in ("run", "here"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        lost: list[int] = []

        def lose_the_node() -> None:
            while 2 not in merged_steps(job.folder):
                sleep(0.002)
            process = holder(job.folder)
            node = next(one for one in nodes if raylet_of(one) in {parent.pid for parent in process.parents()})
            cluster.remove_node(node, allow_graceful=False)
            process.kill()
            lost.append(max(merged_steps(job.folder)))

        threading.Thread(target=lose_the_node, daemon=True).start()
        with make_executor("ray", Resources(address=cluster.address)) as executor:
            outcome = drive(executor, [job])[job.run]
    finally:
        cluster.shutdown()
    assert outcome.result is not None, outcome.reason
    assert 2 <= lost[0] < 80
    here.folder.mkdir()
    assert run(here).result is not None
    assert numbers(job.folder) == numbers(here.folder)


def raylet_of(node: Any) -> int:
    """The process of a node's daemon."""
    (raylet,) = node.all_processes["raylet"]
    return raylet.process.pid


def kill_within_a_cell(study: Study, process: Popen) -> str:
    """Kill the process of a cell that has trained and is not complete; the cell's name."""
    log, deadline = study.home / "log.txt", monotonic() + 240
    while monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        for metrics in (study.folder / "cells").glob("*/metrics.jsonl"):
            cell = metrics.parent
            if 1 in merged_steps(cell) and not (cell / RESULT).exists():
                with suppress(AssertionError, psutil.NoSuchProcess):
                    holder(cell, psutil.Process(process.pid)).kill()
                    if not (cell / RESULT).exists():
                        return cell.name
        sleep(0.002)
    raise AssertionError(log.read_text())


@pytest.mark.process
@pytest.mark.usefixtures("importable")
def test_a_study_on_ray_whose_worker_is_killed_within_a_cell(
    small: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Complete, no cell twice, and the numbers of the study that ran on this machine without Ray."""
    pytest.importorskip("ray")
    factors = {"clip": FACTORS["clip"]}
    runs = [f"{cell}-s{seed}" for seed in (0, 1) for cell in ("0-base", "1-clip")]
    file = write_study(tmp_path, small("grpo"), factors=factors)
    study, whole = Study(file, tmp_path / "ray"), Study(file, tmp_path / "here")
    process = study.process(2, "--executor", "ray", "--cpus-per-cell", "0.5")
    try:
        killed = kill_within_a_cell(study, process)
        assert process.wait(timeout=240) == 0, (study.home / "log.txt").read_text()
    finally:
        process.kill()
    assert killed in runs
    check_records(study, runs, factors)
    assert whole.here(1)[0] == 0
    assert study.numbers() == whole.numbers()
