"""What a study asks of whatever runs its cells, wherever the processes are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STOP = "stop"
"""A file of this name in a run's folder asks the run to stop after its step."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What runs are given."""

    workers: int | None = None
    """Runs at once; null leaves it to the executor: on one machine the cores over `threads`, on a cluster no limit."""
    threads: int = 1
    """torch threads of each; a run's numbers may depend on it, never on `workers`."""
    cpus: float | None = None
    """Processors that a run asks a cluster for; null asks for `threads`."""
    gpus: float = 0.0
    """GPUs that a run asks a cluster for."""
    address: str | None = None
    """Where the cluster is; null starts one, or takes what the environment names."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the executor's own, as its command-line options name them."""
    folder: Path = Path(".")
    """Where the executor may keep files of its own."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run as an executor takes it."""

    run: str
    """Its name, unique among the runs that are under way."""
    config: Mapping[str, Any]
    """The resolved recipe."""
    folder: Path
    """Where it lives; wherever it runs, the same folder must be seen."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    run: str
    result: dict[str, Any] | None = None
    """The run's result (see `research.runs.folder.write_result`); None if it did not reach its last step."""
    reason: str = ""
    """Why it failed: one sentence, or a traceback for a fault of the program."""
    stopped: bool = False
    """It was asked to stop, and is at a checkpoint: given again, it continues."""


def last_line(reason: str) -> str:
    """The last line of why a run failed; of a traceback it is the error."""
    return (reason.strip().splitlines() or ["it failed"])[-1]


class Executor(ABC):
    """Runs cells. A study's loop, or a search's, is: fill the slots, wait, take the outcomes.

        with make_executor("local", resources) as executor:
            while queue or executor.running:
                while queue and executor.free:
                    executor.submit(queue.popleft())
                for outcome in executor.wait(seconds=1.0):
                    ...

    Runs may be submitted at any time. What a run has measured so far is in its folder: `merged_steps(job.folder)`
    (see `research.tracking`) gives its metrics by step while it runs. `stop` ends one run that is not worth its
    while: its outcome has `stopped`, and its folder holds a checkpoint and the metrics up to there.

    A run is executed by one process at a time, whoever asks: a second one waits for the lock of the run's folder, and
    then continues, or finds the run complete.

    Args:
        resources: what runs are given.

    Raises: UserError if the executor cannot be used here.
    """

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.running: dict[str, Job] = {}

    @property
    def free(self) -> bool:
        """Whether another run can be submitted."""
        return self.resources.workers is None or len(self.running) < self.resources.workers

    def submit(self, job: Job) -> None:
        """Start a run, or continue it from its folder's checkpoint."""
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / STOP).unlink(missing_ok=True)
        self.running[job.run] = job
        self._start(job)

    def wait(self, seconds: float) -> list[Outcome]:
        """The outcomes of runs that have ended; waits for the first at most so long."""
        outcomes = self._ended(seconds)
        for outcome in outcomes:
            (self.running.pop(outcome.run).folder / STOP).unlink(missing_ok=True)
        return outcomes

    def stop(self, run: str) -> None:
        """Ask a run to finish its step, write a checkpoint and stop; `wait` gives its outcome."""
        (self.running[run].folder / STOP).touch()

    @abstractmethod
    def _start(self, job: Job) -> None:
        """Have `research.ablation.executors.cell.run_cell` called with the job, somewhere."""

    @abstractmethod
    def _ended(self, seconds: float) -> list[Outcome]:
        """What has ended; a run whose process was lost is started again, or ends with a reason."""

    @abstractmethod
    def close(self) -> None:
        """Stop every run now; each continues from its last checkpoint another time."""

    def __enter__(self) -> "Executor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
