"""The executor: the interface between a study and the processes that run its cells."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STOP = "stop"
"""Name of the file in a run's folder that asks the run to stop after its step."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Processors, GPUs and settings for the runs of a study."""

    workers: int | None = None
    """Runs at once; None takes cores / `threads` on one machine, and sets no limit on a cluster."""
    threads: int = 1
    """torch threads of each run; the numbers of a run may depend on it, but never on `workers`."""
    cpus: float | None = None
    """Processors that a run asks a cluster for; None asks for `threads`."""
    gpus: float = 0.0
    """GPUs that a run asks a cluster for."""
    address: str | None = None
    """Address of the cluster; None takes the one that the environment names, or starts one."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Settings of the executor itself, by the names of its command-line options."""
    folder: Path = Path(".")
    """Folder for the executor's own files."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run, as it is given to an executor."""

    run: str
    """Its name, unique among the runs that are under way."""
    config: Mapping[str, object]
    """The resolved recipe."""
    folder: Path
    """Its folder, which every machine that may run it must see."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a run: complete, stopped or failed."""

    run: str
    result: Mapping[str, Any] | None = None
    """The run's result (see `research.runs.folder.write_result`); None if it did not reach its last step."""
    reason: str = ""
    """The reason of a failure: one sentence, or a traceback for a fault of the program."""
    stopped: bool = False
    """True if it was asked to stop and is at a checkpoint; submitted again, it continues."""


def last_line(reason: str) -> str:
    """The last line of a failure's reason, which in a traceback is the error."""
    return (reason.strip().splitlines() or ["it failed"])[-1]


class Executor(ABC):
    """Runs cells. Its user fills the slots, waits, and takes the outcomes:

        with make_executor("local", resources) as executor:
            while queue or executor.running:
                while queue and executor.free:
                    executor.submit(queue.popleft())
                for outcome in executor.wait(seconds=1.0):
                    ...

    Runs may be submitted at any time. The metrics of a run are in its folder while it runs: `merged_steps(job.folder)`
    of `research.tracking` gives them by step. `stop` ends one run early: its outcome has `stopped`, and its folder
    holds a checkpoint and the metrics so far.

    One process at a time executes a run. A second one waits for the lock of the run's folder, and then continues the
    run or finds it complete.

    Args:
        resources: for the runs.

    Raises: UserError if the executor cannot be used here.
    """

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.running: dict[str, Job] = {}

    @property
    def free(self) -> bool:
        """True if another run can be submitted."""
        return self.resources.workers is None or len(self.running) < self.resources.workers

    def submit(self, job: Job) -> None:
        """Start a run, or continue it from its folder's checkpoint."""
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / STOP).unlink(missing_ok=True)
        self.running[job.run] = job
        self._start(job)

    def wait(self, seconds: float) -> list[Outcome]:
        """The outcomes of the runs that have ended. Waits at most so many seconds for the first one."""
        outcomes = self._ended(seconds)
        for outcome in outcomes:
            (self.running.pop(outcome.run).folder / STOP).unlink(missing_ok=True)
        return outcomes

    def stop(self, run: str) -> None:
        """Ask a run to finish its step, write a checkpoint and stop; `wait` returns its outcome later."""
        (self.running[run].folder / STOP).touch()

    @abstractmethod
    def _start(self, job: Job) -> None:
        """Have some process call `research.ablation.executors.cell.run_cell` with the job."""

    @abstractmethod
    def _ended(self, seconds: float) -> list[Outcome]:
        """The outcomes of ended runs. A run whose process was lost is started again, or ends with a reason."""

    @abstractmethod
    def close(self) -> None:
        """Stop every run now; submitted another time, each continues from its last checkpoint."""

    def __enter__(self) -> "Executor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
