"""Training in a run's folder: from its start, from its checkpoint, or from the last step of another run."""

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


def train(trainer: Trainer, module: RLModule, data: PromptData, folder: Path, before: Path | None = None) -> None:
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


def go_on(trainer: Trainer, module: RLModule, folder: Path, before: Path) -> None:
    """Count on from the last step of another run, whose metrics and items become the first of this one.

    Raises: UserError if that run has spent this one's budget.
    """
    steps = merged_steps(before)
    module.steps_done = max(steps)
    module.costs.totals |= {name: value for name, value in steps[max(steps)].items() if name.startswith("cost/")}
    watch_of(trainer).seconds = summed_times(steps.values())["time/step_seconds"]
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


def _steps_in(trainer: Trainer, checkpoint: Path) -> int:
    state = trainer.strategy.checkpoint_io.load_checkpoint(checkpoint)
    if "research" not in state:
        raise UserError(f"{checkpoint} was not written by a run of this program, so it cannot be resumed")
    return state["research"]["steps_done"]
