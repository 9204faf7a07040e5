"""Commands about a policy: train it, evaluate it, compare it with another, see what it writes."""

import json
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

from research.commands.command import Command
from research.commands.ending import ending_table, next_steps
from research.commands.recipes import check_target, checked, found, say, with_steps
from research.commands.terminal import command_line, console
from research.commands.tracking import add_tracking, tracking_uri
from research.errors import UserError
from research.recipe_file import override


def _fit_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="+", type=Path, help="a recipe, by path or name, and overlays to lay over it")
    add_tracking(parser)
    parser.add_argument("--steps", type=int, help="length of the run; its last step is evaluated")
    parser.add_argument("--threads", type=int, help="torch threads; default: all cores")


def _fit(known: Namespace, rest: list[str]) -> int:
    config = checked(known.recipe, rest)
    steps = with_steps(config, known.steps)
    config = override(config, [f"--{path}={json.dumps(value)}" for path, value in steps.items()])
    name = f"{found(known.recipe)[0].stem}-s{config['model'].get('seed', 0)}"
    folder = Path(config["run"].get("folder") or Path("runs") / name)
    say(f"{' '.join(map(str, known.recipe))}: trained in {folder}")

    import torch

    from research.doctor.memory.refusal import refuse_impossible
    from research.recipe import parse
    from research.runs.callbacks import Mirroring
    from research.runs.fit import first_rank, fit
    from research.runs.folder import claim
    from research.runs.tracked import tracked
    from research.training.progress import StepProgress
    from research.training.trainer_section import require_device

    if known.threads:
        torch.set_num_threads(known.threads)
    recipe = parse(config)
    settings = recipe.run_settings()
    require_device(recipe.config["trainer"])
    refuse_impossible(recipe)
    claim(recipe, folder)  # before MLflow: a refused run must not touch the record of the run that is there
    if not first_rank():
        fit(recipe, folder)
        return 0
    with tracked(folder, name, tracking_uri(known, settings.tracking), recipe.config, recipe.digest) as mirror:
        bar, mirroring = StepProgress(name, settings.budget.whole_steps), Mirroring(mirror, settings.checkpoint_every)
        result = fit(recipe, folder, [bar, mirroring])
    console().print(ending_table(folder, result))
    tracking = f" --tracking {shlex.quote(known.tracking)}" if known.tracking else ""
    print(next_steps(folder, f"research ui{tracking}"))
    return 0


def _add_target(parser: ArgumentParser) -> None:
    parser.add_argument("target", help="a run folder (@start behind it: its start), a recipe, a model or hub id")


def _add_recipe(parser: ArgumentParser) -> None:
    parser.add_argument("--recipe", type=Path, help="how to ask a model that comes without one")


def _add_sampling(parser: ArgumentParser) -> None:
    _add_recipe(parser)
    parser.add_argument("--protocol", help="a paper's settings: dapo, dr_grpo or sober_look; default the recipe's")
    parser.add_argument("--seeds", help="of sampling, as 0,1,2; default the protocol's number, or the recipe's")


def _seeds(known: Namespace) -> list[int] | None:
    from research.ablation.seeds import read_seeds

    return None if known.seeds is None else read_seeds("--seeds", known.seeds)


def _evaluate_arguments(parser: ArgumentParser) -> None:
    _add_target(parser)
    parser.add_argument("--output", type=Path, help="where it is kept; default <run>/evaluations/<protocol>")
    _add_sampling(parser)


def _evaluate(known: Namespace, rest: list[str]) -> int:
    check_target(known.target, known.recipe, rest)

    from research.reporting.pages.evaluations import evaluation_table
    from research.runs.evaluate import evaluated, find_target
    from research.runs.fit import first_rank

    record, folder = evaluated(
        find_target(known.target, known.recipe),
        protocol=known.protocol,
        seeds=_seeds(known),
        overrides=rest,
        output=known.output,
    )
    if first_rank():
        console().print(evaluation_table(record))
        print(f"every completion: {folder}")
    return 0


def _compare_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--before", required=True, help="an evaluation's folder, or what `evaluate` takes")
    parser.add_argument("--after", required=True, help="likewise")
    parser.add_argument("--output", type=Path, help="the page; default runs/comparison.html")
    _add_sampling(parser)


def _compare(known: Namespace, rest: list[str]) -> int:
    for target in (known.before, known.after):
        check_target(target, known.recipe, rest)

    from research.evaluation.comparison import compare
    from research.reporting.pages.comparison import comparison_page
    from research.reporting.pages.evaluations import comparison_table
    from research.runs.evaluate import records_of
    from research.tracking import replace_text

    settings = {"recipe": known.recipe, "protocol": known.protocol, "seeds": _seeds(known)}
    before, after = records_of(known.before, known.after, **settings)
    comparison = compare(before, after)
    console().print(comparison_table(comparison, known.before, known.after))
    page = comparison_page(before, after, comparison, command=command_line(known))
    output = known.output or Path("runs") / "comparison.html"
    replace_text(output, page)
    print(f"pairs of completions: {output}")
    return 0


def _samples_arguments(parser: ArgumentParser) -> None:
    _add_target(parser)
    _add_recipe(parser)
    parser.add_argument("--prompts", type=int, default=4, help="training prompts to show; default 4")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and of what is sampled; default 0")
    parser.add_argument("--output", type=Path, help="default <run>/samples.html")


def _samples(known: Namespace, rest: list[str]) -> int:
    if known.prompts < 1:
        raise UserError(f"--prompts is at least 1, got {known.prompts}")
    check_target(known.target, known.recipe, rest)

    from research.recipe import parse
    from research.recipe_file import override
    from research.reporting.pages.samples.draw import draw_samples
    from research.reporting.pages.samples.page import samples_table, write_page
    from research.runs.evaluate import START, find_target
    from research.runs.fit import first_rank

    target = find_target(known.target, known.recipe)
    recipe, run = parse(override(target.config, rest)), target.folder.parent
    samples = draw_samples(recipe, run, target.checkpoint, prompts=known.prompts, seed=known.seed)
    if not first_rank():
        return 0
    output = known.output or run / f"samples{'-start' if target.name.endswith(START) else ''}.html"
    command = command_line(known)
    write_page(samples, output, name=target.name, digest=recipe.digest, seed=known.seed, command=command)
    console().print(samples_table(samples))
    print(f"page: {output}")
    return 0


COMMANDS = (
    Command(
        name="fit",
        text="Train one recipe; run again to continue. Overrides: --section.key=value.",
        add_arguments=_fit_arguments,
        run=_fit,
        overrides=True,
    ),
    Command(
        name="evaluate",
        text="Evaluate a run, a recipe's start, or a model, and keep every completion.",
        add_arguments=_evaluate_arguments,
        run=_evaluate,
        overrides=True,
    ),
    Command(
        name="compare",
        text="Compare two policies on the same held-out prompts, item by item.",
        add_arguments=_compare_arguments,
        run=_compare,
    ),
    Command(
        name="samples",
        text="Write a page of groups sampled now, every token coloured by what it is worth.",
        add_arguments=_samples_arguments,
        run=_samples,
        overrides=True,
    ),
)
