"""Client of MLflow that copies the files of run folders to it."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from research.errors import UserError
from research.tracking.contents import CONFIG, TABLE, dataset_inputs, sample_columns
from research.tracking.databases import check_uri, connect, lay_tables, without_password
from research.tracking.files import METRICS, read_lines

TRAINED, EVALUATED = "time/step_seconds", "evaluation/avg_at_k"
"""Metrics by which the lines of training steps and of evaluations are told apart."""
MOST_PARAMS = 100
"""Most parameters that MLflow accepts in one call."""


class Tracker:
    """An MLflow experiment, whose runs are found again by keys.

    Args:
        uri: a database (`sqlite:///…`, `postgresql://…`) or a server (`http://…`).
        experiment: name of the experiment, which is created if it is missing.
        artifacts: folder for artifacts of a new experiment in a database; a server has its own.

    Raises: UserError if the store cannot be used.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None = None) -> None:
        check_uri(uri)
        for noisy in ("alembic", "mlflow.store.db.utils", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self.uri = uri
        try:
            if uri.startswith("sqlite:///"):
                lay_tables(Path(uri.removeprefix("sqlite:///")))
            elif uri.startswith("postgres"):
                connect(uri).close()
            self.client = MlflowClient(tracking_uri=uri)
            found = self.client.get_experiment_by_name(experiment)
            location = artifacts.resolve().as_uri() if artifacts is not None and not uri.startswith("http") else None
            self.experiment_id = found.experiment_id if found else self.client.create_experiment(experiment, location)
        except (MlflowException, OSError) as error:
            raise UserError(
                f"cannot use the MLflow store at {without_password(uri)}: {str(error).splitlines()[0]}"
            ) from error
        self._mirrored: dict[str, dict[str, int]] = {}
        self._unwatch: dict[str, Callable[[], None]] = {}

    def run(
        self,
        key: str,
        *,
        name: str,
        parent: str | None = None,
        status: str = "RUNNING",
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """The id of the run with this key, which is created if it is missing; status, parameters and tags are set.

        Args:
            key: identifies the run; its hash is kept in a tag.
            name: shown on MLflow's pages.
            parent: id of the parent run.
            status: RUNNING, or SCHEDULED for a run that has not begun, which does not change an existing run.
            params: set once, because MLflow does not allow changes.
            tags: replaced in each call.
        """
        from mlflow.entities import Param, RunTag

        run_id, known = self._found_or_created(key, name, parent, status)
        fresh = [Param(key, str(value)[:6000]) for key, value in (params or {}).items() if key not in known]
        for start in range(0, max(1, len(fresh)), MOST_PARAMS):
            self.client.log_batch(
                run_id,
                params=fresh[start : start + MOST_PARAMS],
                tags=[RunTag(key, str(value)[:8000]) for key, value in (tags or {}).items()],
            )
        return run_id

    def _found_or_created(self, key: str, name: str, parent: str | None, status: str) -> tuple[str, Mapping[str, str]]:
        """The id of the run with this key, and the parameters that it has already."""
        digest = sha256(key.encode()).hexdigest()[:16]
        found = self.client.search_runs([self.experiment_id], f"tags.`research.key` = '{digest}'", max_results=1)
        if found:
            run_id, known = found[0].info.run_id, found[0].data.params
            if status == "RUNNING":
                self.client.update_run(run_id, status=status)
            return run_id, known
        parents = {"mlflow.parentRunId": parent} if parent else {}
        created = self.client.create_run(self.experiment_id, run_name=name, tags={"research.key": digest, **parents})
        if status != "RUNNING":
            self.client.update_run(created.info.run_id, status=status)
        return created.info.run_id, {}

    def mirror(self, folder: Path, run_id: str) -> None:
        """Log the steps of a run folder that are not in MLflow yet.

        Raises: UserError if MLflow refuses them.
        """
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
                f"MLflow at {without_password(self.uri)} did not take the metrics: {str(error).splitlines()[0]} "
                "The runs' own files are complete up to their checkpoints; the same command continues."
            ) from error
        self._mirrored[run_id] = done

    def _last_mirrored(self, run_id: str) -> dict[str, int]:
        """The last logged step, of training lines and of evaluation lines, which are written at different times."""
        if run_id not in self._mirrored:
            history = {kind: self.client.get_metric_history(run_id, kind) for kind in (TRAINED, EVALUATED)}
            self._mirrored[run_id] = {
                kind: max((metric.step for metric in metrics), default=-1) for kind, metrics in history.items()
            }
        return self._mirrored[run_id]

    def watch(self, run_id: str) -> None:
        """Log the load of the machine as `system/…` until `unwatch`; a resumed run continues the series."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
        if run_id not in self._unwatch:
            monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=self.uri)
            monitor.start()
            self._unwatch[run_id] = monitor.finish

    def unwatch(self, run_id: str) -> None:
        """Stop logging the load of the machine."""
        self._unwatch.pop(run_id, lambda: None)()

    def keep(self, folder: Path, run_id: str) -> None:
        """Log the other contents of a run folder: the recipe, the datasets, and a table of completions."""
        if (folder / CONFIG).exists():
            self.client.log_artifact(run_id, str(folder / CONFIG))
        self._keep_datasets(folder, run_id)
        if columns := sample_columns(folder):
            with TemporaryDirectory() as scratch:
                table = Path(scratch) / TABLE
                table.write_text(json.dumps(columns))
                self.client.log_artifact(run_id, str(table))
            self.client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([{"path": TABLE, "type": "table"}]))

    def _keep_datasets(self, folder: Path, run_id: str) -> None:
        from mlflow.entities import Dataset, InputTag
        from mlflow.entities import DatasetInput as Input

        datasets = [
            Input(
                dataset=Dataset(
                    name=each.name, digest=each.digest, source_type="recipe", source=each.source, profile=each.profile
                ),
                tags=[InputTag("mlflow.data.context", each.context)],
            )
            for each in dataset_inputs(folder)
        ]
        if datasets:
            self.client.log_inputs(run_id, datasets)

    def finish(self, run_id: str, status: str = "FINISHED", artifacts: Iterable[Path] = (), note: str = "") -> None:
        """End a run.

        Args:
            run_id: of the run.
            status: FINISHED, FAILED or KILLED.
            artifacts: files that are uploaded.
            note: shown on the page of the run, such as the reason for a failure.
        """
        self.unwatch(run_id)
        for path in artifacts:
            self.client.log_artifact(run_id, str(path))
        if note:
            self.client.set_tag(run_id, "mlflow.note.content", note[:8000])
        self.client.set_terminated(run_id, status)
