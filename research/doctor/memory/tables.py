"""A memory plan as a table, and the sentence for a recipe that does not fit."""

from rich.table import Table

from research.doctor.memory.advice import Advice
from research.doctor.memory.plan import Plan


def gib(size: int) -> str:
    """Bytes in GiB, with two decimals.

    Example:
        >>> gib(3 * 2**29)
        '1.50'
    """
    return f"{size / 2**30:.2f}"


def plan_table(plan: Plan, title: str) -> Table:
    """Every part of the estimate in both phases of a step, the peaks, and the device's memory."""
    estimate, work = plan.estimate, plan.work
    table = Table(title=f"{title}: {estimate.parameters:,} parameters, {estimate.trained:,} trained", show_footer=False)
    table.add_column("GiB on each device" if work.ranks > 1 else "GiB")
    table.add_column("sampling", justify="right")
    table.add_column("update", justify="right")
    table.add_column("")
    for part in estimate.parts:
        table.add_row(part.name, *(gib(size) if size else "" for size in (part.sampling, part.update)), part.note)
    table.add_section()
    table.add_row("peak", gib(estimate.sampling), gib(estimate.update), plan.verdict, style="bold")
    memory = work.device.memory
    table.add_row("memory", *((gib(memory),) * 2 if memory is not None else ("", "")), work.device.name)
    table.add_row("prompt", "", "", f"{plan.prompts.tokens} tokens, {plan.prompts.note}")
    return table


def refusal(name: str, plan: Plan, advice: Advice | None) -> str:
    """The sentence for a recipe that does not fit: what it needs, and the overrides with which it fits."""
    estimate, memory = plan.estimate, plan.work.device.memory
    assert memory is not None, "a recipe fits wherever there is no limit"
    phase = "the update" if estimate.update >= estimate.sampling else "sampling"
    need = f"{name} needs {gib(estimate.peak)} GiB in {phase}, and {plan.work.device.name} has {gib(memory)}"
    if advice is None:
        return f"{need}: no smaller batch, checkpointing or adapter makes it fit; take a smaller model or more memory"
    words = " ".join(f"'{word}'" if " " in word else word for word in advice.words)
    same = "which changes nothing that is learned" if advice.learns_the_same else "which changes what is trained"
    peak = f"{gib(advice.plan.estimate.sampling)} in sampling, {gib(advice.plan.estimate.update)} in the update"
    return f"{need}: it fits with {words} ({peak}), {same}"
