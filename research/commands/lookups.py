"""Commands that only look: at a recipe, at what there is to choose from, at MLflow's pages, at this machine."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from research.commands.command import Command
from research.commands.recipes import check_study, checked
from research.commands.terminal import console
from research.commands.tracking import PORT, RESULTS, add_tracking, tracking_uri
from research.errors import UserError
from research.shipped import Shipped, find, shipped
from research.yaml_file import read_yaml


def _resolve_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="+", type=Path, help="a recipe and overlays, or a study and a scale")


def _resolve(known: Namespace, rest: list[str]) -> int:
    if "factors" in read_yaml(find(known.recipe[0], "recipe", "study")):
        return _resolve_study(known)
    config = checked(known.recipe, rest)

    from research.recipe import parse

    print(parse(config).text, end="")
    return 0


def _resolve_study(known: Namespace) -> int:
    from research.ablation.spec import at_scale, read_study

    spec = read_study(find(known.recipe[0], "study"))
    for scale in known.recipe[1:]:
        spec = at_scale(spec, find(scale, "scale"))
    check_study(spec, {})

    from research.ablation.plan import make_plan
    from research.reporting.planning import print_plan

    plan = make_plan(spec, RESULTS / spec.name)
    print_plan(plan, console(), earlier=None, workers=os.cpu_count() or 1)
    return 0


def _recipes_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", type=Path, help="one of them, to be shown whole; default: a line for each")
    parser.add_argument("--copy", action="store_true", help="write the file here, to begin from")


def _recipes(known: Namespace, rest: list[str]) -> int:
    if known.name is None:
        if known.copy:
            raise UserError("--copy goes with the name of a recipe: research recipes dapo --copy")
        console().print(_recipe_table(shipped()))
        return 0
    path = find(known.name, "recipe", "study", "overlay", "scale")
    if not known.copy:
        print(path.read_text(encoding="utf-8"), end="")
        return 0
    copy = Path(path.name)
    if copy.exists():
        raise UserError(f"{copy} exists already: move it away, or go to another folder")
    copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    command = "ablate" if "factors" in read_yaml(path) else "fit"
    print(f"written: {copy}; run it with research {command} {copy}")
    return 0


def _recipe_table(found: Sequence[Shipped]) -> Any:
    from rich.table import Table

    table = Table(box=None, title="recipes, overlays, studies and scales, by the names that commands take", expand=True)
    for column in ("kind", "name", "what it is"):
        table.add_column(column, no_wrap=column != "what it is", ratio=1 if column == "what it is" else None)
    for one in found:
        table.add_row(one.kind, one.name, one.summary.replace("[", r"\["))
    return table


def _components_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="one component, to be shown whole; default: a line for each")


def _components(known: Namespace, rest: list[str]) -> int:
    from research.catalogue import catalogue, find
    from research.commands.components import component_page, component_table
    from research.slots import own_folder

    if known.name is None:
        console().print(component_table(catalogue(own_folder())))
    else:
        print("\n\n".join(component_page(entry) for entry in find(known.name)))
    return 0


def _datasets(known: Namespace, rest: list[str]) -> int:
    from research.prompts.datasets.listing import dataset_table

    console().print(dataset_table())
    return 0


def _ui_arguments(parser: ArgumentParser) -> None:
    add_tracking(parser)
    parser.add_argument("--port", type=int, default=PORT)


def _ui(known: Namespace, rest: list[str]) -> int:
    uri = tracking_uri(known)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise UserError(f"there is no MLflow database at {uri}: run a study or a recipe first, or give --tracking")
    print(f"MLflow on http://127.0.0.1:{known.port} (Ctrl-C ends it)", flush=True)
    arguments = ["ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(known.port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


def _doctor_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="*", type=Path, help="a recipe and overlays: does it fit into memory?")
    parser.add_argument("--memory", metavar="SIZE", help="of the device, such as 24GiB; default: what is here")
    parser.add_argument("--prompt-tokens", type=int, help="of the longest prompt; default: measured on the data")
    parser.add_argument("--task", action="store_true", help="measure the built-in task at its warm start")


def _doctor(known: Namespace, rest: list[str]) -> int:
    if known.recipe:
        return _doctor_recipe(known, rest)
    if rest or known.memory or known.prompt_tokens:
        raise UserError("overrides, --memory and --prompt-tokens go with a recipe: research doctor RECIPE")

    from research.doctor.machine import machine_table
    from research.doctor.task import task_table

    console().print(machine_table())
    if known.task:
        console().print(task_table())
    return 0


def _doctor_recipe(known: Namespace, rest: list[str]) -> int:
    config = checked(known.recipe, rest)

    from research.doctor.memory.advice import advise
    from research.doctor.memory.plan import given_prompts, plan
    from research.doctor.memory.tables import plan_table, refusal
    from research.recipe import parse

    recipe, name = parse(config), " ".join(map(str, known.recipe))
    found = plan(recipe, memory=known.memory, prompts=given_prompts(known.prompt_tokens))
    console().print(plan_table(found, name))
    if not found.fits:
        raise UserError(refusal(name, found, advise(recipe, found, memory=known.memory)))
    return 0


COMMANDS = (
    Command(
        name="resolve",
        text="Print a recipe's complete resolved config, or a study's cells.",
        add_arguments=_resolve_arguments,
        run=_resolve,
        overrides=True,
    ),
    Command(
        name="components",
        text="List every component by its slot, or show one whole: equation, settings, source, example.",
        add_arguments=_components_arguments,
        run=_components,
    ),
    Command(
        name="recipes",
        text="List the recipes and studies that come with the package, show one, or copy it here.",
        add_arguments=_recipes_arguments,
        run=_recipes,
    ),
    Command(name="datasets", text="List the public datasets that a recipe can call by name.", run=_datasets),
    Command(
        name="ui",
        text="Open the MLflow pages on this machine only (127.0.0.1).",
        add_arguments=_ui_arguments,
        run=_ui,
    ),
    Command(
        name="doctor",
        text="Say what this machine has and whether the pieces work together.",
        add_arguments=_doctor_arguments,
        run=_doctor,
        overrides=True,
    ),
)
