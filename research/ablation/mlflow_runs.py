"""MLflow's runs of a study: one for the study, and a child for each of its runs."""

import logging
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from research.ablation.plan import Plan, Run
from research.ablation.stores import identity
from research.tracking import Tracker
from research.tracking.views import SEARCH, STUDY, compare_view

MIRRORED_EVERY = 10.0
"""Seconds between two sendings of a run's metrics; a sending of any size takes about a tenth of a second."""


class Runs:
    """MLflow's runs of a study: a parent, and a child for each cell and seed, scheduled before it begins.

    The runs of a search's trials are children too, with the values that they try; the view that compares the cells
    leaves them out.

    Args:
        plan: the study's plan.
        uri: MLflow's tracking database or server.
        artifacts: folder of MLflow's artifacts.
    """

    def __init__(self, plan: Plan, uri: str, artifacts: Path) -> None:
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        spec, self.identity = plan.spec, identity(plan.folder)
        self.tracker = Tracker(uri, plan.folder.name, artifacts)
        self.view = compare_view(self.tracker, self.identity, spec.metric["name"])
        self.parent = self.tracker.run(
            self.identity,
            name=spec.name,
            tags={
                "question": spec.question,
                "design": spec.design,
                "compare": self.view,
                "mlflow.note.content": f"{spec.question}\n\n[Compare the cells]({self.view})",
            },
        )
        self.ids: dict[str, str] = {}
        """Run → its id in MLflow, once it is scheduled or has begun."""
        self.begun: set[str] = set()
        self.due: dict[str, float] = {}
        """Run → time at which its metrics are sent next."""

    def schedule(self, runs: Sequence[Run]) -> None:
        """Make a child run, not yet begun, for each of these."""
        self.ids |= {run.id: self._child(run, "SCHEDULED") for run in runs}

    def _child(self, run: Run, status: str) -> str:
        return self.tracker.run(
            f"{self.identity}/{run.id}",
            name=run.id,
            parent=self.parent,
            status=status,
            params={**run.cell.levels, **run.tries, "seed": run.seed, "cell": run.cell.label},
            tags={"config_hash": run.recipe.digest, SEARCH if run.tries else STUDY: self.identity},
        )

    def begin(self, run: Run) -> None:
        """Mark a child run as running, even if an earlier process began it."""
        if run.id not in self.begun:
            self.ids[run.id] = self._child(run, "RUNNING")
            self.begun.add(run.id)

    def mirror(self, run: Run) -> None:
        """Send the run's new metrics, if it is time to, and have the machine watched while it runs."""
        self.begin(run)
        self.tracker.watch(self.ids[run.id])
        if monotonic() >= self.due.get(run.id, 0.0):
            self.tracker.mirror(run.folder, self.ids[run.id])
            self.due[run.id] = monotonic() + MIRRORED_EVERY

    def pause(self, run: Run) -> None:
        """Send the run's new metrics, and leave the run to be continued, here or by another worker."""
        self.begin(run)
        self.tracker.mirror(run.folder, self.ids[run.id])
        self.tracker.unwatch(self.ids[run.id])

    def finish(self, run: Run, status: str, reason: str = "") -> None:
        """Send the last metrics, config, datasets and samples, and end the child run, with the reason of a failure."""
        self.begin(run)
        self.tracker.mirror(run.folder, self.ids[run.id])
        self.tracker.keep(run.folder, self.ids[run.id])
        self.tracker.finish(self.ids[run.id], status, note=reason)

    def finish_study(self, folder: Path, complete: bool) -> None:
        """Store the report, its tables and its figures with the parent run, and end that."""
        files = sorted([*folder.glob("*.*"), *folder.glob("figures/*"), *folder.glob("tables/*")])
        kept = [path for path in files if path.suffix in (".md", ".html", ".csv", ".tex", ".yaml", ".svg", ".gz")]
        self.tracker.finish(self.parent, "FINISHED" if complete else "FAILED", kept)
