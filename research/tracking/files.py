"""JSONL files of a run folder: metrics, evaluation items and sample completions."""

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
    """A Lightning logger that writes to a run folder.

    `metrics.jsonl` has a line for each step or evaluation, `items.jsonl` the results of each evaluation's items, and
    `samples.jsonl` some completions of each evaluation. All ranks have the same values, and the first one writes them.

    Args:
        folder: of the run; created if it is missing.
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
        """An empty string: a run folder has no versions."""
        return ""

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        """Do nothing, because the run folder holds the resolved recipe."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line, without metrics that are not finite, such as the loss of a skipped update."""
        finite = {name: float(value) for name, value in metrics.items() if isfinite(value)}
        self._append(METRICS, {"step": step, **finite})

    @rank_zero_only
    def log_items(self, items: Sequence[Mapping[str, object]], step: int) -> None:
        """Append one line with the counts of each evaluation item."""
        self._append(ITEMS, {"step": step, "items": items})

    @rank_zero_only
    def log_samples(self, samples: Sequence[Mapping[str, object]], step: int) -> None:
        """Append one line with some completions of an evaluation."""
        self._append(SAMPLES, {"step": step, "samples": samples})

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Delete the lines of later steps, which a run that resumes at `step` will write again."""
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
    """The lines of a JSONL file, without a last line that a kill has cut; none for a missing file."""
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
    """Metrics of a run by step; the lines of training and evaluation of a step are merged."""
    steps: dict[int, dict[str, float]] = {}
    for line in read_lines(folder / METRICS):
        step = line.pop("step")
        steps.setdefault(step, {}).update(line)
    return dict(sorted(steps.items()))


def replace_text(path: Path, text: str) -> None:
    """Write a file of text completely or not at all.

    Raises: UserError if it cannot be written; the old file is then unchanged.
    """
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file completely or not at all.

    Raises: UserError if it cannot be written; the old file is then unchanged.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise UserError(
            f"cannot write {path}: {error.strerror}. Give a folder that can be written to, with free space."
        ) from error
