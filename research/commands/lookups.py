"""Commands that only look: at a recipe, at what there is to choose from, at MLflow's pages, at this machine."""

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from research.commands.command import Command
from research.commands.terminal import console
from research.commands.tracking import PORT, RESULTS, add_tracking, tracking_uri
from research.errors import UserError


def _resolve_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="+", type=Path, help="a recipe and overlays, or a study and a scale")


def _resolve(known: Namespace, rest: list[str]) -> int:
    from research.ablation.plan import make_plan
    from research.ablation.spec import at_scale, read_study
    from research.recipe import parse
    from research.recipe_file import override, read_recipe
    from research.reporting.planning import print_plan
    from research.yaml_file import read_yaml

    if "factors" in read_yaml(known.recipe[0]):
        spec = read_study(known.recipe[0])
        for scale in known.recipe[1:]:
            spec = at_scale(spec, scale)
        plan = make_plan(spec, RESULTS / spec.name)
        print_plan(plan, console(), earlier=None, workers=os.cpu_count() or 1)
    else:
        print(parse(override(read_recipe(known.recipe), rest)).text, end="")
    return 0


def _components(known: Namespace, rest: list[str]) -> int:
    from research.catalogue import component_table

    console().print(component_table())
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
    from research.doctor.machine import machine_table
    from research.doctor.task import task_table

    if known.recipe:
        return _doctor_recipe(known, rest)
    if rest or known.memory or known.prompt_tokens:
        raise UserError("overrides, --memory and --prompt-tokens go with a recipe: research doctor RECIPE")
    console().print(machine_table())
    if known.task:
        console().print(task_table())
    return 0


def _doctor_recipe(known: Namespace, rest: list[str]) -> int:
    from research.doctor.memory.advice import advise
    from research.doctor.memory.plan import given_prompts, plan
    from research.doctor.memory.tables import plan_table, refusal
    from research.recipe import parse
    from research.recipe_file import override, read_recipe

    recipe, name = parse(override(read_recipe(known.recipe), rest)), " ".join(map(str, known.recipe))
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
    Command(name="components", text="List every component: slot, equation, source, fields.", run=_components),
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
