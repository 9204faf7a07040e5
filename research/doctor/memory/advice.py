"""What to change in a recipe that does not fit, found by estimating the changed recipe."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from research.doctor.memory.estimate import estimate_kept
from research.doctor.memory.plan import Plan, Prompts, plan, workload
from research.recipe import Recipe
from research.recipe_file import override

CHECKPOINTING = "--model.policy.gradient_checkpointing=true"
NO_REFERENCE = "--model.objective.kl={class_path: NoKL}"
ADAPTERS = "--model.policy.lora={rank: 32, alpha: 64.0}"
HALF = ("--model.policy.precision=bfloat16", "--model.policy.weights=bfloat16")
QUARTER = ("--model.policy.precision=bfloat16", "--model.policy.weights=4bit")


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Overrides with which a recipe fits."""

    words: tuple[str, ...]
    plan: Plan
    """The changed recipe."""

    @property
    def learns_the_same(self) -> bool:
        """Whether only speed changes: what is trained, and on which objective, stays."""
        return not {NO_REFERENCE, ADAPTERS, *HALF, *QUARTER} & set(self.words)


def advise(recipe: Recipe, current: Plan, *, memory: str | None = None) -> Advice | None:
    """The least change with which the recipe fits; None if none of those that are known helps.

    Tried in this order, each on top of the last: smaller batches; activations computed again on the way back; no
    reference, if the KL penalty of the objective is all that reads it; adapters on a bfloat16 base; on a 4-bit one.
    With each, the batches are the largest that fit.
    """
    for words in _changes(recipe, current):
        if _keeps_too_much(recipe, words, memory, current.prompts):
            continue
        changed = _replan(recipe, words, memory, current.prompts) if words else current
        found = _with_sizes(recipe, words, changed, memory)
        if found is not None:
            return found
    return None


def _changes(recipe: Recipe, current: Plan) -> Iterator[list[str]]:
    module = current.work.module
    words: list[str] = []
    yield words
    if not module.spec.gradient_checkpointing:
        words = [*words, CHECKPOINTING]
        yield words
    if module.spec.lora is None and module.iterations is None:
        readers = [part for part in (*module.rewards.shaping, *module.rewards.tokens) if "ref_logprobs" in part.needs()]
        if "ref_logprobs" in module.objective.kl.needs() and not readers:
            yield [*words, NO_REFERENCE]
        words = [*words, ADAPTERS]
    if ADAPTERS in words or module.spec.lora is not None:
        if module.spec.weights == "float32":
            yield [*words, *HALF]
        if module.spec.weights != "4bit" and current.work.device.cuda:
            yield [*words, *QUARTER]


def _replan(recipe: Recipe, words: Sequence[str], memory: str | None, prompts: Prompts) -> Plan:
    return plan(_changed(recipe, words), memory=memory, prompts=prompts)


def _changed(recipe: Recipe, words: Sequence[str]) -> Recipe:
    """The resolved recipe with overrides; it is checked when its parts are made."""
    return Recipe(config=override(recipe.config, words))


def _keeps_too_much(recipe: Recipe, words: Sequence[str], memory: str | None, prompts: Prompts) -> bool:
    """Whether no batch is small enough, because weights, gradients and moments alone are too much."""
    work, _ = workload(_changed(recipe, words), memory=memory, prompts=prompts)
    return work.device.memory is not None and estimate_kept(work).peak > work.device.memory


def _with_sizes(recipe: Recipe, words: list[str], changed: Plan, memory: str | None) -> Advice | None:
    """The largest batches that fit beside the rest, no larger than the recipe's."""
    limit, work = changed.work.device.memory, changed.work
    assert limit is not None, "what has no limit fits"
    group = max(work.module.rollouts.completions_per_prompt, work.module.evaluation.completions_per_prompt)
    groups = max((shape.rows for shape in work.samplings), default=0) // group
    for phase, name, unit, most in (
        ("update", "--model.updates.micro_batch_tokens", work.width, work.micro_batch.rows),
        ("sampling", "--model.rollouts.sampler.init_args.max_rows", group, groups),
    ):
        most_needed = getattr(changed.estimate, phase)
        if most_needed <= limit:
            continue

        def need(count: int, phase: str = phase, name: str = name, unit: int = unit, words: list = words) -> int:
            replanned = _replan(recipe, [*words, f"{name}={count * unit}"], memory, changed.prompts)
            return getattr(replanned.estimate, phase)

        count = _largest(need, most, most_needed, limit)
        if count is None:
            return None
        words = [*words, f"{name}={count * unit}"]
    found = _replan(recipe, words, memory, changed.prompts) if words else changed
    return Advice(words=tuple(words), plan=found) if found.fits else None


def _largest(need: Callable[[int], int], most: int, most_needed: int, limit: int) -> int | None:
    """A count whose need is within the limit, near the largest; None if not even 1 is.

    Tried first is where a straight line from the need of 1 to that of `most` crosses the limit. Needs are mostly sums
    that grow evenly and the largest of such, which lie below the line; where they do not, a fifth less is tried.

    Example:
        >>> _largest(lambda count: 100 * count, 10, 1000, 550)
        5
    """
    if most < 1 or (least := need(1)) > limit:
        return None
    count = 1 + int((most - 1) * (limit - least) / (most_needed - least))
    while count > 1 and need(count) > limit:
        count = int(0.8 * count)
    return max(1, count)
