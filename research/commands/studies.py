"""Commands about a study: run it, or write its report again."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from research.commands.command import Command
from research.commands.recipes import check_study, say, with_steps
from research.commands.terminal import command_line, console
from research.commands.tracking import RESULTS, add_tracking, compare_page, tracking_uri
from research.errors import UserError
from research.shipped import find
from research.yaml_file import read_yaml


def _ablate_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("study", type=Path, help="a study, by path or name; `research recipes` lists them")
    add("scale", type=Path, nargs="?", help="a scale or an overlay, by path or name")
    add("--output", type=Path, help="results folder; default results/<study>")
    add("--workers", type=int, help="cells at once; default: cores over --threads, on a cluster all")
    add("--executor", default="local", help="where cells run: local (default), ray or slurm")
    add("--address", help="of a Ray cluster; default: $RAY_ADDRESS, or Ray on this machine")
    add("--cpus-per-cell", type=float, help="asked of a cluster for each cell; default: --threads")
    add("--gpus-per-cell", type=float, default=0.0, help="asked of a cluster for each cell; default 0")
    add("--threads", type=int, default=1, help="torch threads of each process; default 1")
    add("--steps", type=int, help="length of every run; its last step is evaluated")
    add("--seeds", help="instead of the study's, for instance 0,1,2")
    add_tracking(parser)
    add("--storage", metavar="URL", help="Optuna database; default results/optuna.db")
    add("--grace", type=float, default=60.0, help="seconds after which a silent worker's cell is taken over")
    add("--accept-unproven", action="store_true", help="go on if the baseline cell does not reproduce the base recipe")
    add("--redo", action="store_true", help="run again what began with other code or data than there is now")
    add("--plan", action="store_true", help="print the cells and comparisons, and run nothing")
    add("--earlier", type=Path, help="with --plan: a study's results that tell variance and time")


def _ablate(known: Namespace, rest: list[str]) -> int:
    spec = _spec(known)
    folder = known.output or RESULTS / spec.name
    overrides = {**_overlaid(known), **with_steps(spec.base_config, known.steps), **_overrides(rest)}
    options = _taken(overrides, known.executor)
    cells = check_study(spec, overrides)
    if not known.plan:
        say(f"{known.study}: {cells} cells at {len(spec.seeds)} seeds, in {folder}")

    from research.ablation.executors import last_line, make_executor
    from research.ablation.plan import make_plan
    from research.ablation.run import run_study
    from research.tracking import without_password

    plan = make_plan(spec, folder, overrides)
    if known.plan:
        _print_plan(plan, known)
        return 0
    stores, resources = _stores(known, folder.parent), _resources(known, options, folder / "cells")
    if spec.search is not None and not plan.spec.found:
        from research.ablation.search.run import run_search

        run_search(plan, stores, make_executor(known.executor, resources))
        plan = make_plan(spec, folder, overrides)
    executor = make_executor(known.executor, resources)
    command = without_password(command_line(known))
    missing = run_study(plan, stores, executor, command=command, accept_unproven=known.accept_unproven, redo=known.redo)
    _report_on(plan, stores, known, complete=not missing)
    for run, reason in missing.items():
        print(f"research: run {run} is missing after two attempts: {last_line(reason)}", file=sys.stderr)
    return 1 if missing else 0


def _spec(known: Namespace) -> Any:
    """The study as the command line asks for it."""
    from dataclasses import replace

    from research.ablation.seeds import read_seeds
    from research.ablation.spec import at_scale, read_study

    spec = read_study(find(known.study, "study"))
    if known.scale is not None and not _overlaid(known):
        spec = at_scale(spec, find(known.scale, "scale"))
    for name in ("workers", "threads", "grace"):
        if (count := getattr(known, name)) is not None and count < 1:
            raise UserError(f"--{name} is at least 1, got {count}")
    return spec if known.seeds is None else replace(spec, seeds=read_seeds("--seeds", known.seeds))


def _overlaid(known: Namespace) -> dict[str, Any]:
    """Path → node of an overlay for recipes that stands in the place of a scale; empty for a scale, or for neither."""
    if known.scale is None:
        return {}
    content = read_yaml(find(known.scale, "scale", "overlay"))
    if not set(content) <= {"model", "data", "trainer", "run"}:
        return {}
    return _flat(content, lambda node: "class_path" not in node)


def _overrides(rest: Sequence[str]) -> dict[str, Any]:
    """Path of a setting → its value, for instance model.seed."""
    from research.recipe_file import override

    return _flat(override({}, rest), lambda node: True)


def _flat(node: dict[str, Any], opens: Callable[[dict[str, Any]], bool], path: str = "") -> dict[str, Any]:
    """Config path → node, for every node that is no mapping or that `opens` leaves whole."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        at = f"{path}.{key}" if path else key
        flat |= _flat(value, opens, at) if isinstance(value, dict) and opens(value) else {at: value}
    return flat


def _taken(overrides: dict[str, Any], section: str) -> dict[str, Any]:
    """The settings below a section, taken out of the overrides."""
    below = [path for path in overrides if path.startswith(f"{section}.")]
    return {path.removeprefix(f"{section}."): overrides.pop(path) for path in below}


def _print_plan(plan: Any, known: Namespace) -> None:
    from research.reporting.planning import print_plan

    earlier = known.earlier
    if earlier is not None and not (earlier / "study.yaml").exists():
        raise UserError(f"--earlier names {earlier}, which is not the results folder of a study")
    print_plan(plan, console(), earlier=earlier, workers=known.workers or os.cpu_count() or 1)


def _stores(known: Namespace, home: Path) -> Any:
    """The databases; in `home`, unless the command line names others."""
    from research.ablation.stores import Stores

    return Stores(
        mlflow=tracking_uri(known, home=home),
        optuna=known.storage or f"sqlite:///{home / 'optuna.db'}",
        artifacts=home / "mlartifacts",
        grace=known.grace,
    )


def _resources(known: Namespace, options: dict[str, Any], cells: Path) -> Any:
    """Resources of a cell, and the folder of the executors' own files."""
    from research.ablation.executors import Resources

    return Resources(
        workers=known.workers,
        threads=known.threads,
        cpus=known.cpus_per_cell,
        gpus=known.gpus_per_cell,
        address=known.address,
        options=options,
        folder=cells,
    )


def _report_on(plan: Any, stores: Any, known: Namespace, *, complete: bool) -> None:
    """Write the study's report, end its record in MLflow, and say where everything is."""
    from research.ablation.mlflow_runs import Runs
    from research.reporting import terminal_table, write_report

    folder = plan.folder
    with stores.alone(folder.name):
        report = write_report(folder, tracking=stores.mlflow)
        runs = Runs(plan, stores.mlflow, stores.artifacts)
        runs.finish_study(folder, complete=complete)
    console().print(terminal_table(folder))
    print(f"report: {report}\nfigures: {folder / 'figures'}\nMLflow: {compare_page(runs.view, known)}")


def _report_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="results/<study>")
    add_tracking(parser)


def _report(known: Namespace, rest: list[str]) -> int:
    if not known.folder.exists():
        raise UserError(f"there is no study folder {known.folder}")

    from research.reporting import terminal_table, write_report

    report = write_report(known.folder, tracking=tracking_uri(known))
    console().print(terminal_table(known.folder))
    print(f"report: {report} and {report.with_suffix('.html').name}")
    return 0


COMMANDS = (
    Command(
        name="ablate",
        text="Run a study until every cell is complete, then write its report.",
        add_arguments=_ablate_arguments,
        run=_ablate,
        overrides=True,
    ),
    Command(
        name="report",
        text="Write a study's report and figures again from its results folder.",
        add_arguments=_report_arguments,
        run=_report,
    ),
)
