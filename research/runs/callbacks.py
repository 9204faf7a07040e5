"""Lightning callbacks of a run: checkpoints, start-up time, and the copy of its metrics in MLflow."""

from collections.abc import Callable
from pathlib import Path
from time import time

from lightning import Callback, LightningModule, Trainer

from research.training.budget import Spends


class Checkpoints(Callback):
    """Replaces the run's single checkpoint after each `every` steps, and at the end or a stop."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Spends) -> None:
        """Save if a checkpoint is due."""
        if pl_module.steps_done % self.every == 0 or trainer.should_stop:
            trainer.save_checkpoint(self.path)


class StartClock(Callback):
    """Measures the time until a run's first evaluation or step, which goes into imports, loading and set-up.

    Args:
        began: start of the run, in seconds of `time.time`.
    """

    def __init__(self, began: float) -> None:
        self.began, self.seconds = began, 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock at the first evaluation."""
        self.seconds = self.seconds or time() - self.began

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock at the first step, which in a resumed run comes before any evaluation."""
        self.seconds = self.seconds or time() - self.began


class Mirroring(Callback):
    """Calls `mirror` after the first step and after each `every` steps, so that a run can be watched in MLflow."""

    def __init__(self, mirror: Callable[[], None], every: int) -> None:
        self.mirror, self.every, self.begun = mirror, every, False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Spends) -> None:
        """Send new metrics if it is time."""
        if not self.begun or pl_module.steps_done % self.every == 0:
            self.begun = True
            self.mirror()
