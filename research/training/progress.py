"""Progress on the terminal for anything longer than two seconds."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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
    """One bar over the steps of a run, with the last accuracy beside it; a step is a Lightning epoch or batch.

    Args:
        title: what the bar says.
        total: how many steps there are.
    """

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total = title, total

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar, at the step a resumed run continues from."""
        self.bar = steps_progress(Console(stderr=True))
        self.bar.start()
        self.row = self.bar.add_task(self.title, total=self.total, completed=trainer.current_epoch, note="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance by one."""
        note = ", ".join(f"{name} {float(value):.3f}" for name, value in trainer.progress_bar_metrics.items())
        self.bar.update(self.row, advance=1, note=note)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar."""
        self.bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal usable."""
        if hasattr(self, "bar"):
            self.bar.stop()
