"""The command `research`."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from research.errors import UserError

RESULTS = Path("results")
PORT = 5000
"""Of MLflow's pages."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake is one line on standard error and exit status 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    # argparse takes a word with a space in it for a positional one, and a node on the command line has spaces.
    nodes = [word for word in words if re.match(r"--\w+(\.\w+)+=", word)]
    known, rest = parser.parse_known_args([word for word in words if word not in nodes])
    rest += nodes
    if rest and known.command not in ("fit", "ablate", "evaluate", "samples", "resolve", "doctor"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    known.words = words
    try:
        return COMMANDS[known.command](known, rest) or 0
    except UserError as error:
        print(f"research: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("research: interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="research", description="Reinforcement learning with verifiable rewards, and ablations of it."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    tracking = {
        "metavar": "URI",
        "help": "MLflow database or server; default $MLFLOW_TRACKING_URI, or results/mlflow.db",
    }
    fit = command("fit", "Train one recipe; run again to continue. Overrides: --section.key=value.")
    fit.add_argument("recipe", nargs="+", type=Path, help="a recipe, and hardware overlays to lay over it")
    fit.add_argument("--tracking", **tracking)  # pyright: ignore
    fit.add_argument("--threads", type=int, help="torch threads; default: all cores")
    _evaluation_arguments(command)
    ablate = command("ablate", "Run a study until every cell is complete, then write its report.")
    ablate.add_argument("study", type=Path, help="a file under experiments/ablations/")
    ablate.add_argument("scale", type=Path, nargs="?", help="a file under experiments/ablations/scales/")
    ablate.add_argument("--output", type=Path, help="results folder; default results/<study>")
    ablate.add_argument("--workers", type=int, help="cells at once; default: cores over --threads, on a cluster all")
    ablate.add_argument("--executor", default="local", help="where cells run: local (default), ray or slurm")
    ablate.add_argument("--address", help="of a Ray cluster; default: $RAY_ADDRESS, or Ray on this machine")
    ablate.add_argument("--cpus-per-cell", type=float, help="asked of a cluster for each cell; default: --threads")
    ablate.add_argument("--gpus-per-cell", type=float, default=0.0, help="asked of a cluster for each cell; default 0")
    ablate.add_argument("--threads", type=int, default=1, help="torch threads of each process; default 1")
    ablate.add_argument("--seeds", help="instead of the study's, for instance 0,1,2")
    ablate.add_argument("--tracking", **tracking)  # pyright: ignore
    ablate.add_argument("--storage", metavar="URL", help="Optuna database; default results/optuna.db")
    ablate.add_argument(
        "--grace", type=float, default=60.0, help="seconds after which a silent worker's cell is taken over"
    )
    ablate.add_argument("--plan", action="store_true", help="print the cells and comparisons, and run nothing")
    ablate.add_argument("--earlier", type=Path, help="with --plan: a study's results that tell variance and time")
    report = command("report", "Write a study's report and figures again from its results folder.")
    report.add_argument("folder", type=Path, help="results/<study>")
    report.add_argument("--tracking", **tracking)  # pyright: ignore
    resolve = command("resolve", "Print a recipe's complete resolved config, or a study's cells.")
    resolve.add_argument("recipe", nargs="+", type=Path, help="a recipe and overlays, or a study and a scale")
    command("components", "List every component: slot, equation, source, fields.")
    command("datasets", "List the public datasets that a recipe can call by name.")
    ui = command("ui", "Open the MLflow pages on this machine only (127.0.0.1).")
    ui.add_argument("--tracking", **tracking)  # pyright: ignore
    ui.add_argument("--port", type=int, default=PORT)
    doctor = command("doctor", "Say what this machine has and whether the pieces work together.")
    doctor.add_argument("recipe", nargs="*", type=Path, help="a recipe and overlays: does it fit into memory?")
    doctor.add_argument("--memory", metavar="SIZE", help="of the device, such as 24GiB; default: what is here")
    doctor.add_argument("--prompt-tokens", type=int, help="of the longest prompt; default: measured on the data")
    doctor.add_argument("--task", action="store_true", help="measure the built-in task at its warm start")
    return parser


def _evaluation_arguments(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    evaluate = command("evaluate", "Evaluate a run, a recipe's start, or a model, and keep every completion.")
    evaluate.add_argument("target", help="a run folder (@start behind it: its start), a recipe, a model or hub id")
    evaluate.add_argument("--output", type=Path, help="where it is kept; default <run>/evaluations/<protocol>")
    compare = command("compare", "Compare two policies on the same held-out prompts, item by item.")
    compare.add_argument("--before", required=True, help="an evaluation's folder, or what `evaluate` takes")
    compare.add_argument("--after", required=True, help="likewise")
    compare.add_argument("--output", type=Path, help="the page; default runs/comparison.html")
    for one in (evaluate, compare):
        one.add_argument("--recipe", type=Path, help="how to ask a model that comes without one")
        one.add_argument("--protocol", help="a paper's settings: dapo, dr_grpo or sober_look; default the recipe's")
        one.add_argument("--seeds", help="of sampling, as 0,1,2; default the protocol's number, or the recipe's")
    samples = command("samples", "Write a page of groups sampled now, every token coloured by what it is worth.")
    samples.add_argument("target", help="a run folder (@start behind it: its start), a recipe, a model or hub id")
    samples.add_argument("--recipe", type=Path, help="how to ask a model that comes without one")
    samples.add_argument("--prompts", type=int, default=4, help="training prompts to show; default 4")
    samples.add_argument("--seed", type=int, default=0, help="of the prompts and of what is sampled; default 0")
    samples.add_argument("--output", type=Path, help="default <run>/samples.html")


def _fit(known: argparse.Namespace, rest: list[str]) -> int:
    import torch

    from research.config import override, parse, read_recipe
    from research.doctor.refusal import refuse_impossible
    from research.fit import claim, first_rank, fit
    from research.training.progress import StepProgress
    from research.training.run import Mirroring, tracked

    if known.threads:
        torch.set_num_threads(known.threads)
    recipe = parse(override(read_recipe(known.recipe), rest))
    settings = recipe.run_settings()
    name = f"{known.recipe[0].stem}-s{recipe.config['model']['seed']}"
    folder = Path(settings.folder) if settings.folder else Path("runs") / name
    refuse_impossible(recipe)
    claim(recipe, folder)  # before MLflow: a refused run must not touch the record of the run that is there
    if not first_rank():
        fit(recipe, folder)
        return 0
    with tracked(folder, name, _tracking(known, settings.tracking), recipe.config, recipe.digest) as mirror:
        bar, mirroring = StepProgress(name, settings.budget.whole_steps), Mirroring(mirror, settings.checkpoint_every)
        result = fit(recipe, folder, [bar, mirroring])
    _print_metrics(f"{folder}: {result['steps']} steps", result["start"], result["last"])
    return 0


def _evaluate(known: argparse.Namespace, rest: list[str]) -> int:
    from research.evaluate import evaluated, find_target
    from research.fit import first_rank
    from research.reporting.evaluations import evaluation_table

    record, folder = evaluated(
        find_target(known.target, known.recipe),
        protocol=known.protocol,
        seeds=_seeds(known.seeds),
        overrides=rest,
        output=known.output,
    )
    if first_rank():
        _console().print(evaluation_table(record))
        print(f"every completion: {folder}")
    return 0


def _compare(known: argparse.Namespace, rest: list[str]) -> int:
    from research.evaluate import records_of
    from research.evaluation.comparison import compare
    from research.reporting.comparison_page import comparison_page
    from research.reporting.evaluations import comparison_table
    from research.tracking import replace_text

    settings = {"recipe": known.recipe, "protocol": known.protocol, "seeds": _seeds(known.seeds)}
    before, after = records_of(known.before, known.after, **settings)
    comparison = compare(before, after)
    _console().print(comparison_table(comparison, known.before, known.after))
    page = comparison_page(before, after, comparison, command=f"research {shlex.join(known.words)}")
    output = known.output or Path("runs") / "comparison.html"
    replace_text(output, page)
    print(f"pairs of completions: {output}")
    return 0


def _seeds(text: str | None) -> list[int] | None:
    from research.ablation.seeds import check_seeds

    if text is None:
        return None
    seeds = [int(word) if word.strip().isdecimal() else word for word in text.split(",")]
    check_seeds("--seeds", seeds)
    return seeds  # pyright: ignore[reportReturnType]


def _samples(known: argparse.Namespace, rest: list[str]) -> int:
    from research.config import override, parse
    from research.evaluate import START, find_target
    from research.fit import first_rank
    from research.reporting.sample_page import samples_table, write_page
    from research.reporting.samples import draw_samples

    if known.prompts < 1:
        raise UserError(f"--prompts is at least 1, got {known.prompts}")
    target = find_target(known.target, known.recipe)
    recipe, run = parse(override(target.config, rest)), target.folder.parent
    samples = draw_samples(recipe, run, target.checkpoint, prompts=known.prompts, seed=known.seed)
    if not first_rank():
        return 0
    output = known.output or run / f"samples{'-start' if target.name.endswith(START) else ''}.html"
    command = f"research {shlex.join(known.words)}"
    write_page(samples, output, name=target.name, digest=recipe.digest, seed=known.seed, command=command)
    _console().print(samples_table(samples))
    print(f"page: {output}")
    return 0


def _ablate(known: argparse.Namespace, rest: list[str]) -> int:
    from dataclasses import replace

    from research.ablation.executors import Resources, make_executor
    from research.ablation.plan import make_plan
    from research.ablation.spec import at_scale, read_study
    from research.ablation.stores import Stores
    from research.ablation.study import run_study
    from research.reporting import terminal_table, write_report
    from research.tracking import without_password

    spec = read_study(known.study)
    if known.scale is not None:
        spec = at_scale(spec, known.scale)
    for name in ("workers", "threads", "grace"):
        if (count := getattr(known, name)) is not None and count < 1:
            raise UserError(f"--{name} is at least 1, got {count}")
    if known.seeds is not None:
        spec = replace(spec, seeds=_seeds(known.seeds))
    folder = known.output or RESULTS / spec.name
    overrides = _overrides(rest)
    options = {name: overrides.pop(f"{known.executor}.{name}") for name in _below(known.executor, overrides)}
    plan = make_plan(spec, folder, overrides)
    if known.plan:
        _print_plan(plan, known.earlier, known.workers)
        return 0
    home = folder.parent
    stores = Stores(
        mlflow=_tracking(known, None, home),
        optuna=known.storage or f"sqlite:///{home / 'optuna.db'}",
        artifacts=home / "mlartifacts",
        grace=known.grace,
    )
    resources = Resources(
        workers=known.workers,
        threads=known.threads,
        cpus=known.cpus_per_cell,
        gpus=known.gpus_per_cell,
        address=known.address,
        options=options,
        folder=folder / "cells",
    )
    if spec.search is not None and not plan.spec.found:
        from research.ablation.searching import run_search

        run_search(plan, stores, make_executor(known.executor, resources))
        plan = make_plan(spec, folder, overrides)
    executor = make_executor(known.executor, resources)
    missing = run_study(plan, stores, executor, command=without_password(f"research {shlex.join(known.words)}"))
    from research.ablation.records import Runs

    with stores.alone(folder.name):
        report = write_report(folder, tracking=stores.mlflow)
        runs = Runs(plan, stores.mlflow, stores.artifacts)
        runs.finish_study(folder, complete=not missing)
    _console().print(terminal_table(folder))
    print(f"report: {report}\nfigures: {folder / 'figures'}\nMLflow: {_compare_page(runs.view, known)}")
    for run, reason in missing.items():
        print(f"research: run {run} is missing after two attempts: {reason.strip().splitlines()[-1]}", file=sys.stderr)
    return 1 if missing else 0


def _compare_page(view: str, known: argparse.Namespace) -> str:
    """Where the study's cells stand side by side; a database has pages once `research ui` runs."""
    if view.startswith("http"):
        return view
    tracking = f" --tracking {shlex.quote(known.tracking)}" if known.tracking else ""
    return f"research ui{tracking}, then http://127.0.0.1:{PORT}{view}"


def _below(section: str, overrides: dict[str, Any]) -> list[str]:
    return [path.removeprefix(f"{section}.") for path in overrides if path.startswith(f"{section}.")]


def _overrides(rest: Sequence[str]) -> dict[str, Any]:
    from research.config import override

    flat: dict[str, Any] = {}

    def walk(node: dict[str, Any], path: str) -> None:
        for key, value in node.items():
            at = f"{path}.{key}" if path else key
            walk(value, at) if isinstance(value, dict) else flat.__setitem__(at, value)

    walk(override({}, rest), "")
    return flat


def _print_plan(plan: Any, earlier: Path | None = None, workers: int | None = None) -> None:
    from research.reporting.planning import print_plan

    if earlier is not None and not (earlier / "study.yaml").exists():
        raise UserError(f"--earlier names {earlier}, which is not the results folder of a study")
    print_plan(plan, _console(), earlier=earlier, workers=workers or os.cpu_count() or 1)


def _report(known: argparse.Namespace, rest: list[str]) -> int:
    from research.reporting import terminal_table, write_report

    report = write_report(known.folder, tracking=_tracking(known, None))
    _console().print(terminal_table(known.folder))
    print(f"report: {report} and {report.with_suffix('.html').name}")
    return 0


def _resolve(known: argparse.Namespace, rest: list[str]) -> int:
    from research.ablation.plan import make_plan
    from research.ablation.spec import at_scale, read_study
    from research.config import override, parse, read_recipe, read_yaml

    if "factors" in read_yaml(known.recipe[0]):
        spec = read_study(known.recipe[0])
        for scale in known.recipe[1:]:
            spec = at_scale(spec, scale)
        _print_plan(make_plan(spec, RESULTS / spec.name))
    else:
        print(parse(override(read_recipe(known.recipe), rest)).text, end="")
    return 0


def _components(known: argparse.Namespace, rest: list[str]) -> int:
    from research.components import component_table

    _console().print(component_table())
    return 0


def _datasets(known: argparse.Namespace, rest: list[str]) -> int:
    from research.prompts.listing import dataset_table

    _console().print(dataset_table())
    return 0


def _ui(known: argparse.Namespace, rest: list[str]) -> int:
    uri = _tracking(known, None)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise UserError(f"there is no MLflow database at {uri}: run a study or a recipe first, or give --tracking")
    print(f"MLflow on http://127.0.0.1:{known.port} (Ctrl-C ends it)", flush=True)
    arguments = ["ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(known.port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


def _doctor(known: argparse.Namespace, rest: list[str]) -> int:
    from research.doctor.machine import machine_table
    from research.doctor.task import task_table

    if known.recipe:
        return _doctor_recipe(known, rest)
    if rest or known.memory or known.prompt_tokens:
        raise UserError("overrides, --memory and --prompt-tokens go with a recipe: research doctor RECIPE")
    _console().print(machine_table())
    if known.task:
        _console().print(task_table())
    return 0


def _doctor_recipe(known: argparse.Namespace, rest: list[str]) -> int:
    from research.config import override, parse, read_recipe
    from research.doctor.advice import advise
    from research.doctor.plan import given_prompts, plan
    from research.doctor.tables import plan_table, refusal

    recipe, name = parse(override(read_recipe(known.recipe), rest)), " ".join(map(str, known.recipe))
    found = plan(recipe, memory=known.memory, prompts=given_prompts(known.prompt_tokens))
    _console().print(plan_table(found, name))
    if not found.fits:
        raise UserError(refusal(name, found, advise(recipe, found, memory=known.memory)))
    return 0


def _tracking(known: argparse.Namespace, recipe: str | None, home: Path = RESULTS) -> str:
    return known.tracking or recipe or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140)


def _print_metrics(title: str, start: dict[str, float], last: dict[str, float]) -> None:
    from rich.table import Table

    table = Table(title=title)
    table.add_column("metric")
    for column in ("start", "end") if start else ("value",):
        table.add_column(column, justify="right")
    for name, value in last.items():
        if name.startswith(("evaluation/", "cost/")):
            first = f"{start[name]:.3f}" if name in start else ""
            table.add_row(
                name, *([first] if start else []), f"{value:.3f}" if name.startswith("evaluation/") else f"{value:,.0f}"
            )
    _console().print(table)


COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {
    "fit": _fit,
    "evaluate": _evaluate,
    "compare": _compare,
    "samples": _samples,
    "ablate": _ablate,
    "report": _report,
    "resolve": _resolve,
    "components": _components,
    "datasets": _datasets,
    "ui": _ui,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
