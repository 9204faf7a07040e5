"""Make a study's search: ask for values, run them, end what is not worth its while, keep the best."""

from collections.abc import Sequence

import yaml
from filelock import FileLock

from research.ablation.executors import Executor, Job
from research.ablation.interrupts import Interrupts
from research.ablation.outputs import write_csv
from research.ablation.plan import Plan
from research.ablation.records import Runs
from research.ablation.search import FOUND, search_lines, with_found
from research.ablation.search_trials import Search, say
from research.ablation.stores import Stores
from research.tracking import replace_text
from research.training.warm_start import resolve_path


def run_search(plan: Plan, stores: Stores, executor: Executor) -> None:
    """Search what the study searches, and write what is found to `search.yaml` and `search.csv` in its folder.

    A search that was interrupted is continued: trials that are under way are finished with their values, from their
    folders, before others are asked. One process searches at a time; others that join the study wait for it.

    Args:
        plan: the study's plan; it is made again afterwards, with what was found.
        stores: the databases; Optuna's takes a study for each place, MLflow's a child run for each run of a trial.
        executor: what runs the trials; it is closed in the end.

    Raises: UserError if a place has no trial that was completed, or the search was begun with other settings;
        KeyboardInterrupt after Ctrl-C or SIGTERM, as for a study.
    """
    spec = plan.spec.search
    assert spec is not None, "the study searches nothing"
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
            _drive(searches, executor, interrupts)
        found = {search.place.id: search.found for search in searches}
        rows = [row for search in searches for row in search.rows]
        write_csv(plan.folder / "search.csv", rows)
        text = yaml.safe_dump({**spec.record, "found": found}, sort_keys=False, allow_unicode=True)
        replace_text(plan.folder / FOUND, text)


def _drive(searches: Sequence[Search], executor: Executor, interrupts: Interrupts) -> None:
    owners: dict[str, Search] = {}
    while True:
        if interrupts.asked:
            interrupts.once(lambda: _stop(executor))
        while executor.free and not interrupts.asked and (begun := _begin(searches, executor)):
            owners.update(begun)
        if not executor.running:
            break
        for outcome in executor.wait(seconds=1.0):
            owners[outcome.run].end(outcome)
        for search in searches:
            search.mirror()
            for run in search.given_up():
                executor.stop(run)
    if interrupts.asked and not all(search.finished for search in searches):
        raise KeyboardInterrupt


def _stop(executor: Executor) -> None:
    say(
        "stopping: the trials that are under way finish their step and write a checkpoint; once more stops them at once"
    )
    for run in executor.running:
        executor.stop(run)


def _begin(searches: Sequence[Search], executor: Executor) -> dict[str, Search]:
    """Begin a run where the fewest are under way, so that as much as possible is known when values are asked."""
    for search in sorted(searches, key=lambda one: len(one.running)):
        if (run := search.next()) is not None:
            executor.submit(Job(run=run.id, config=dict(run.recipe.config), folder=run.folder.resolve()))
            return {run.id: search}
    return {}
