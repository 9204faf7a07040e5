"""What must hold for every combination of components of credit and objective, whatever the batch.

The combinations are discovered: a new component is combined with all others by being defined, at the settings of its
docstring's example. There are too many to list, so each property runs, at one ragged batch, on enough of them that
every two components that may meet do; those marked `given` draw the combination and the batch.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations as pairs_of
from itertools import product
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from research.catalogue import ComponentEntry, discover
from research.component import Component, apply
from research.credit import Credit
from research.objective import Objective
from research.training.legality import fault
from research.types import UpdateBatch, length_mask

EXACT_SUM = {"rtol": 1e-5, "atol": 1e-7}
"""Two float32 sums of the same numbers in another order: some tens of terms, each rounded to 6e-8 of c·w·Â."""
BF16_BOUND = 2.0**-6
"""bf16 rounds at 2⁻⁹. A ratio is off by subtraction, exponential and its bound's rounding, (|d| + 2)·2⁻⁹ of itself
with a log-ratio |d| ≤ 1; k3 by at most five roundings of numbers below 2; a bonus by two of itself. Twice the worst."""


@lru_cache
def entries() -> list[ComponentEntry]:
    return [entry for entry in discover() if entry.stage in ("credit", "objective")]


@lru_cache
def components(slot: str) -> tuple[Component, ...]:
    return tuple(entry.example() for entry in entries() if entry.slot == slot)


def lists(slot: str) -> list[list[Component]]:
    """None of the slot, each one alone, and all of them that go together."""
    parts = components(slot)
    importance = [part for part in parts if "rollout_logprobs" in part.needs()]
    together = [part for part in parts if part not in importance[1:]]
    return [[], *([part] for part in parts), *([together] if len(together) > 1 else [])]


def legal(make: Callable[..., Any], slots: dict[str, Iterable[object]]) -> list[Any]:
    """What the constructor makes of the slots' fillings, one of each, wherever it accepts them."""
    made = []
    for fillings in product(*slots.values()):
        try:
            made.append(make(**dict(zip(slots, fillings, strict=True))))
        except ValueError:
            continue
    return made


CREDITS: list[Credit] = legal(
    Credit,
    {
        "advantage": components("credit.Advantage"),
        "weights": lists("credit.TokenWeight"),
        "aggregate": components("credit.Aggregate"),
        "denominator": ("all", "kept"),
    },
)
OBJECTIVES: list[Objective] = legal(
    Objective,
    {
        "ratio": components("objective.Ratio"),
        "surrogate": components("objective.Surrogate"),
        "gates": lists("objective.Gate"),
        "kl": components("objective.KL"),
        "entropy": components("objective.Entropy"),
    },
)

Part = tuple[str, str]
"""A slot and what fills it."""


def parts(whole: Credit | Objective) -> tuple[Part, ...]:
    """What fills each slot, in the order of the slots."""
    named = {}
    for slot, filling in vars(whole).items():
        if isinstance(filling, list):
            named[slot] = "×".join(type(part).__name__ for part in filling) or "1"
        else:
            named[slot] = type(filling).__name__ if isinstance(filling, Component) else str(filling)
    return tuple(named.items())


@dataclass(frozen=True)
class Combination:
    credit: Credit
    objective: Objective

    def meetings(self) -> set[tuple[Part, Part]]:
        return set(pairs_of((*parts(self.credit), *parts(self.objective)), 2))

    def __str__(self) -> str:
        return "-".join(name for _, name in (*parts(self.credit), *parts(self.objective)))


def by_part(wholes: Iterable[Credit | Objective]) -> dict[Part, list[Any]]:
    """The wholes that hold each part."""
    found: dict[Part, list[Any]] = defaultdict(list)
    for whole in wholes:
        for part in parts(whole):
            found[part].append(whole)
    return found


CREDITS_WITH, OBJECTIVES_WITH = by_part(CREDITS), by_part(OBJECTIVES)
SLOTS = [slot for slot, _ in (*parts(CREDITS[0]), *parts(OBJECTIVES[0]))]
PARTS = sorted((*CREDITS_WITH, *OBJECTIVES_WITH), key=lambda part: SLOTS.index(part[0]))
PAIRS = [(a, b) for a, b in pairs_of(PARTS, 2) if a[0] != b[0]]
"""Every two parts of different slots, whether or not they may meet."""


def holding(pair: tuple[Part, Part]) -> tuple[list[Credit], list[Objective]]:
    """The credits and the objectives that hold those parts of the pair that are theirs."""
    credits, objectives = CREDITS, OBJECTIVES
    for part in pair:
        if part in CREDITS_WITH:
            kept = CREDITS_WITH[part]
            credits = kept if credits is CREDITS else [credit for credit in credits if part in parts(credit)]
        else:
            kept = OBJECTIVES_WITH[part]
            objectives = kept if objectives is OBJECTIVES else [o for o in objectives if part in parts(o)]
    return credits, objectives


def drawn(pair: tuple[Part, Part], draw: random.Random) -> Iterator[Combination]:
    """Combinations in which the two meet, at random."""
    credits, objectives = holding(pair)
    for _ in range(DRAWS if credits and objectives else 0):
        credit, objective = draw.choice(credits), draw.choice(objectives)
        if fault(credit, objective) is None:
            yield Combination(credit, objective)


DRAWS = 100
"""How often a pair is drawn before it counts as one that may not meet; a test looks for a legal one among all."""
CHOICE = 12
"""How many legal combinations of a pair are looked at, for the one in which most others meet for the first time."""


def where_every_two_meet() -> tuple[list[Combination], list[tuple[Part, Part]]]:
    """Combinations, the same in every session, in which every two parts meet; and the pairs that never did."""
    draw = random.Random(0)
    met: set[tuple[Part, Part]] = set()
    chosen, apart = [], []
    for pair in draw.sample(PAIRS, len(PAIRS)):
        if pair in met:
            continue
        found = [combination for combination, _ in zip(drawn(pair, draw), range(CHOICE), strict=False)]
        if not found:
            apart.append(pair)
            continue
        chosen.append(max(found, key=lambda combination: len(combination.meetings() - met)))
        met |= chosen[-1].meetings()
    return chosen, apart


SELECTED, APART = where_every_two_meet()
every_combination = pytest.mark.parametrize("combination", SELECTED, ids=str)


@st.composite
def combinations(draw: st.DrawFn) -> Combination:
    """Any legal combination."""
    credit, objective = draw(st.sampled_from(CREDITS)), draw(st.sampled_from(OBJECTIVES))
    assume(fault(credit, objective) is None)
    return Combination(credit, objective)


def test_every_two_components_meet_unless_no_legal_combination_has_both():
    met = set().union(*(combination.meetings() for combination in SELECTED))
    assert all(fault(combination.credit, combination.objective) is None for combination in SELECTED)
    assert met | set(APART) == set(PAIRS)
    for pair in APART:
        assert all(fault(credit, objective) is not None for credit, objective in product(*holding(pair))), pair


def test_every_component_is_combined():
    combined = {part for combination in SELECTED for pair in combination.meetings() for part in pair}
    for entry in entries():
        slot = {"credit.TokenWeight": "weights", "objective.Gate": "gates"}.get(entry.slot)
        assert (slot or entry.slot.rpartition(".")[2].lower(), entry.name) in combined


# Batches --------------------------------------------------------------------------------------------------------------


def ragged(seed: int = 0, N: int = 3, G: int = 4, longest: int = 6, apart: float = 0.5) -> UpdateBatch:
    """A batch off policy by at most `apart` nats a token, with noise on padding."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (N * G,), generator=generator)
    mask = length_mask(lengths)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(mask.shape, generator=generator)

    outcomes = torch.randint(0, 2, (N, G), generator=generator).float() * 2 - 1
    old = uniform(-3, -0.1)
    truncated = torch.rand(N * G, generator=generator) < 0.3
    truncated[0], truncated[-1] = True, False
    rewards = outcomes - 0.5 * torch.rand((N, G), generator=generator)
    step_ends = mask & ((torch.arange(mask.shape[1])[None, :] == lengths[:, None] - 1) | (uniform(0, 1) < 0.3))
    return batch_of(
        lengths,
        mask=mask,
        lengths=lengths.reshape(N, G),
        truncated=truncated,
        outcomes=outcomes,
        right=outcomes > 0,
        rewards=rewards,
        columns=torch.stack([outcomes, rewards - outcomes]),
        targets=torch.randint(1, longest + 1, (N, G), generator=generator).float(),
        token_ids=torch.randint(0, 4, mask.shape, generator=generator) * mask,
        step_ends=step_ends,
        step_rewards=(uniform(0, 1) < 0.5) * step_ends.float(),
        token_rewards=uniform(-0.2, 0.2) * mask,
        values=uniform(-1, 1) * mask,
        uniform=uniform(0, 1),
        entropy_coefficient=torch.tensor(0.02),
        old_logprobs=old,
        logprobs=old + uniform(-apart, apart),
        rollout_logprobs=old + uniform(-0.1, 0.1),
        ref_logprobs=old + uniform(-apart, apart),
        entropies=uniform(0, 1.3),
    )


def batch_of(lengths: Tensor, /, **quantities: Tensor) -> UpdateBatch:
    """These quantities as a batch with prompts of one token."""
    B, T = quantities["mask"].shape
    return UpdateBatch(
        input_ids=torch.zeros(B, 1 + T, dtype=torch.long),
        prompt_lengths=torch.ones(B, dtype=torch.long),
        lengths=lengths,
        quantities=quantities,
    )


def changed(batch: UpdateBatch, change: Callable[[str, Tensor], Tensor]) -> UpdateBatch:
    """The batch with every quantity put through `change`."""
    quantities = {name: change(name, value) for name, value in batch.quantities.items()}
    return batch_of(quantities["lengths"].flatten(), **quantities)


def with_leaves(batch: UpdateBatch) -> tuple[UpdateBatch, list[Tensor]]:
    """The batch with gradients on what depends on θ: the log-probabilities now and the entropies."""
    leaves = {name: batch[name].detach().clone().requires_grad_() for name in ("logprobs", "entropies")}
    return batch.with_quantities(**leaves), list(leaves.values())


def loss_and_gradients(objective: Objective, batch: UpdateBatch, split: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The sum of the losses over the parts of the split, and its gradient."""
    batch, leaves = with_leaves(batch)
    loss = torch.stack([objective(batch.rows(rows).quantities).loss for rows in split]).sum()
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return loss.detach(), list(gradients)


def whole(batch: UpdateBatch) -> list[Tensor]:
    return [torch.arange(len(batch.lengths))]


def assert_same(one: tuple[Tensor, list[Tensor]], other: tuple[Tensor, list[Tensor]]) -> None:
    torch.testing.assert_close(one[0], other[0], **EXACT_SUM)
    for a, b in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(a, b, **EXACT_SUM)


# Micro-batches, padding, order ----------------------------------------------------------------------------------------


def check_split(combination: Combination, batch: UpdateBatch, split: list[Tensor]) -> None:
    credited = combination.credit(batch)
    full = loss_and_gradients(combination.objective, credited, whole(batch))
    assert_same(loss_and_gradients(combination.objective, credited, split), full)


@every_combination
def test_a_split_into_micro_batches_changes_nothing(combination: Combination):
    order = torch.tensor([7, 0, 3, 11, 1, 2, 10, 4, 9, 5, 8, 6])
    check_split(combination, ragged(seed=1), list(order.split([1, 5, 2, 4])))


@st.composite
def splits(draw: st.DrawFn) -> tuple[UpdateBatch, list[Tensor]]:
    """A batch, and its rows in any order, cut anywhere."""
    N, G = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    batch = ragged(draw(st.integers(0, 2**16)), N, G, longest=draw(st.integers(1, 6)))
    order = draw(st.permutations(range(N * G)))
    cuts = sorted(draw(st.sets(st.integers(1, N * G - 1))))
    return batch, [torch.tensor(order[a:b]) for a, b in zip([0, *cuts], [*cuts, N * G], strict=True)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(combination=combinations(), batch_and_split=splits())
def test_any_split_of_any_batch_changes_nothing(combination: Combination, batch_and_split):
    check_split(combination, *batch_and_split)


@every_combination
def test_padding_changes_nothing_and_gets_no_gradient(combination: Combination):
    extra = 3
    generator = torch.Generator().manual_seed(9)

    def widen(name: str, value: Tensor) -> Tensor:
        if value.shape != tight["mask"].shape:
            return value
        columns = torch.zeros(len(value), extra, dtype=value.dtype)
        if name.endswith("logprobs") or name in ("entropies", "uniform"):
            columns = -5 * torch.rand(columns.shape, generator=generator)
        return torch.cat([value, columns], dim=1)

    tight = ragged(seed=2)
    wide = changed(tight, widen)
    width = tight["mask"].shape[1]
    # `whole` would cut the padding off again, so the objective reads the quantities as they are.
    results = []
    for batch in (tight, wide):
        credited, leaves = with_leaves(combination.credit(batch))
        loss = combination.objective(credited.quantities).loss
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        assert all(torch.count_nonzero(gradient[~batch["mask"]]) == 0 for gradient in gradients)
        results.append((loss.detach(), [gradient[:, :width] for gradient in gradients]))
    assert_same(*results)


@every_combination
def test_a_tools_tokens_change_nothing_and_get_no_gradient(combination: Combination):
    """Whatever a model or a sampler would say of them: they are as if they were not there."""
    at, extra = 2, 2
    generator = torch.Generator().manual_seed(9)

    def interrupted(name: str, value: Tensor) -> Tensor:
        if value.shape != alone["mask"].shape:
            return value
        columns = -5 * torch.rand(len(value), extra, generator=generator)
        if name in ("mask", "step_ends"):
            columns = torch.zeros_like(columns)
        return torch.cat([value[:, :at], columns.to(value.dtype), value[:, at:]], dim=1)

    alone = ragged(seed=3)
    with_tool = changed(alone, interrupted)
    results = []
    for batch in (alone, with_tool):
        credited, leaves = with_leaves(combination.credit(batch))
        loss = combination.objective(credited.quantities).loss
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        assert all(torch.count_nonzero(gradient[~batch["mask"]]) == 0 for gradient in gradients)
        own = [k for k in range(batch["mask"].shape[1]) if batch is alone or not at <= k < at + extra]
        results.append((loss.detach(), [gradient[:, own] for gradient in gradients]))
    assert_same(*results)


def permuted(batch: UpdateBatch, order: Tensor) -> UpdateBatch:
    """The batch with its completions in another order; `order` keeps each group's completions together."""
    N, G = batch["rewards"].shape
    return changed(
        batch,
        lambda name, value: (
            value
            if value.dim() == 0
            else value.flatten(-2)[..., order].reshape(value.shape)
            if value.shape[-2:] == (N, G)
            else value[order]
        ),
    )


def check_order(combination: Combination, batch: UpdateBatch, order: Tensor) -> None:
    plain = loss_and_gradients(combination.objective, combination.credit(batch), whole(batch))
    other = permuted(batch, order)
    loss, gradients = loss_and_gradients(combination.objective, combination.credit(other), whole(other))
    assert_same((loss, gradients), (plain[0], [gradient[order] for gradient in plain[1]]))


@every_combination
def test_order_of_the_completions_of_a_group_changes_nothing(combination: Combination):
    check_order(combination, ragged(seed=3), torch.tensor([3, 1, 0, 2, 4, 6, 5, 7, 11, 10, 9, 8]))


@every_combination
def test_order_of_the_groups_changes_nothing(combination: Combination):
    check_order(combination, ragged(seed=4), torch.tensor([8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(combination=combinations(), data=st.data())
def test_any_order_of_any_batch_changes_nothing(combination: Combination, data: st.DataObject):
    N, G = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 4))
    batch = ragged(data.draw(st.integers(0, 2**16)), N, G, longest=5)
    groups = data.draw(st.permutations(range(N)))
    order = [n * G + g for n in groups for g in data.draw(st.permutations(range(G)))]
    check_order(combination, batch, torch.tensor(order))


# The gradient itself --------------------------------------------------------------------------------------------------


def gain_gradient(combination: Combination, batch: UpdateBatch) -> tuple[UpdateBatch, Tensor]:
    """The credited batch, and the gradient of Σ c·w·g·s alone with respect to the log-probabilities."""
    credited, (logprobs, _) = with_leaves(combination.credit(batch))
    return credited, torch.autograd.grad(gain_sum(combination.objective, credited), logprobs)[0]


def gain_sum(objective: Objective, credited: UpdateBatch) -> Tensor:
    """Σ c·w·g·s."""
    gate = prod((apply(gate, credited.quantities) for gate in objective.gates), start=torch.tensor(1.0))
    gain = objective(credited.quantities).gain
    return (credited["coefficients"] * credited["weights"] * gate * gain).sum()


@every_combination
def test_on_policy_it_is_the_policy_gradient(combination: Combination):
    """At ρ = 1 the gradient of Σ c·w·s(ρ, Â) is that of Σ c·w·Â·log π: c·w·Â on each token.

    Where a ratio or a surrogate is one of the whole completion, that gradient is shared out evenly: the completion's
    mean of c·w·Â on each of its tokens.
    """
    credited, gradient = gain_gradient(combination, ragged(seed=5, N=8, G=6, apart=0.0))
    expected = credited["coefficients"] * credited["weights"] * credited["advantages"]
    assert torch.count_nonzero(expected) > 0
    if combination.objective.ratio.per_completion or combination.objective.surrogate.per_completion:
        mask = credited["mask"]
        expected = (expected.sum(-1) / mask.sum(-1))[:, None] * mask
        # The sum of up to six float32 numbers, each a product of three, in another order.
        torch.testing.assert_close(gradient, expected, **EXACT_SUM)
    else:
        # One product of three float32 numbers, in another order.
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


@every_combination
def test_kl_and_bonus_are_weighted_by_c_alone(combination: Combination):
    credited, _ = with_leaves(combination.credit(ragged(seed=6)))
    terms, c = combination.objective(credited.quantities), credited["coefficients"]
    expected = gain_sum(combination.objective, credited) - (c * terms.kl).sum() + (c * terms.bonus).sum()
    # Three sums of size 1 to 5 which may cancel: some ten roundings of 6e-8 of the largest.
    torch.testing.assert_close(-terms.loss, expected, rtol=1e-5, atol=2e-6)


@every_combination
def test_equal_rewards_give_exactly_no_gain_gradient(combination: Combination):
    batch = ragged(seed=7, N=2, G=7)  # the float32 mean of seven rewards of 0.7 is not 0.7
    dead = torch.tensor([[0.7], [0.0]]).expand_as(batch["rewards"]).clone()
    batch = batch.with_quantities(
        rewards=dead, outcomes=dead, right=dead > 0, columns=torch.stack([dead, torch.zeros_like(dead)])
    )
    credited, gradient = gain_gradient(combination, batch)
    if combination.credit.advantage.centred:
        assert torch.count_nonzero(credited["advantages"]) == 0
        assert torch.count_nonzero(gradient) == 0
    loss, gradients = loss_and_gradients(combination.objective, credited, whole(batch))
    assert all(torch.isfinite(value).all() for value in (loss, *gradients))


# Extremes and precision -----------------------------------------------------------------------------------------------


@every_combination
@pytest.mark.parametrize("apart", [100.0, -100.0])
def test_log_ratios_of_a_hundred_nats_stay_finite(combination: Combination, apart: float):
    batch = ragged(seed=8)
    signs = torch.ones_like(batch["logprobs"])
    signs[:, ::2] = -1.0
    logprobs = batch["old_logprobs"] + apart * signs
    batch = batch.with_quantities(logprobs=logprobs, ref_logprobs=logprobs + apart * signs.roll(1, dims=1))
    loss, gradients = loss_and_gradients(combination.objective, combination.credit(batch), whole(batch))
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@every_combination
def test_bf16_inputs_are_within_the_stated_bound(combination: Combination):
    """The same numbers, which bf16 holds exactly, in bf16 and in float32."""
    credited = combination.credit(ragged(seed=9, apart=0.45))
    names = ("logprobs", "old_logprobs", "ref_logprobs", "rollout_logprobs", "entropies")
    low = credited.with_quantities(**{name: credited[name].bfloat16() for name in names})
    high = credited.with_quantities(**{name: low[name].float() for name in names})
    narrow, wide = combination.objective(low.quantities), combination.objective(high.quantities)
    for name, scale in (("gain", wide.gain.abs()), ("kl", 1 + wide.kl), ("bonus", wide.bonus.abs())):
        error = (getattr(narrow, name) - getattr(wide, name)).abs()
        assert (error <= BF16_BOUND * scale).all(), f"{name}: off by {error.max()}"
