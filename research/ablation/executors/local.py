"""Worker processes on this machine. Each runs one cell after another, and none outlives its study."""

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from time import time

from research.ablation.executors.base import Executor, Job, Outcome, Resources

DEVICES = "CUDA_VISIBLE_DEVICES"


class LocalExecutor(Executor):
    """Runs cells in worker processes, each of which sees its share of this machine's GPUs."""

    def __init__(self, resources: Resources) -> None:
        workers = resources.workers or max(1, (os.cpu_count() or 1) // resources.threads)
        super().__init__(replace(resources, workers=workers))
        self.shares = gpu_shares(visible_gpus(), workers)
        self.crew: list[Worker] = []

    def _start(self, job: Job) -> None:
        idle = next((k for k, worker in enumerate(self.crew) if worker.run is None), len(self.crew))
        if idle == len(self.crew) or not self.crew[idle].alive:
            self.crew[idle : idle + 1] = [Worker(self.resources.threads, self.shares[idle])]
        self.crew[idle].give(job)

    def _ended(self, seconds: float) -> list[Outcome]:
        busy = [worker for worker in self.crew if worker.run]
        ready = wait([end for worker in busy for end in (worker.connection, worker.process.sentinel)], timeout=seconds)
        return [worker.outcome() for worker in busy if worker.connection in ready or worker.process.sentinel in ready]

    def close(self) -> None:
        for worker in self.crew:
            worker.end()
        self.crew, self.running = [], {}


class Worker:
    """The study's end of a worker process.

    Args:
        threads: torch threads of the process.
        gpus: the devices that it sees; None leaves the environment unchanged.
    """

    def __init__(self, threads: int, gpus: Sequence[str] | None) -> None:
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, threads, gpus), daemon=True)
        self.process.start()
        other.close()
        self.run: str | None = None

    def give(self, job: Job) -> None:
        """Start a run."""
        self.run = job.run
        self.connection.send((job, time()))

    def outcome(self) -> Outcome:
        """The outcome of its run; call once the connection or the process's sentinel is ready."""
        run, self.run = self.run, None
        assert run is not None, "the worker has no run"
        try:
            if self.connection.poll():
                return self.connection.recv()
        except (EOFError, ConnectionResetError):
            pass
        self.process.join()
        return Outcome(run=run, reason=f"its worker process ended with exit code {self.process.exitcode}")

    @property
    def alive(self) -> bool:
        """True if it can take another run."""
        return self.process.is_alive()

    def end(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.join()


def work(connection: Connection, threads: int, gpus: Sequence[str] | None) -> None:
    """Answer each (job, time of its beginning) from the connection with an Outcome, until None comes."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # between runs; a terminal and a scheduler signal all processes
    if gpus is not None:
        os.environ[DEVICES] = ",".join(gpus)
    from research.ablation.executors.cell import run_cell

    while (given := connection.recv()) is not None:
        job, began = given
        connection.send(run_cell(job, threads=threads, began=began))


def visible_gpus() -> list[str]:
    """The names of the CUDA devices that this process may use."""
    if DEVICES in os.environ:
        return [name for name in os.environ[DEVICES].split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def gpu_shares(gpus: Sequence[str], workers: int) -> list[Sequence[str] | None]:
    """The devices of each worker: several each, or one shared one if there are fewer devices than workers.

    Example:
        >>> gpu_shares(["0", "1", "2"], 2)
        [['0', '2'], ['1']]
        >>> gpu_shares(["0", "1"], 3)
        [['0'], ['1'], ['0']]
    """
    if not gpus:
        return [None] * workers
    return [list(gpus[worker::workers]) or [gpus[worker % len(gpus)]] for worker in range(workers)]


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
