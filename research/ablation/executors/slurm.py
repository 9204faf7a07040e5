"""Cells as jobs of a Slurm cluster, through submitit."""

import logging
from subprocess import CalledProcessError
from time import monotonic, sleep, time

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmInfoWatcher

from research.ablation.executors.base import Executor, Job, Outcome, Resources
from research.errors import UserError

LOST = 3
"""Most resubmissions of a cell whose job was lost, for instance with its node."""
POLL = 0.2
"""Seconds between two looks at the jobs."""
ASK_EVERY = 15
"""Seconds between two questions to Slurm; submitit also waits so long for the result of a job that has left."""


class SlurmExecutor(Executor):
    """Runs each cell as a Slurm job that asks for processors and GPUs; `--slurm.NAME=VALUE` sets an option of `sbatch`.

    Every node must see the results folder. A job that is preempted or reaches its time limit finishes its step, writes
    a checkpoint and ends; the study then submits the rest of the run. A job survives if its study is killed; the job
    that the next study submits waits for it. `--slurm.cluster=local` tries it without Slurm.
    """

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.jobs: dict[str, submitit.Job] = {}
        self.lost: dict[str, int] = {}
        self.cancelled: set[str] = set()
        options = dict(resources.options)
        cluster = str(options.pop("cluster", "slurm"))
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
            raise UserError(f"Slurm refused the job of {job.run}: {' '.join(str(error).split())}") from error

    def _ended(self, seconds: float) -> list[Outcome]:
        until = monotonic() + seconds
        while not (ended := [run for run, job in self.jobs.items() if run in self.cancelled or job.done()]):
            if monotonic() > until:
                return []
            sleep(POLL)
        return [outcome for run in ended if (outcome := self._outcome(run, self.jobs.pop(run))) is not None]

    def _outcome(self, run: str, job: submitit.Job) -> Outcome | None:
        """The outcome of an ended job; None if the job was lost and is submitted again."""
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
    """The jobs that Slurm still has, by `squeue`.

    submitit itself asks `sacct`, which is silent on a cluster without accounting, and so waits for a lost job forever.
    A job that has left the queue has ended: with its result, or lost if there is none.
    """

    def _make_command(self) -> list[str] | None:
        ask = ["squeue", "--me", "--noheader", "--format=%i %T"]
        return ask if self._registered - self._finished else None

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """The state of each job in submitit's words: PENDING, RUNNING (for all of Slurm's words between) or GONE."""
        text = string if isinstance(string, str) else string.decode()
        queued = dict(line.split(maxsplit=1) for line in text.splitlines())
        words = {job: "PENDING" if state == "PENDING" else "RUNNING" for job, state in queued.items()}
        return {job: {"State": words.get(job, "GONE")} for job in self._registered}


def _cell(job: Job, threads: int) -> Outcome:
    from research.ablation.executors.cell import run_cell

    return run_cell(job, threads=threads, began=time())
