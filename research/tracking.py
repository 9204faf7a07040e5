"""What a run leaves behind: a metrics file that is the truth, and its mirror in MLflow.

A run writes `metrics.jsonl`, one line a step. MLflow is filled from that file, never from the training loop, so it
costs a step nothing, a resumed run logs no step twice, and a lost MLflow database can be filled again.
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from research.errors import UserError

METRICS, ITEMS = "metrics.jsonl", "items.jsonl"
TRAINED, EVALUATED = "time/step_seconds", "evaluation/avg_at_k"
"""The metric that every line of a training step, and of an evaluation, has."""


class RunLogger(Logger):
    """Lightning's logger for a run folder: `metrics.jsonl`, and `items.jsonl` for evaluations item by item.

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

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run folder holds the resolved config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line; a metric that is not finite, as a skipped update's loss, is left out of it."""
        finite = {name: float(value) for name, value in metrics.items() if isfinite(value)}
        self._append(METRICS, {"step": step, **finite})

    @rank_zero_only
    def log_items(self, items: list[dict[str, Any]], step: int) -> None:
        """Append one line with every evaluation item's counts."""
        self._append(ITEMS, {"step": step, "items": items})

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Take out the lines of later steps: a run that resumes at `step` will write them again."""
        for name in (METRICS, ITEMS):
            kept = [line for line in read_lines(self.folder / name) if line["step"] <= step]
            replace_text(self.folder / name, "".join(json.dumps(line) + "\n" for line in kept))

    def _append(self, name: str, line: dict[str, Any]) -> None:
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


class Tracker:
    """One MLflow experiment, with runs found by a name that the harness gives them.

    Args:
        uri: a database (`sqlite:///…`, `postgresql://…`) or a server (`http://…`).
        experiment: its name; made if it is not there.
        artifacts: folder for artifacts of a new experiment on a database; ignored for a server.

    Raises: UserError if the store cannot be reached.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None = None) -> None:
        for noisy in ("alembic", "mlflow.store.db.utils", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        if uri.startswith("file:") or "://" not in uri:
            raise UserError(
                f"MLflow needs a database or a server, not {uri!r}: give sqlite:///FILE.db, postgresql://… or http://…"
            )
        self.uri = uri
        try:
            if uri.startswith("sqlite:///"):
                Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            self.client = MlflowClient(tracking_uri=uri)
            found = self.client.get_experiment_by_name(experiment)
            location = artifacts.resolve().as_uri() if artifacts is not None and not uri.startswith("http") else None
            self.experiment_id = found.experiment_id if found else self.client.create_experiment(experiment, location)
        except (MlflowException, OSError) as error:
            raise UserError(f"cannot use the MLflow store at {uri}: {str(error).splitlines()[0]}") from error
        self._mirrored: dict[str, dict[str, int]] = {}

    def run(
        self,
        key: str,
        *,
        name: str,
        parent: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """The id of the run with this key (a tag holds its digest), made if there is none, its params and tags set."""
        from mlflow.entities import Param, RunTag

        digest = sha256(key.encode()).hexdigest()[:16]
        known: Mapping[str, str] = {}
        found = self.client.search_runs([self.experiment_id], f"tags.`research.key` = '{digest}'", max_results=1)
        if found:
            run_id, known = found[0].info.run_id, found[0].data.params
            self.client.update_run(run_id, status="RUNNING")
        else:
            parents = {"mlflow.parentRunId": parent} if parent else {}
            created = self.client.create_run(
                self.experiment_id, run_name=name, tags={"research.key": digest, **parents}
            )
            run_id = created.info.run_id
        self.client.log_batch(
            run_id,
            params=[Param(key, str(value)[:6000]) for key, value in (params or {}).items() if key not in known],
            tags=[RunTag(key, str(value)[:8000]) for key, value in (tags or {}).items()],
        )
        return run_id

    def mirror(self, folder: Path, run_id: str) -> None:
        """Log the steps of a run folder that MLflow does not have yet."""
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        done = dict(self._last_mirrored(run_id))
        fresh = []
        for line in read_lines(folder / METRICS):
            step, kind = line.pop("step"), EVALUATED if EVALUATED in line else TRAINED
            if step > done[kind]:
                time = int((folder / METRICS).stat().st_mtime * 1000)
                fresh += [Metric(name, value, time, step) for name, value in line.items()]
                done[kind] = step
        try:
            for start in range(0, len(fresh), 1000):
                self.client.log_batch(run_id, metrics=fresh[start : start + 1000])
        except MlflowException as error:
            raise UserError(
                f"MLflow at {self.uri} did not take the metrics: {str(error).splitlines()[0]} "
                "The runs' own files are complete up to their checkpoints; the same command continues."
            ) from error
        self._mirrored[run_id] = done

    def _last_mirrored(self, run_id: str) -> dict[str, int]:
        """The last step of each kind of line: an evaluation's comes after its step's, perhaps from a later process."""
        if run_id not in self._mirrored:
            history = {kind: self.client.get_metric_history(run_id, kind) for kind in (TRAINED, EVALUATED)}
            self._mirrored[run_id] = {
                kind: max((metric.step for metric in metrics), default=-1) for kind, metrics in history.items()
            }
        return self._mirrored[run_id]

    def finish(self, run_id: str, status: str = "FINISHED", artifacts: Iterable[Path] = ()) -> None:
        """End a run, keeping these files as its artifacts."""
        for path in artifacts:
            self.client.log_artifact(run_id, str(path))
        self.client.set_terminated(run_id, status)
