"""What must hold for every combination of components of credit and objective, whatever the batch.

The combinations are discovered: a new component is combined with all others by being defined, at the settings of its
docstring's example. Each property runs on every combination at one ragged batch (once there are more than `MOST`, on
enough of them that every two components still meet); those marked `given` draw the combination and the batch.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations as pairs_of
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from research.component import Component
from research.components import discover
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
def components(slot: str) -> tuple[Component, ...]:
    return tuple(entry.example() for entry in discover() if entry.slot == slot)


def lists(slot: str) -> list[list[Component]]:
    """None of the slot, each one alone, and all of them that go together."""
    parts = components(slot)
    importance = [part for part in parts if "rollout_logprobs" in part.needs()]
    together = [part for part in parts if part not in importance[1:]]
    return [[], *([part] for part in parts), *([together] if len(together) > 1 else [])]


def legal(make: Callable[..., object], **slots: object) -> object | None:
    """What the constructor makes of the slots, if it accepts them."""
    try:
        return make(**slots)
    except ValueError:
        return None


@dataclass(frozen=True)
class Combination:
    credit: Credit
    objective: Objective

    def parts(self) -> tuple[str, ...]:
        c, o = self.credit, self.objective
        weights = "×".join(type(weight).__name__ for weight in c.weights) or "1"
        gates = "×".join(type(gate).__name__ for gate in o.gates) or "1"
        slots = (c.advantage, c.aggregate, o.ratio, o.surrogate, o.kl, o.entropy)
        return (*(type(part).__name__ for part in slots), weights, gates, c.denominator)

    def __str__(self) -> str:
        return "-".join(self.parts())


CREDITS = [
    Credit(advantage=a, weights=w, aggregate=c, denominator=d)  # pyright: ignore[reportArgumentType]
    for a, w, c, d in product(
        components("credit.Advantage"), lists("credit.TokenWeight"), components("credit.Aggregate"), ("all", "kept")
    )
]
OBJECTIVES = [
    made
    for r, s, g, k, e in product(
        components("objective.Ratio"),
        components("objective.Surrogate"),
        lists("objective.Gate"),
        components("objective.KL"),
        components("objective.Entropy"),
    )
    if isinstance(made := legal(Objective, ratio=r, surrogate=s, gates=g, kl=k, entropy=e), Objective)
]
COMBINATIONS = [
    Combination(credit, objective)
    for credit, objective in product(CREDITS, OBJECTIVES)
    if fault(credit, objective) is None
]

MOST = 200
"""How many combinations each property runs on in full: 200 take about two seconds a property."""


def where_every_two_meet(combinations: list[Combination]) -> list[Combination]:
    """Those combinations, in a fixed random order, in which some two components meet for the first time."""
    shuffled = random.Random(0).sample(combinations, len(combinations))
    met: set[tuple] = set()
    kept = []
    for combination in shuffled:
        pairs = set(pairs_of(enumerate(combination.parts()), 2))
        if not pairs <= met:
            kept.append(combination)
            met |= pairs
    return kept


SELECTED = COMBINATIONS if len(COMBINATIONS) <= MOST else where_every_two_meet(COMBINATIONS)
every_combination = pytest.mark.parametrize("combination", SELECTED, ids=str)


def test_every_two_components_meet():
    def meetings(combinations: list[Combination]) -> set[tuple]:
        return {pair for combination in combinations for pair in pairs_of(enumerate(combination.parts()), 2)}

    assert meetings(where_every_two_meet(COMBINATIONS)) == meetings(COMBINATIONS) == meetings(SELECTED)


def test_every_slot_is_combined():
    slots = {entry.slot for entry in discover() if entry.stage in ("credit", "objective")}
    assert slots == {
        *(f"credit.{slot}" for slot in ("Advantage", "TokenWeight", "Aggregate")),
        *(f"objective.{slot}" for slot in ("Ratio", "Surrogate", "Gate", "KL", "Entropy")),
    }


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
        lengths=lengths,
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
        entropies=uniform(0, 2),
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
    return batch_of(quantities["lengths"], **quantities)


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
@given(combination=st.sampled_from(COMBINATIONS), batch_and_split=splits())
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
@given(combination=st.sampled_from(COMBINATIONS), data=st.data())
def test_any_order_of_any_batch_changes_nothing(combination: Combination, data: st.DataObject):
    N, G = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 4))
    batch = ragged(data.draw(st.integers(0, 2**16)), N, G, longest=5)
    groups = data.draw(st.permutations(range(N)))
    order = [n * G + g for n in groups for g in data.draw(st.permutations(range(G)))]
    check_order(combination, batch, torch.tensor(order))


# The gradient itself --------------------------------------------------------------------------------------------------


def gain_gradient(combination: Combination, batch: UpdateBatch) -> tuple[UpdateBatch, Tensor]:
    """The credited batch, and the gradient of Σ c·w·s alone with respect to the log-probabilities."""
    credited, (logprobs, _) = with_leaves(combination.credit(batch))
    terms = combination.objective(credited.quantities)
    gain = (credited["coefficients"] * credited["weights"] * terms.gain).sum()
    return credited, torch.autograd.grad(gain, logprobs)[0]


@every_combination
def test_on_policy_it_is_the_policy_gradient(combination: Combination):
    """At ρ = 1 the gradient of Σ c·w·s(ρ, Â) is that of Σ c·w·Â·log π: c·w·Â on each token."""
    credited, gradient = gain_gradient(combination, ragged(seed=5, apart=0.0))
    expected = credited["coefficients"] * credited["weights"] * credited["advantages"]
    assert torch.count_nonzero(expected) > 0
    # One product of three float32 numbers, in another order.
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


@every_combination
def test_kl_and_bonus_are_weighted_by_c_alone(combination: Combination):
    credited, _ = with_leaves(combination.credit(ragged(seed=6)))
    terms = combination.objective(credited.quantities)
    c, w = credited["coefficients"], credited["weights"]
    expected = (c * w * terms.gain).sum() - (c * terms.kl).sum() + (c * terms.bonus).sum()
    torch.testing.assert_close(-terms.loss, expected, **EXACT_SUM)


@every_combination
@pytest.mark.parametrize("reward", [0.7, 1.0, 0.0])
def test_equal_rewards_give_exactly_no_gain_gradient(combination: Combination, reward: float):
    batch = ragged(seed=7, N=2, G=7)  # the float32 mean of seven rewards of 0.7 is not 0.7
    dead = torch.full_like(batch["rewards"], reward)
    batch = batch.with_quantities(
        rewards=dead, outcomes=dead, right=dead > 0, columns=torch.stack([dead, torch.zeros_like(dead)])
    )
    credited, gradient = gain_gradient(combination, batch)
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
