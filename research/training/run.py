"""One run in one folder: start it, or continue it where its last checkpoint stands."""

import json
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from lightning import Callback, Trainer

from research.component import require
from research.errors import UserError
from research.tracking import ITEMS, METRICS, RESULT, SAMPLES, RunLogger, Tracker, merged_steps, replace_text
from research.tracking.contents import flattened
from research.training.budget import Budget, BudgetWatch, watch_of
from research.training.checkpoint import AtomicCheckpointIO
from research.training.memory import peak_bytes
from research.training.progress import hush_lightning

CHECKPOINT = "last.ckpt"
OVERHEAD = "time/overhead_seconds"
BEFORE = "before"
"""The folder, within a run's, of the run that it goes on from."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How long a run is, and how often it looks up. Of several budgets, the one that is spent first ends it."""

    steps: int | None = None
    """Steps: one collect and its updates each; at least 1, or null."""
    tokens: int | None = None
    """Completion tokens processed: those sampled for training plus those trained on (see `tokens_processed`); the run
    ends after the step that reaches them. At least 1, or null."""
    seconds: float | None = None
    """Seconds of training steps, evaluations left out; how many steps they are depends on the machine. Above 0, or
    null."""
    evaluate_every: int
    """Steps between evaluations; the warm start and the last step are always evaluated. At least 1."""
    checkpoint_every: int
    """Steps between checkpoints: what a kill can lose at most. At least 1."""
    folder: str | None = None
    """Where the run lives; null takes runs/<recipe's name>-s<seed>."""
    tracking: str | None = None
    """MLflow's store; null takes $MLFLOW_TRACKING_URI, or results/mlflow.db."""
    save_policy: bool = True
    """Save the final policy and tokenizer as transformers does, in <folder>/policy."""

    def __post_init__(self) -> None:
        for name in ("evaluate_every", "checkpoint_every"):
            require(getattr(self, name) >= 1, f"run.{name} is at least 1, got {getattr(self, name)}")
        require(
            (self.budget.whole_steps or 0) % self.evaluate_every == 0,
            "run.steps is a multiple of run.evaluate_every, so that the last step is evaluated; "
            f"got {self.steps} and {self.evaluate_every}",
        )

    @property
    def budget(self) -> Budget:
        """What ends the run."""
        return Budget(steps=self.steps, tokens=self.tokens, seconds=self.seconds)


class Checkpoints(Callback):
    """Replaces the run's one checkpoint after every `every` steps, the last one and one that it is stopped after."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save, if it is time to."""
        if pl_module.steps_done % self.every == 0 or trainer.should_stop:
            trainer.save_checkpoint(self.path)


class StartClock(Callback):
    """How long it took from the beginning of a run to its first evaluation or step: imports, loading, set-up.

    Args:
        began: seconds of `time.time`.
    """

    def __init__(self, began: float) -> None:
        self.began, self.seconds = began, 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """The first evaluation begins."""
        self.seconds = self.seconds or time() - self.began

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """The first step begins; a resumed run evaluates later."""
        self.seconds = self.seconds or time() - self.began


def is_complete(folder: Path) -> bool:
    """Whether the run in this folder reached its last step."""
    return (folder / RESULT).exists()


class Mirroring(Callback):
    """Calls `mirror` after every `every` steps, so that a run can be watched while it runs."""

    def __init__(self, mirror: Callable[[], None], every: int) -> None:
        self.mirror, self.every = mirror, every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Send what is new, if it is time to."""
        if pl_module.steps_done % self.every == 0:
            self.mirror()


def train(trainer: Trainer, module: Any, data: Any, folder: Path, before: Path | None = None) -> None:
    """Train until the budget is spent, from the folder's checkpoint if it has one.

    Args:
        trainer: with the callbacks of `trainer_settings`.
        module: what is trained.
        data: its prompts.
        folder: the run's.
        before: the folder of the complete run that it goes on from; None for none.

    Raises: UserError if training cannot go on; what was checkpointed stays.
    """
    checkpoint = folder / CHECKPOINT
    with warnings.catch_warnings(), _interruptible():
        warnings.simplefilter("ignore")
        if checkpoint.exists():
            logger = trainer.logger
            assert isinstance(logger, RunLogger)
            logger.forget_after(_steps_in(trainer, checkpoint))
            trainer.fit(module, data, ckpt_path=str(checkpoint), weights_only=False)
        else:
            RunLogger(folder).forget_after(-1)
            if before is None:
                trainer.validate(module, data, verbose=False)
            else:
                go_on(trainer, module, folder, before)
            trainer.fit(module, data)
    if watch_of(trainer).share(module) < 1:
        raise KeyboardInterrupt


def go_on(trainer: Trainer, module: Any, folder: Path, before: Path) -> None:
    """Count on from the last step of another run, whose metrics and items become the first of this one.

    Raises: UserError if that run has spent this one's budget.
    """
    steps = merged_steps(before)
    module.steps_done = max(steps)
    module.costs.totals |= {name: value for name, value in steps[max(steps)].items() if name.startswith("cost/")}
    watch_of(trainer).seconds = _summed_times(steps.values())["time/step_seconds"]
    if watch_of(trainer).share(module) >= 1:
        raise UserError(f"the run before, in {before}, has spent the whole budget of {watch_of(trainer).budget}")
    for name in (METRICS, ITEMS, SAMPLES):
        replace_text(folder / name, (before / name).read_text())


@contextmanager
def _interruptible() -> Iterator[None]:
    """An interrupt stays a KeyboardInterrupt, and the next is heard: Lightning exits, and ignores SIGINT thereafter."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error


def write_result(folder: Path, data: Any, overhead: float) -> dict[str, Any]:
    """Collect the metrics of the warm start and of the last step into `result.json`, which says the run is complete.

    Args:
        folder: the run's.
        data: the module that dealt its prompts.
        overhead: seconds until its first evaluation or step, the last time it was begun.
    """
    steps = merged_steps(folder)
    evaluated = [step for step, metrics in steps.items() if "evaluation/avg_at_k" in metrics]
    result = {
        "steps": max(steps),
        "start": {name: value for name, value in steps[0].items() if name.startswith("evaluation/")},
        "first": {"rewards/reward_mean": steps[1]["rewards/reward_mean"]} if "rewards/reward_mean" in steps[1] else {},
        "last": steps[max(steps)],
        "seconds": {**_summed_times(steps.values()), OVERHEAD: overhead},
        "memory": {"memory/peak_bytes": peak_bytes()},
        "evaluated": evaluated,
        "data_hashes": data.hashes(),
        "data_counts": data.counts,
    }
    replace_text(folder / RESULT, json.dumps(result, indent=2))
    return result


def _summed_times(steps: Iterable[dict[str, float]]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for metrics in steps:
        for name, value in metrics.items():
            if name.startswith("time/"):
                seconds[name] = seconds.get(name, 0.0) + value
    seconds["time/seconds"] = seconds.get("time/step_seconds", 0.0) + seconds.get("time/evaluation_seconds", 0.0)
    return seconds


def _steps_in(trainer: Trainer, checkpoint: Path) -> int:
    state = trainer.strategy.checkpoint_io.load_checkpoint(checkpoint)
    if "research" not in state:
        raise UserError(f"{checkpoint} was not written by a run of this program, so it cannot be resumed")
    return state["research"]["steps_done"]


def trainer_settings(settings: RunSettings, folder: Path, callbacks: list[Callback]) -> dict[str, Any]:
    """What `lightning.Trainer` is given beyond the recipe's own `trainer` section."""
    hush_lightning()
    return {
        "max_epochs": settings.steps or -1,
        "check_val_every_n_epoch": settings.evaluate_every,
        "num_sanity_val_steps": 0,
        "logger": RunLogger(folder),
        "callbacks": [
            *callbacks,
            BudgetWatch(settings.budget),
            Checkpoints(folder / CHECKPOINT, settings.checkpoint_every),
        ],
        "plugins": [AtomicCheckpointIO()],
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }


@contextmanager
def tracked(folder: Path, name: str, uri: str, config: Mapping[str, Any], digest: str) -> Iterator[Callable[[], None]]:
    """Mirror the run in this folder to MLflow when the block ends, however it does; a resumed run keeps its own."""
    tracker = Tracker(uri, "runs", folder.parent / "mlartifacts")
    params = flattened(config)
    run_id = tracker.run(str(folder.resolve()), name=name, params=params, tags={"config_hash": digest})
    tracker.watch(run_id)
    status = "FAILED"
    try:
        yield lambda: tracker.mirror(folder, run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.mirror(folder, run_id)
        tracker.keep(folder, run_id)
        tracker.finish(run_id, status)
