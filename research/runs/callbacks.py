"""Lightning callbacks of a run: checkpoints, the clock of its start, and the mirror in MLflow."""

from collections.abc import Callable
from pathlib import Path
from time import time

from lightning import Callback, LightningModule, Trainer

from research.training.budget import Spends


class Checkpoints(Callback):
    """Replaces the run's one checkpoint after every `every` steps, the last one and one that it is stopped after."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Spends) -> None:
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

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first evaluation begins."""
        self.seconds = self.seconds or time() - self.began

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first step begins; a resumed run evaluates later."""
        self.seconds = self.seconds or time() - self.began


class Mirroring(Callback):
    """Calls `mirror` after every `every` steps, so that a run can be watched while it runs."""

    def __init__(self, mirror: Callable[[], None], every: int) -> None:
        self.mirror, self.every = mirror, every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Spends) -> None:
        """Send what is new, if it is time to."""
        if pl_module.steps_done % self.every == 0:
            self.mirror()
