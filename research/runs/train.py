"""Training in a run's folder, from the start, from a checkpoint, or from the last step of another run."""

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from lightning import Callback, Trainer

from research.errors import UserError
from research.prompts import PromptData
from research.runs.callbacks import Checkpoints
from research.runs.folder import CHECKPOINT, summed_times
from research.tracking import ITEMS, METRICS, SAMPLES, RunLogger, merged_steps, replace_text
from research.training.budget import BudgetWatch, watch_of
from research.training.checkpoint import AtomicCheckpointIO
from research.training.module import RLModule
from research.training.progress import hush_lightning
from research.training.resume import run_state_in
from research.training.settings import RunSettings


class TrainerSettings(TypedDict):
    """The arguments of `lightning.Trainer` that a run sets itself."""

    max_epochs: int
    check_val_every_n_epoch: int
    num_sanity_val_steps: int
    logger: RunLogger
    callbacks: list[Callback]
    plugins: list[AtomicCheckpointIO]
    enable_checkpointing: bool
    enable_progress_bar: bool
    enable_model_summary: bool
    use_distributed_sampler: bool


def trainer_settings(settings: RunSettings, folder: Path, callbacks: list[Callback]) -> TrainerSettings:
    """The arguments of `lightning.Trainer` beyond the recipe's `trainer` section."""
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


def train(trainer: Trainer, module: RLModule, data: PromptData, folder: Path, before: Path | None = None) -> None:
    """Train until the budget is spent, from the folder's checkpoint if there is one.

    Args:
        trainer: has the callbacks of `trainer_settings`.
        module: the policy and its training step.
        data: its prompts.
        folder: of the run.
        before: folder of a complete run to continue from; None for none.

    Raises: UserError if training fails, with the checkpoint left intact; KeyboardInterrupt if it was stopped early.
    """
    checkpoint = folder / CHECKPOINT
    with warnings.catch_warnings(), _interruptible():
        warnings.simplefilter("ignore")
        if checkpoint.exists():
            logger = trainer.logger
            assert isinstance(logger, RunLogger)
            logger.forget_after(_steps_in(trainer, checkpoint))
            trainer.fit(module, data, ckpt_path=str(checkpoint), weights_only=True)
        else:
            RunLogger(folder).forget_after(-1)
            if before is None:
                trainer.validate(module, data, verbose=False)
            else:
                go_on(trainer, module, folder, before)
            trainer.fit(module, data)
    if watch_of(trainer).share(module) < 1:
        raise KeyboardInterrupt


def go_on(trainer: Trainer, module: RLModule, folder: Path, before: Path) -> None:
    """Continue the steps and costs of another run, and copy its metrics and items to this one.

    Raises: UserError if that run has spent the budget of this one.
    """
    steps = merged_steps(before)
    module.steps_done = max(steps)
    module.costs.totals |= {name: value for name, value in steps[max(steps)].items() if name.startswith("cost/")}
    watch_of(trainer).seconds = summed_times(steps.values())["time/step_seconds"]
    if watch_of(trainer).share(module) >= 1:
        raise UserError(
            f"the run before, in {before}, has spent the whole budget of {watch_of(trainer).budget}: raise it"
        )
    for name in (METRICS, ITEMS, SAMPLES):
        replace_text(folder / name, (before / name).read_text())


@contextmanager
def _interruptible() -> Iterator[None]:
    """A block that raises KeyboardInterrupt on SIGINT, where Lightning would exit and ignore further signals."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error


def _steps_in(trainer: Trainer, checkpoint: Path) -> int:
    return run_state_in(trainer.strategy.checkpoint_io.load_checkpoint(checkpoint))["steps_done"]
