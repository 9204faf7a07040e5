"""The files of a run folder: metrics, evaluation items and sample completions, one line each time."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from research.errors import UserError

METRICS, ITEMS, SAMPLES = "metrics.jsonl", "items.jsonl", "samples.jsonl"


class RunLogger(Logger):
    """Lightning's logger for a run folder: `metrics.jsonl`, `items.jsonl` for evaluations item by item, and
    `samples.jsonl` for some completions of each.

    Of several ranks, which all measure the same, the first one writes.

    Args:
        folder: the run's; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def version(self) -> str:
        """Not used."""
        return ""

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        """Nothing: the run folder holds the resolved config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line; a metric that is not finite, as a skipped update's loss, is left out of it."""
        finite = {name: float(value) for name, value in metrics.items() if isfinite(value)}
        self._append(METRICS, {"step": step, **finite})

    @rank_zero_only
    def log_items(self, items: Sequence[Mapping[str, object]], step: int) -> None:
        """Append one line with every evaluation item's counts."""
        self._append(ITEMS, {"step": step, "items": items})

    @rank_zero_only
    def log_samples(self, samples: Sequence[Mapping[str, object]], step: int) -> None:
        """Append one line with some completions of an evaluation."""
        self._append(SAMPLES, {"step": step, "samples": samples})

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Take out the lines of later steps: a run that resumes at `step` will write them again."""
        for name in (METRICS, ITEMS, SAMPLES):
            kept = [line for line in read_lines(self.folder / name) if line["step"] <= step]
            replace_text(self.folder / name, "".join(json.dumps(line) + "\n" for line in kept))

    def _append(self, name: str, line: Mapping[str, object]) -> None:
        path = self.folder / name
        try:
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror}. The last checkpoint is intact; "
                "free some space, then run the same command to continue."
            ) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file; a last line that was cut by a kill is left out, a missing file has none."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def merged_steps(folder: Path) -> dict[int, dict[str, float]]:
    """A run's metrics by step: a training line and an evaluation line of one step become one."""
    steps: dict[int, dict[str, float]] = {}
    for line in read_lines(folder / METRICS):
        step = line.pop("step")
        steps.setdefault(step, {}).update(line)
    return dict(sorted(steps.items()))


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises: UserError if the disk or the folder does not allow it; the old file is then untouched.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise UserError(
            f"cannot write {path}: {error.strerror}. Give a folder that can be written to, with free space."
        ) from error
