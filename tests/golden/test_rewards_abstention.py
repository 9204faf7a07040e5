"""A completion that could not be judged is as good as absent from every baseline, and gets no advantage."""

from dataclasses import dataclass
from math import nan
from typing import Any

import pytest
import torch
from jaxtyping import Bool, Float
from test_slow_reference import SETTINGS, ragged_batch, tensors, update_batch
from torch import Tensor

from research.catalogue import discover
from research.component import apply
from research.credit import Advantage, Credit, TokenMean
from research.credit.gae import generalized_advantage
from research.errors import UserError
from research.types import over_tokens

ENTRIES = {e.name: e for e in discover() if e.slot == "credit.Advantage" and e.name != "Imitate"}
"""`Imitate` reads no verdict: it has nothing to leave out."""
CASES = [
    pytest.param(name, settings, id="-".join([name, *map(str, settings.values())]))
    for name in ENTRIES
    for settings in SETTINGS.get(name, [{}])
]
G, ABSENT = 4, (1, 6, 11)
"""Groups of four, of each of which one completion (a row of the batch) could not be judged."""
KEPT = torch.tensor([row for row in range(12) if row not in ABSENT])


def whole(seed: int) -> dict[str, Tensor]:
    """Rewards as verifiers of 1 and 0 give them with shaping, so that no two groups look alike."""
    return tensors(ragged_batch(seed))


def with_absent(quantities: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with three completions unjudged."""
    absent = torch.zeros(12, dtype=torch.bool)
    absent[list(ABSENT)] = True
    by_group = absent.reshape(-1, G)
    changed = dict(quantities)
    for name in ("rewards", "outcomes"):
        changed[name] = quantities[name].masked_fill(by_group, nan)
    changed["columns"] = quantities["columns"].masked_fill(by_group[None], nan)
    changed["right"] = quantities["right"] & ~by_group
    changed["step_ends"] = quantities["step_ends"] & ~absent[:, None]
    changed["step_rewards"] = quantities["step_rewards"].masked_fill(absent[:, None], 0.0)
    return changed


def without(quantities: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with those three completions gone: groups of three."""

    def taken(value: Tensor) -> Tensor:
        if value.shape[:1] == (12,):
            return value[KEPT]
        if value.shape == (3, G):
            return value.flatten()[KEPT].reshape(3, G - 1)
        return value.reshape(-1, 12)[:, KEPT].reshape(-1, 3, G - 1) if value.dim() == 3 else value

    return {name: taken(value) for name, value in quantities.items()}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_others_are_as_if_it_were_not_there(name: str, settings: dict[str, Any], seed: int):
    advantage, quantities = ENTRIES[name].cls(**settings), whole(seed)
    value = apply(advantage, with_absent(quantities))
    assert torch.count_nonzero(value[list(ABSENT)]) == 0
    expected = apply(advantage, without(quantities))
    # The same float32 sums without a zero in them: one rounding of the largest term, some 1e-7 of it.
    torch.testing.assert_close(value[KEPT], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["GroupMean", "GroupZScore", "LeaveOneOut", "BatchScaled", "BatchWhitened"])
def test_nothing_changes_when_all_are_judged(name: str):
    """To the last bit: the plain formulas, as torch computes them."""
    rewards = torch.randn(50, 7, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(350, 1, dtype=torch.bool)
    centred = rewards - rewards.mean(-1, keepdim=True)
    expected = {
        "GroupMean": centred,
        "GroupZScore": centred / (rewards.std(-1, keepdim=True) + 1e-6),
        "LeaveOneOut": centred * (7 / 6),
        "BatchScaled": centred / (rewards.std() + 1e-6),
        "BatchWhitened": centred.double() / (centred.double().square().sum() / 349 + 1e-8).sqrt(),
    }[name]
    settings = {"baseline": "group", "weighting": "completions"} if name == "BatchWhitened" else {}
    value = apply(ENTRIES[name].cls(**settings), {"rewards": rewards, "mask": mask}).reshape(50, 7)
    if name == "BatchWhitened":  # its variance is of float64 deviations from a mean that is 0 but for rounding
        torch.testing.assert_close(value, expected.float(), rtol=1e-6, atol=1e-7)
    else:
        assert torch.equal(value, expected)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_group_of_none_or_one_and_a_batch_of_none(name: str, settings: dict[str, Any]):
    quantities = whole(4)
    for judged in ([], [0], [0, 4, 5, 6, 7]):
        absent = torch.ones(12, dtype=torch.bool)
        absent[judged] = False
        changed = dict(quantities)
        for key in ("rewards", "outcomes"):
            changed[key] = quantities[key].masked_fill(absent.reshape(3, G), nan)
        changed["columns"] = quantities["columns"].masked_fill(absent.reshape(1, 3, G), nan)
        changed["right"] = quantities["right"] & ~absent.reshape(3, G)
        changed["step_ends"] = quantities["step_ends"] & ~absent[:, None]
        value = apply(ENTRIES[name].cls(**settings), changed)
        assert value.isfinite().all()
        assert torch.count_nonzero(value[absent]) == 0


def test_the_critic_learns_nothing_from_it():
    """Its target is what the critic says already."""
    quantities = with_absent(whole(5))
    read = {name: quantities[name] for name in ("rewards", "token_rewards", "values", "mask")}
    advantages = generalized_advantage(**read, gamma=1.0, lam=0.95)
    assert advantages.isfinite().all()
    assert torch.count_nonzero(advantages[list(ABSENT)]) == 0
    assert (advantages[KEPT][quantities["mask"][KEPT]] != 0).any()


@dataclass(frozen=True, kw_only=True)
class Careless(Advantage):
    """It subtracts a mean that knows nothing of completions without a reward."""

    def __call__(self, *, rewards: Float[Tensor, "N G"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return over_tokens(rewards - rewards.mean(-1, keepdim=True), mask)


def test_an_advantage_that_cannot_leave_it_out_is_refused():
    credit = Credit(advantage=Careless(), weights=[], aggregate=TokenMean(), denominator="all")
    batch = update_batch(ragged_batch(1))
    assert credit(batch)["advantages"].isfinite().all()
    unjudged = batch.with_quantities(rewards=batch["rewards"].masked_fill(torch.eye(3, 4).bool(), nan))
    with pytest.raises(UserError, match="Careless does not leave out completions without a reward"):
        credit(unjudged)
