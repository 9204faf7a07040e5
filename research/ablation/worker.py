"""A worker process: runs one cell after another, and never outlives the study that started it."""

import os
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    run: str
    result: dict[str, Any] | None
    """The run's result; None if it failed."""
    reason: str = ""
    """Why it failed: one sentence, or a traceback for a fault of the program."""


def work(connection: Connection, threads: int) -> None:
    """Take (run, config, folder) from the connection and answer with an Outcome, until None comes."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(threads)
    from research.config import Recipe
    from research.errors import UserError
    from research.fit import fit

    while (job := connection.recv()) is not None:
        run, config, folder = job
        try:
            outcome = Outcome(run=run, result=fit(Recipe(config=config), Path(folder)))
        except UserError as error:
            outcome = Outcome(run=run, result=None, reason=str(error))
        except Exception:
            outcome = Outcome(run=run, result=None, reason=traceback.format_exc())
        connection.send(outcome)


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class Worker:
    """The study's end of a worker process.

    Args:
        threads: torch threads of the process.
    """

    def __init__(self, threads: int) -> None:
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, threads), daemon=True)
        self.process.start()
        other.close()
        self.run: str | None = None

    def give(self, run: str, config: dict[str, Any], folder: Path) -> None:
        """Start a run."""
        self.run = run
        self.connection.send((run, config, str(folder)))

    def outcome(self) -> Outcome:
        """The outcome of the run it was given; call when the connection or the sentinel is ready."""
        run, self.run = self.run, None
        assert run is not None, "the worker has no run"
        try:
            if self.connection.poll():
                return self.connection.recv()
        except (EOFError, ConnectionResetError):
            pass
        self.process.join()
        return Outcome(run=run, result=None, reason=f"its worker process ended with exit code {self.process.exitcode}")

    @property
    def alive(self) -> bool:
        """Whether it can take another run."""
        return self.process.is_alive()

    def stop(self) -> None:
        """End the process now; its run continues from its last checkpoint another time."""
        self.process.kill()
        self.process.join()
