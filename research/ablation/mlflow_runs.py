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
"""Seconds from one sending of a run's metrics to the next: a sending takes a tenth of a second, however much it has."""


class Runs:
    """MLflow's view of a study: one parent run, and a child for each cell and seed, scheduled before it begins.

    The trials of a study's search are children too, with what each tries, and not in the view that compares the cells.
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
        """Run → MLflow's id of it, for what is scheduled or has begun."""
        self.begun: set[str] = set()
        self.due: dict[str, float] = {}
        """Run → when what it has logged is sent next."""

    def schedule(self, runs: Sequence[Run]) -> None:
        """Let MLflow know what is to come."""
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
        """The child run is running: one that was scheduled, or one that an earlier process began."""
        if run.id not in self.begun:
            self.ids[run.id] = self._child(run, "RUNNING")
            self.begun.add(run.id)

    def mirror(self, run: Run) -> None:
        """Send what the run has logged, now and then, and watch the machine while it runs."""
        self.begin(run)
        self.tracker.watch(self.ids[run.id])
        if monotonic() >= self.due.get(run.id, 0.0):
            self.tracker.mirror(run.folder, self.ids[run.id])
            self.due[run.id] = monotonic() + MIRRORED_EVERY

    def pause(self, run: Run) -> None:
        """Send what the run has logged, and leave it to be continued, here or by another worker."""
        self.begin(run)
        self.tracker.mirror(run.folder, self.ids[run.id])
        self.tracker.unwatch(self.ids[run.id])

    def finish(self, run: Run, status: str, reason: str = "") -> None:
        """Send the rest, keep config, datasets and samples, and end the child run, with the reason if it failed."""
        self.begin(run)
        self.tracker.mirror(run.folder, self.ids[run.id])
        self.tracker.keep(run.folder, self.ids[run.id])
        self.tracker.finish(self.ids[run.id], status, note=reason)

    def finish_study(self, folder: Path, complete: bool) -> None:
        """Keep the report, its tables and its figures with the parent run, and end it."""
        files = sorted([*folder.glob("*.*"), *folder.glob("figures/*"), *folder.glob("tables/*")])
        kept = [path for path in files if path.suffix in (".md", ".html", ".csv", ".tex", ".yaml", ".png")]
        self.tracker.finish(self.parent, "FINISHED" if complete else "FAILED", kept)
