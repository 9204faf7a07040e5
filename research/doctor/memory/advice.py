"""Overrides with which a recipe fits into a device, found by estimating the changed recipe."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from research.doctor.memory.estimate import Estimate, estimate_kept
from research.doctor.memory.plan import Plan, Prompts, plan, workload
from research.doctor.memory.workload import Workload
from research.recipe import Recipe
from research.recipe_file import override
from research.training.module import RLModule

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
        """True if the overrides change only the speed, neither the trained parameters nor the objective."""
        return not {NO_REFERENCE, ADAPTERS, *HALF, *QUARTER} & set(self.words)


def advise(recipe: Recipe, current: Plan, *, memory: str | None = None) -> Advice | None:
    """The least change with which the recipe fits; None if no known change is enough.

    The changes in the order in which they are tried:

    1. smaller batches alone;
    2. gradient checkpointing;
    3. no KL penalty, if it is the only reader of the reference model;
    4. adapters on a bfloat16 base;
    5. adapters on a 4-bit base.

    Checkpointing stays in the later ones; adapters make the reference free, so the KL penalty comes back. Each is
    combined with the largest batches that then fit.

    Args:
        recipe: parsed, and too large.
        current: its plan.
        memory: of the device, for instance `24GiB`; None takes the one that is here.
    """
    planner = _Planner(recipe=recipe, memory=memory, prompts=current.prompts)
    for words in _changes(current.work):
        if planner.fits_without_batches(words):
            changed = planner.plan(words) if words else current
            if (advice := _with_batches(planner, words, changed)) is not None:
                return advice
    return None


def _changes(work: Workload) -> Iterator[Sequence[str]]:
    """The overrides of each change, smallest change first; batch sizes are not among them."""
    module, spec = work.module, work.module.spec
    yield []
    checkpointing = [] if spec.gradient_checkpointing else [CHECKPOINTING]
    if checkpointing:
        yield checkpointing
    if spec.lora is not None:
        adapters = checkpointing
    elif module.iterations is None:
        if _only_kl_reads_the_reference(module):
            yield [*checkpointing, NO_REFERENCE]
        adapters = [*checkpointing, ADAPTERS]
    else:
        return
    if spec.weights == "float32":
        yield [*adapters, *HALF]
    if spec.weights != "4bit" and work.device.cuda:
        yield [*adapters, *QUARTER]


def _only_kl_reads_the_reference(module: RLModule) -> bool:
    others = (*module.rewards.shaping, *module.rewards.tokens)
    return "ref_logprobs" in module.objective.kl.needs() and not any("ref_logprobs" in one.needs() for one in others)


@dataclass(frozen=True, kw_only=True)
class _Planner:
    """Plans a recipe with overrides laid over it."""

    recipe: Recipe
    memory: str | None
    prompts: Prompts

    def plan(self, words: Sequence[str]) -> Plan:
        """The plan of the changed recipe."""
        return plan(self._changed(words), memory=self.memory, prompts=self.prompts)

    def fits_without_batches(self, words: Sequence[str]) -> bool:
        """True if weights, gradients and moments alone fit; quick, since no pass is estimated."""
        work, _ = workload(self._changed(words), memory=self.memory, prompts=self.prompts)
        return work.device.memory is None or estimate_kept(work).peak <= work.device.memory

    def _changed(self, words: Sequence[str]) -> Recipe:
        return Recipe(config=override(self.recipe.config, words))  # checked when its parts are made


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """A batch size that decides how much memory one phase of a step needs."""

    option: str
    unit: int
    """The option's value for a batch of 1."""
    most: int
    """The recipe's own batch."""
    need: Callable[[Estimate], int]
    """Bytes at the peak of the phase."""

    def word(self, count: int) -> str:
        """The override that makes the batch so large."""
        return f"{self.option}={count * self.unit}"


def _batches(work: Workload) -> Sequence[_Batch]:
    """The micro-batch of the update in rows, and the sampler's batch in groups."""
    group = max(work.module.rollouts.completions_per_prompt, work.module.evaluation.completions_per_prompt)
    sampled = max((shape.rows for shape in work.samplings), default=0)
    return [
        _Batch(
            option="--model.updates.micro_batch_tokens",
            unit=work.width,
            most=work.micro_batch.rows,
            need=lambda estimate: estimate.update,
        ),
        _Batch(
            option="--model.rollouts.sampler.init_args.max_rows",
            unit=group,
            most=sampled // group,
            need=lambda estimate: estimate.sampling,
        ),
    ]


def _with_batches(planner: _Planner, words: Sequence[str], changed: Plan) -> Advice | None:
    """The change with the largest batches that fit beside it; None if even a batch of 1 is too large.

    Args:
        planner: plans the recipe.
        words: the change.
        changed: the plan of the recipe with the change and with its own batches.
    """
    limit = changed.work.device.memory
    assert limit is not None, "a recipe fits wherever there is no limit"
    for batch in _batches(changed.work):
        if batch.need(changed.estimate) > limit:
            count = _largest_batch(planner, words, batch, changed.estimate, limit)
            if count is None:
                return None
            words = [*words, batch.word(count)]
    found = planner.plan(words) if words else changed
    return Advice(words=tuple(words), plan=found) if found.fits else None


def _largest_batch(planner: _Planner, words: Sequence[str], batch: _Batch, whole: Estimate, limit: int) -> int | None:
    """The largest batch with which the phase stays within the limit; None if a batch of 1 does not."""

    def need(count: int) -> int:
        return batch.need(planner.plan([*words, batch.word(count)]).estimate)

    return _largest(need, batch.most, batch.need(whole), limit)


def _largest(need: Callable[[int], int], most: int, most_needed: int, limit: int) -> int | None:
    """A count whose need is within the limit, close to the largest such count; None if 1 needs more.

    The first guess is where the straight line through the needs of 1 and of `most` crosses the limit. Needs mostly
    grow evenly or slower, so that they lie below the line. Where one lies above it, a fifth less is tried.

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
