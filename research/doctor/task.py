"""The built-in task at its warm start, and the weakness there that each of DAPO's tricks is meant to fix."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from rich.table import Table

from research.errors import UserError
from research.recipe import instantiate, parse
from research.recipe_file import read_recipe
from research.runs.train import trainer_settings
from research.types import Group

GROUPS = 64
"""Number of groups that the task is measured on."""


def task_table(recipe: Path = Path("experiments/grpo.yaml")) -> Table:
    """The weaknesses that DAPO's tricks are meant to fix, measured now on training prompts at the warm start.

    Raises: UserError if the recipe does not exist.
    """
    if not recipe.exists():
        raise UserError(f"{recipe} is not here: run `research doctor --task` in the project's folder")
    checked = parse(read_recipe([recipe]))
    module, data, trainer = instantiate(checked, **trainer_settings(checked.run_settings(), Path("."), []))
    module.trainer = trainer
    data.setup()
    module.setup("fit")
    assert data.stream is not None, "setup makes the stream"
    groups = module.sample(data.stream.draw(GROUPS), 0)
    table = Table(
        title=f"the built-in task at its warm start: {GROUPS} groups of {module.rollouts.completions_per_prompt}"
    )
    for column in ("", "measured", "meant to be", "what it gives to fix"):
        table.add_column(column)
    for row in task_rows(groups, module.updates.epochs * module.updates.minibatches):
        table.add_row(*row)
    return table


def task_rows(groups: Sequence[Group], updates: int) -> list[tuple[str, str, str, str]]:
    """Name, value, target, and the trick that needs it."""
    completions = [completion for group in groups for completion in group.completions]
    lengths = sorted(len(completion.token_ids) for completion in completions)
    low, high = lengths[len(lengths) // 20], lengths[-1 - len(lengths) // 20]
    return [
        ("sampled accuracy", f"{fmean(r for g in groups for r in g.right):.1%}", "20–40 %", "everything"),
        ("truncated", f"{fmean(c.truncated for c in completions):.1%}", "10–20 %", "overlong filtering and punishment"),
        (
            "zero-variance groups",
            f"{fmean(min(g.outcomes) == max(g.outcomes) for g in groups):.1%}",
            "at least 20 %",
            "dynamic sampling",
        ),
        ("length, 5th to 95th percentile", f"{low} to {high} tokens", "threefold", "token-level loss"),
        ("optimizer steps per rollout batch", str(updates), "several", "clip-higher"),
    ]
