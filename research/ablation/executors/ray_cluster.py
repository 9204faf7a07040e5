"""Cells as tasks of a Ray cluster."""

import logging
from socket import create_connection
from time import time

import ray
from ray.exceptions import RayError

from research.ablation.executors.base import Executor, Job, Outcome, Resources
from research.errors import UserError

LOST = 3
"""Most restarts of a cell whose worker process or node was lost."""


class RayExecutor(Executor):
    """Runs each cell as a Ray task that asks for processors and GPUs, and starts it again if its node is lost.

    Every node must see the results folder and have this package installed. A restarted task continues from the
    checkpoint in its folder. The address may also come from $RAY_ADDRESS; without any, Ray is started on this machine
    and ends with the study.
    """

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.tasks: dict[ray.ObjectRef, str] = {}
        """Ray's task → run."""
        self.joined = ray.is_initialized()
        if not self.joined:
            try:
                _reach(resources.address)
                ray.init(
                    address=resources.address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
                )
            except (RayError, OSError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"cannot use the Ray cluster at {resources.address or 'this machine'}: {str(error).splitlines()[0]}"
                ) from error
        self.task = ray.remote(
            num_cpus=resources.threads if resources.cpus is None else resources.cpus,
            num_gpus=resources.gpus,
            max_retries=LOST,
            max_calls=0,
        )(_cell)

    def _start(self, job: Job) -> None:
        self.tasks[self.task.remote(job, self.resources.threads)] = job.run

    def _ended(self, seconds: float) -> list[Outcome]:
        done, _ = ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=seconds) if self.tasks else ([], [])
        return [self._outcome(task, self.tasks.pop(task)) for task in done]

    def _outcome(self, task: ray.ObjectRef, run: str) -> Outcome:
        try:
            return ray.get(task)
        except RayError as error:
            return Outcome(run=run, reason=f"Ray gave up on it: {' '.join(str(error).split())}")

    def close(self) -> None:
        for task in self.tasks:
            ray.cancel(task, force=True)
        self.tasks, self.running = {}, {}
        if not self.joined and ray.is_initialized():
            ray.shutdown()


def _reach(address: str | None) -> None:
    """Fail within seconds if nothing listens at the address; Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        create_connection((host, int(port)), timeout=10).close()


def _cell(job: Job, threads: int) -> Outcome:
    from research.ablation.executors.cell import run_cell

    return run_cell(job, threads=threads, began=time())
