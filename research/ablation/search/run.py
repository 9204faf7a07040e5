"""Runs a study's search: asks Optuna for values, runs them, prunes bad trials, keeps the best."""

from collections.abc import Sequence

import yaml
from filelock import FileLock

from research.ablation.executors import Executor, Job
from research.ablation.folder.tables import write_csv
from research.ablation.interrupts import Interrupts
from research.ablation.loop import drive
from research.ablation.mlflow_runs import Runs
from research.ablation.plan import Plan
from research.ablation.search.trials import Search, say
from research.ablation.search_places import FOUND, search_lines, with_found
from research.ablation.stores import Stores
from research.tracking import replace_text
from research.training.warm_start.builtin import resolve_path


def run_search(plan: Plan, stores: Stores, executor: Executor) -> None:
    """Make the study's search, and write the values found to `search.yaml` and `search.csv` in its folder.

    An interrupted search is continued: open trials are finished with their values, from their folders, before new ones
    are asked for. One process searches at a time; others that join the study wait for it.

    Args:
        plan: the study's plan; make it again afterwards, with the values found.
        stores: the databases. Optuna's gets a study for each place, MLflow's a child run for each run of a trial.
        executor: runs the trials; it is closed in the end.

    Raises: UserError if no trial of a place was completed, or the search was begun with other settings;
        KeyboardInterrupt after Ctrl-C or SIGTERM, as for a study.
    """
    spec = plan.spec.search
    assert spec is not None, "the study has no search"
    with executor, stores.folder(plan.folder), FileLock(plan.folder / "search" / ".lock"):
        if with_found(plan.spec, plan.cells, plan.searched, plan.folder)[0].found:
            return
        for line in search_lines(plan.spec):
            say(line)
        resolve_path(plan.searched[0].recipe.config["model"]["policy"]["path"])
        parallel = executor.resources.workers != 1
        runs = Runs(plan, stores.mlflow, stores.artifacts)
        with stores.asking_optuna():
            searches = [Search(plan, spec, place, stores, runs, parallel=parallel) for place in plan.searched]
        for search in searches:
            search.catch_up()
        with Interrupts() as interrupts:
            owners: dict[str, Search] = {}
            drive(
                executor,
                interrupts,
                begin=lambda: _begin(searches, owners),
                end=lambda outcome: owners[outcome.run].end(outcome),
                finished=lambda: all(search.finished for search in searches),
                say=say,
                watch=lambda: _watch(searches, executor),
            )
        found = {search.place.id: search.study.found for search in searches}
        rows = [row for search in searches for row in search.study.rows]
        write_csv(plan.folder / "search.csv", rows)
        text = yaml.safe_dump({**spec.record, "found": found}, sort_keys=False, allow_unicode=True)
        replace_text(plan.folder / FOUND, text)


def _begin(searches: Sequence[Search], owners: dict[str, Search]) -> Job | None:
    """Begin a run at the place with the fewest running ones, so that new trials know as many results as possible."""
    for search in sorted(searches, key=lambda one: len(one.running)):
        if (run := search.next()) is not None:
            owners[run.id] = search
            return run.job
    return None


def _watch(searches: Sequence[Search], executor: Executor) -> None:
    for search in searches:
        search.mirror()
        for run in search.given_up():
            executor.stop(run)
