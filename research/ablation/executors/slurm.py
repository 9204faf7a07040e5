"""Cells as jobs of a Slurm cluster, through submitit."""

import logging
from subprocess import CalledProcessError
from time import monotonic, sleep, time
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmInfoWatcher

from research.ablation.executors.base import Executor, Job, Outcome, Resources
from research.errors import UserError

LOST = 3
"""How often a cell is submitted again after its job was lost, as when a node fails."""
POLL = 0.2
ASK_EVERY = 15
"""Seconds after which Slurm is asked again which jobs it has; submitit then looks as long for a lost job's result."""


class SlurmExecutor(Executor):
    """Each cell is a job that asks for processors and GPUs; `--slurm.NAME=VALUE` gives what `sbatch` is to be told.

    The results folder must be on a file system that every node sees. A job that is preempted, or comes to its time
    limit, finishes its step, writes a checkpoint and ends; the study then submits the rest of the run. A job outlives a
    study that is killed; the next one's waits for it. `--slurm.cluster=local` tries it out without Slurm.
    """

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.jobs: dict[str, Any] = {}
        self.lost: dict[str, int] = {}
        self.cancelled: set[str] = set()
        options = dict(resources.options)
        cluster = options.pop("cluster", "slurm")
        logging.getLogger("submitit").setLevel(logging.ERROR)
        submitit.SlurmJob.watcher = Queue(delay_s=ASK_EVERY)
        try:
            self.scheduler = submitit.AutoExecutor(folder=resources.folder / "slurm", cluster=cluster)
            self.scheduler.update_parameters(
                name="research",
                timeout_min=options.pop("time", 24 * 60),
                cpus_per_task=int(resources.threads if resources.cpus is None else resources.cpus),
                gpus_per_node=int(resources.gpus),
                **{f"slurm_{name}": value for name, value in options.items()},
            )
        except (RuntimeError, ValueError, NameError, TypeError, OSError) as error:
            raise UserError(f"cannot use Slurm here: {' '.join(str(error).split())}") from error

    def stop(self, run: str) -> None:
        super().stop(run)
        if self.jobs[run].state == "PENDING":
            self.jobs[run].cancel()
            self.cancelled.add(run)

    def _start(self, job: Job) -> None:
        try:
            self.jobs[job.run] = self.scheduler.submit(_cell, job, self.resources.threads)
        except (FailedJobError, FailedSubmissionError, CalledProcessError, OSError) as error:
            raise UserError(f"Slurm did not take the job of {job.run}: {' '.join(str(error).split())}") from error

    def _ended(self, seconds: float) -> list[Outcome]:
        until = monotonic() + seconds
        while not (ended := [run for run, job in self.jobs.items() if run in self.cancelled or job.done()]):
            if monotonic() > until:
                return []
            sleep(POLL)
        return [outcome for run in ended if (outcome := self._outcome(run, self.jobs.pop(run))) is not None]

    def _outcome(self, run: str, job: Any) -> Outcome | None:
        """How the job ended; None if it was lost and is submitted again."""
        if run in self.cancelled:
            self.cancelled.discard(run)
            return Outcome(run=run, stopped=True)
        try:
            return job.result()
        except Exception as error:
            self.lost[run] = self.lost.get(run, 0) + 1
            if self.lost[run] <= LOST:
                self._start(self.running[run])
                return None
            return Outcome(run=run, reason=f"its Slurm job {job.job_id} was lost: {str(error).splitlines()[0]}")

    def close(self) -> None:
        for job in self.jobs.values():
            job.cancel(check=False)
        self.jobs, self.running = {}, {}


class Queue(SlurmInfoWatcher):
    """Which jobs Slurm still has, asked of `squeue`.

    submitit asks `sacct`, which tells nothing where a cluster keeps no accounting: a lost job would be waited for for
    ever. A job that has left the queue is over; how, its result says, or that there is none.
    """

    def _make_command(self) -> list[str] | None:
        ask = ["squeue", "--me", "--noheader", "--format=%i %T"]
        return ask if self._registered - self._finished else None

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """The state of each job in submitit's words, whatever Slurm calls it between its beginning and its end."""
        text = string if isinstance(string, str) else string.decode()
        queued = dict(line.split(maxsplit=1) for line in text.splitlines())
        words = {job: "PENDING" if state == "PENDING" else "RUNNING" for job, state in queued.items()}
        return {job: {"State": words.get(job, "GONE")} for job in self._registered}


def _cell(job: Job, threads: int) -> Outcome:
    from research.ablation.executors.cell import run_cell

    return run_cell(job, threads=threads, began=time())
