"""Every component of credit and objective against its slow twin in `reference.py`, on random ragged batches."""

import random
from inspect import signature

import pytest
import reference
import reference_credit
import reference_objective
import reference_weights
import torch

from research.catalogue import discover
from research.component import apply
from research.credit import Credit
from research.objective import Objective
from research.types import UpdateBatch

ENTRIES = {entry.name: entry for entry in discover() if entry.stage in ("credit", "objective")}

SLOW = reference.SLOW | reference_credit.SLOW | reference_weights.SLOW | reference_objective.SLOW
SETTINGS = {
    "GroupZScore": [{"ddof": 1, "eps": 1e-6}, {"ddof": 0, "eps": 1e-4}, {"ddof": 1, "eps": 0.0}],
    "ConstantLength": [{"length": 7}, {"length": 3000}],
    "Clip": [{"eps_low": 0.2, "eps_high": 0.2}, {"eps_low": 0.2, "eps_high": 0.28}, {"eps_low": 0.0, "eps_high": 3.0}],
    "K3": [{"beta": 0.04, "gradient": "value"}, {"beta": 1.0, "gradient": "kl"}],
    "EntropyBonus": [{"alpha": 0.01}],
    **reference_credit.SETTINGS,
    **reference_weights.SETTINGS,
    **reference_objective.SETTINGS,
}
"""The settings to compare at, where a component has any."""

RELATIVE = 1e-5
"""Float32 carries 6e-8 an operation; the longest chain here (a standard deviation of six rewards, a division, an
exponential of a rounded difference of log-probabilities near −5) loses some 20 of these."""
ABSOLUTE = 2e-6
"""The same loss where the value itself cancels to near 0: k3 and r − mean(r) subtract numbers of size 1 to 3."""


def ragged_batch(seed: int, N: int = 3, G: int = 4, longest: int = 9) -> dict:
    """Quantities of N groups of G completions of 1 to `longest` tokens, as nested lists of float64 numbers."""
    draw = random.Random(seed)
    lengths = [draw.randint(1, longest) for _ in range(N * G)]
    T = max(lengths)

    def table(low: float, high: float) -> list[list[float]]:
        return [[draw.uniform(low, high) for _ in range(T)] for _ in lengths]

    old_logprobs = table(-5.0, -0.01)
    rewards = [[float(draw.choice([-1, 1])) + draw.uniform(-0.5, 0.0) for _ in range(G)] for _ in range(N)]
    rewards[0] = [0.7] * G
    return {
        "mask": [[t < length for t in range(T)] for length in lengths],
        "lengths": [lengths[n * G : n * G + G] for n in range(N)],
        "truncated": [draw.random() < 0.3 for _ in lengths],
        "outcomes": [[1.0 if reward > 0 else -1.0 for reward in group] for group in rewards],
        "rewards": rewards,
        "advantages": table(-2.5, 2.5),
        "old_logprobs": old_logprobs,
        "rollout_logprobs": [[value + draw.uniform(-0.1, 0.1) for value in row] for row in old_logprobs],
        "logprobs": [[value + draw.uniform(-0.6, 0.6) for value in row] for row in old_logprobs],
        "ref_logprobs": [[value + draw.uniform(-1.0, 1.0) for value in row] for row in old_logprobs],
        "entropies": table(0.0, 4.0),
        "ratio": table(0.3, 2.0),
        "token_ids": [[draw.randint(0, 3) for _ in range(T)] for _ in lengths],
        "right": [[reward > 0 for reward in group] for group in rewards],
        "columns": [[[0.25 * reward + k for reward in group] for group in rewards] for k in range(2)],
        "targets": [[float(draw.randint(1, longest)) for _ in range(G)] for _ in range(N)],
        **step_quantities(draw, lengths, T),
        "token_rewards": table(-0.2, 0.2),
        "values": table(-1.0, 1.0),
        "uniform": table(0.0, 1.0),
        "covariances": table(-2.0, 6.0),
        "covariance_rank": table(0.0, 0.999),
        "entropy_coefficient": 0.02,
    }


def step_quantities(draw: random.Random, lengths: list[int], T: int) -> dict:
    """One to three steps a completion, the last at its end, each worth 1 or 0."""
    ends = [[t < n and (t == n - 1 or draw.random() < 0.3) for t in range(T)] for n in lengths]
    return {
        "step_ends": ends,
        "step_rewards": [[float(draw.random() < 0.5) if end else 0.0 for end in row] for row in ends],
    }


def tensors(batch: dict) -> dict[str, torch.Tensor]:
    """The batch as the package takes it: float32."""
    made = {name: torch.tensor(value) for name, value in batch.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in made.items()}


def update_batch(batch: dict) -> UpdateBatch:
    """The rows behind one prompt token each."""
    B, T = len(batch["mask"]), len(batch["mask"][0])
    return UpdateBatch(
        input_ids=torch.zeros(B, 1 + T, dtype=torch.long),
        prompt_lengths=torch.ones(B, dtype=torch.long),
        lengths=torch.tensor(batch["lengths"]).flatten(),
        quantities=tensors(batch),
    )


def slow_value(name: str, batch: dict, settings: dict) -> list[list[float]]:
    equation = SLOW[name]
    read = {key: batch[key] for key in signature(equation).parameters if key in batch}
    return equation(**read, **settings)


def test_every_component_has_a_slow_twin():
    assert set(SLOW) == set(ENTRIES)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param(name, settings, id="-".join([name, *map(str, settings.values())]))
        for name in ENTRIES
        for settings in SETTINGS.get(name, [{}])
    ],
)
def test_component_is_its_slow_twin(name: str, settings: dict, seed: int):
    batch = ragged_batch(seed)
    value = apply(ENTRIES[name].cls(**settings), tensors(batch))
    expected = torch.tensor(slow_value(name, batch, settings), dtype=torch.float64)
    torch.testing.assert_close(value.double(), expected, rtol=RELATIVE, atol=ABSOLUTE)


WHOLES = {
    "GRPO": (
        ("GroupZScore", {"ddof": 1, "eps": 1e-6}),
        ("SequenceMean", {}),
        ("Clip", {"eps_low": 0.2, "eps_high": 0.2}),
        ("K3", {"beta": 0.04, "gradient": "value"}),
    ),
    "DAPO": (
        ("GroupZScore", {"ddof": 1, "eps": 1e-6}),
        ("TokenMean", {}),
        ("Clip", {"eps_low": 0.2, "eps_high": 0.28}),
        ("NoKL", {}),
    ),
    "Dr. GRPO": (
        ("GroupMean", {}),
        ("ConstantLength", {"length": 16}),
        ("Clip", {"eps_low": 0.2, "eps_high": 0.2}),
        ("NoKL", {}),
    ),
}


def slow_objective(batch: dict, whole: tuple, denominator: str, alpha: float) -> float:
    """J of the recipe, overlong filtering on, by loops."""
    (advantage, a), (aggregate, c), (surrogate, s), (kl, k) = whole
    weights = reference.skip_truncated(mask=batch["mask"], truncated=batch["truncated"])
    counted = batch["mask"]
    if denominator == "kept":
        counted = [[bool(w) for w in row] for row in weights]
    ratio = reference.token_ratio(logprobs=batch["logprobs"], old_logprobs=batch["old_logprobs"])
    advantages = slow_value(advantage, batch, a)
    return reference.objective(
        coefficients=slow_value(aggregate, {"mask": counted}, c),
        weights=weights,
        gain=slow_value(surrogate, {"ratio": ratio, "advantages": advantages}, s),
        kl=slow_value(kl, batch, k),
        bonus=slow_value("EntropyBonus", batch, {"alpha": alpha}),
    )


@pytest.mark.parametrize("denominator", ["all", "kept"])
@pytest.mark.parametrize("whole", WHOLES.values(), ids=WHOLES)
def test_value_and_gradient_of_a_whole_recipe(whole: tuple, denominator: str):
    batch, alpha, nudge = ragged_batch(5), 0.01, 1e-6
    (advantage, a), (aggregate, c), (surrogate, s), (kl, k) = whole
    credit = Credit(
        advantage=ENTRIES[advantage].cls(**a),
        weights=[ENTRIES["SkipTruncated"].cls()],
        aggregate=ENTRIES[aggregate].cls(**c),
        denominator=denominator,
    )
    objective = Objective(
        ratio=ENTRIES["TokenRatio"].cls(),
        surrogate=ENTRIES[surrogate].cls(**s),
        gates=[],
        kl=ENTRIES[kl].cls(**k),
        entropy=ENTRIES["EntropyBonus"].cls(alpha=alpha),
    )
    quantities = dict(credit(update_batch(batch)).quantities)
    logprobs = quantities["logprobs"].requires_grad_()
    loss = objective(quantities).loss
    loss.backward()

    slow = slow_objective(batch, whole, denominator, alpha)
    # Of about 60 terms of size c·3, summed in float32: 1e-6 is some ten roundings of the largest.
    assert -loss.item() == pytest.approx(slow, rel=1e-5, abs=1e-6)

    for i, row in enumerate(batch["logprobs"]):
        for t, value in enumerate(row):
            row[t] = value + nudge
            above = slow_objective(batch, whole, denominator, alpha)
            row[t] = value - nudge
            below = slow_objective(batch, whole, denominator, alpha)
            row[t] = value
            # Central differences in float64 with a step of 1e-6 are good to 1e-9; float32 autograd to 1e-5 relative.
            assert -logprobs.grad[i, t].item() == pytest.approx((above - below) / (2 * nudge), rel=1e-4, abs=1e-7)
