"""A run that is asked to stop: it finishes its step, writes a checkpoint, and ends."""

import signal
import threading
from pathlib import Path
from types import FrameType

from lightning import Callback, LightningModule, Trainer

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""What a scheduler sends before it takes the machine away, and, through submitit, before a job's time is over."""


class StopWhenAsked(Callback):
    """Ends a run after the step in which it is asked to, by a signal or by a file.

    Lightning's own handler of SIGTERM gives up the step; this one is put in its place as training begins.

    Args:
        file: the run is asked to stop by its being there.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.terminated = file, False

    @property
    def asked(self) -> bool:
        """Whether the run is to stop."""
        return self.terminated or self.file.exists()

    def listen(self) -> None:
        """Take SIGTERM and SIGUSR2 for a request; only a process's first thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._terminate)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen during the evaluation of the start, which no step has begun yet."""
        self.listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen during training."""
        self.listen()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if any rank was asked to; the checkpoint is written by the callback that comes last."""
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            trainer.should_stop = True

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True
