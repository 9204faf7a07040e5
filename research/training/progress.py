"""Progress bars on the terminal."""

import logging

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from research.training.budget import Spends, watch_of


def hush_lightning() -> None:
    """Silence all messages of Lightning except errors."""
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def steps_progress(console: Console | None = None) -> Progress:
    """A bar that counts steps, with elapsed and remaining time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class StepProgress(Callback):
    """A bar over the steps of a run, each a Lightning epoch or batch, with the progress-bar metrics beside it.

    Args:
        title: text before the bar.
        total: number of steps; None for a budget of tokens or seconds, whose spent share is then shown in percent.
    """

    def __init__(self, title: str, total: int | None) -> None:
        self.title, self.total = title, total

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar, from the step at which a resumed run continues."""
        self.bar = steps_progress(Console(stderr=True))
        self.bar.start()
        begun = trainer.current_epoch if self.total else self._percent(trainer, pl_module)
        self.row = self.bar.add_task(self.title, total=self.total or 100, completed=begun, note="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Advance by one."""
        note = ", ".join(f"{name} {float(value):.3f}" for name, value in trainer.progress_bar_metrics.items())
        if self.total:
            self.bar.update(self.row, advance=1, note=note)
        else:
            self.bar.update(self.row, completed=self._percent(trainer, pl_module), note=note)

    def _percent(self, trainer: Trainer, module: LightningModule) -> int:
        assert isinstance(module, Spends)
        return min(100, int(100 * watch_of(trainer).share(module)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the bar, and leave it on the terminal."""
        self.bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the bar, so that the terminal stays usable."""
        if hasattr(self, "bar"):
            self.bar.stop()
