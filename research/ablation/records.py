"""Where a study's state is kept beside its files: Optuna's trials and MLflow's runs."""

import logging
import warnings
from pathlib import Path
from secrets import token_hex

from research.ablation.plan import Plan, Run
from research.errors import UserError
from research.tracking import Tracker, replace_text
from research.tracking.views import STUDY, compare_view


def identity(folder: Path) -> str:
    """Eight hexadecimal digits that this results folder got when it was new: made again, it is another study."""
    path = folder / "cells" / "identity"
    if not path.exists():
        replace_text(path, token_hex(4))
    return path.read_text()


class Trials:
    """Optuna's view of a study: one trial a run, COMPLETE once, whatever happened in between.

    Args:
        plan: the study's plan.
        storage: a database URL.

    Raises: UserError if the storage cannot be used.
    """

    def __init__(self, plan: Plan, storage: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", module="optuna")
        spec = plan.spec
        try:
            self.study = optuna.create_study(
                study_name=f"{plan.folder.name}-{identity(plan.folder)}",
                storage=storage,
                direction=spec.metric["direction"],  # pyright: ignore[reportArgumentType]
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(seed=0),
            )
        except Exception as error:
            raise UserError(f"cannot use the Optuna storage at {storage}: {str(error).splitlines()[0]}") from error
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {
            **{
                factor: optuna.distributions.CategoricalDistribution(list(levels))
                for factor, levels in spec.factors.items()
            },
            "seed": optuna.distributions.IntDistribution(min(spec.seeds), max(spec.seeds)),
        }
        self.running = optuna.trial.TrialState.RUNNING
        self.failed = optuna.trial.TrialState.FAIL
        self.numbers = {
            t.user_attrs["run"]: t.number
            for t in self.study.trials
            if t.state == self.running and "run" in t.user_attrs
        }
        self.complete = {t.user_attrs["run"] for t in self.study.trials if t.state == optuna.trial.TrialState.COMPLETE}

    def begin(self, run: Run) -> None:
        """A RUNNING trial for the run: the one that a killed study left, or a new one."""
        from optuna.trial import create_trial

        if run.id not in self.numbers and run.id not in self.complete:
            trial = create_trial(
                state=self.running,
                params={**run.cell.levels, "seed": run.seed},
                distributions=self.distributions,
                user_attrs={"run": run.id},
            )
            try:
                self.study.add_trial(trial)  # one transaction: a kill leaves it whole or not at all
            except ValueError as error:
                raise UserError(
                    f"Optuna's study {self.study.study_name!r} has other levels or seeds than this one: {error} "
                    "Give another database with --storage."
                ) from error
            begun = self.study.get_trials(deepcopy=False, states=[self.running])
            self.numbers[run.id] = next(t.number for t in begun if t.user_attrs.get("run") == run.id)

    def finish(self, run: Run, value: float | None) -> None:
        """COMPLETE with the metric's value, or FAIL without one."""
        self.begin(run)
        if run.id in self.complete:
            return
        number = self.numbers.pop(run.id)
        if value is None:
            self.study.tell(number, state=self.failed)
        else:
            self.study.tell(number, value)
            self.complete.add(run.id)


class Runs:
    """MLflow's view of a study: one parent run, and a child for each cell and seed, scheduled before it begins."""

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
        self.ids = {run.id: self._child(run, "SCHEDULED") for run in plan.runs}
        self.begun: set[str] = set()

    def _child(self, run: Run, status: str) -> str:
        return self.tracker.run(
            f"{self.identity}/{run.id}",
            name=run.id,
            parent=self.parent,
            status=status,
            params={**run.cell.levels, "seed": run.seed, "cell": run.cell.label},
            tags={"config_hash": run.recipe.digest, STUDY: self.identity},
        )

    def begin(self, run: Run) -> None:
        """The child run is running: one that was scheduled, or one that an earlier process began."""
        if run.id not in self.begun:
            self._child(run, "RUNNING")
            self.begun.add(run.id)

    def mirror(self, run: Run) -> None:
        """Send what the run has logged since the last time, and watch the machine while it runs."""
        self.begin(run)
        self.tracker.watch(self.ids[run.id])
        self.tracker.mirror(run.folder, self.ids[run.id])

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
