"""Graceful stop of a run on a signal or a file: it finishes its step, writes a checkpoint and ends."""

import signal
import threading
from pathlib import Path
from types import FrameType

from lightning import Callback, LightningModule, Trainer

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""Signals of a scheduler before it takes the machine away or, through submitit, before a job's time is over."""


class StopWhenAsked(Callback):
    """Ends a run after the current step once a signal arrives or a file exists.

    Lightning's own handler of SIGTERM would abandon the step, so this one replaces it when training begins.

    Args:
        file: requests the stop by its existence.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.terminated = file, False

    @property
    def asked(self) -> bool:
        """True once the run has been asked to stop."""
        return self.terminated or self.file.exists()

    def listen(self) -> None:
        """Handle SIGTERM and SIGUSR2, which Python allows in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._terminate)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen during the evaluation before the first step."""
        self.listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen during training."""
        self.listen()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if any rank was asked to; the checkpoint callback, which comes last, then saves."""
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            trainer.should_stop = True

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True
