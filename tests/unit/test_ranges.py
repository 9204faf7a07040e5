"""The range of every setting of credit/ and objective/: the values at its edges, and the first ones beyond."""

from dataclasses import fields, replace
from typing import Any

import pytest
from torch import Tensor, ones, tensor

from research.catalogue import discover
from research.credit import BatchScaled, EachZScore, GroupZScore

TINY = 1e-9
AT_LEAST_0 = ([0.0], [-TINY])
ABOVE_0 = ([TINY], [0.0])
AT_LEAST_1 = ([1.0], [1.0 - TINY])
UP_TO_1 = ([0.0, 1.0], [-TINY, 1.0 + TINY])
SHARE = ([TINY, 1.0], [0.0, 1.0 + TINY])
NORMALIZED = {"ddof": ([0, 1], [-1, 2]), "eps": AT_LEAST_0}
SHAPED = {
    **NORMALIZED,
    "alpha1": AT_LEAST_0,
    "alpha2": AT_LEAST_0,
    "entropy_floor": ABOVE_0,
    "entropy_clamp": ([None, (TINY, TINY), (0.2, 0.28)], [(0.0, 1.0), (-TINY, 1.0), (0.28, 0.2)]),
}
CLIP = {"eps_low": ([0.0, 1.0 - TINY], [-TINY, 1.0]), "eps_high": AT_LEAST_0}
RANGES: dict[str, dict[str, tuple[list[Any], list[Any]]]] = {
    "GroupZScore": NORMALIZED,
    "BatchScaled": NORMALIZED,
    "EachZScore": NORMALIZED | {"column_weights": ([None, (1.0, -2.0)], [])},
    "ProcessZScore": NORMALIZED,
    "EntropyShapedTokens": SHAPED,
    "EntropyShapedSequences": SHAPED,
    "GAE": {"gamma": UP_TO_1, "lam": UP_TO_1},
    "ConstantLength": {"length": ([1], [0])},
    "TruncatedImportance": {"cap": AT_LEAST_1},
    "MaskedImportance": {"low": UP_TO_1, "high": AT_LEAST_1},
    "TopEntropy": {"fraction": SHARE},
    "CovarianceBand": {"share": SHARE, "low": ([5.0], [5.0 + TINY]), "high": ([1.0], [1.0 - TINY])},
    "SkipConflicts": {"amplify": AT_LEAST_1},
    "SkipHighEntropy": {"limit": ABOVE_0},
    "Clip": CLIP,
    "DualClip": CLIP | {"c": ([1.0 + TINY], [1.0])},
    "DynamicClip": {"width_low": AT_LEAST_0, "width_high": AT_LEAST_0, "r_max": AT_LEAST_1},
    "SigmoidGate": {"tau_positive": ABOVE_0, "tau_negative": ABOVE_0},
    "ClippedWeight": {"floor": UP_TO_1, "cap": AT_LEAST_1},
    "GeometricClip": {"log_bound": ABOVE_0},
    "OffPolicyMask": {"delta": ABOVE_0},
    "K1": {"beta": ABOVE_0},
    "K2": {"beta": ABOVE_0},
    "K3": {"beta": ABOVE_0},
    "ImportanceWeightedK3": {"beta": ABOVE_0},
    "TopCovarianceKL": {"beta": ABOVE_0, "fraction": SHARE},
    "EntropyBonus": {"alpha": ABOVE_0},
    "AdaptiveEntropyBonus": {"target": ABOVE_0, "step": ABOVE_0, "largest": ABOVE_0, "initial": UP_TO_1},
}
"""Of each setting that is not a choice: what is taken and what is refused, the other settings as in the example."""

ENTRIES = {entry.name: entry for entry in discover() if entry.stage in ("credit", "objective")}
CASES = [
    (name, field, taken, value)
    for name, settings in RANGES.items()
    for field, edges in settings.items()
    for taken, values in zip((True, False), edges, strict=True)
    for value in values
]


@pytest.mark.parametrize(("name", "field", "taken", "value"), CASES)
def test_edges(name: str, field: str, taken: bool, value: Any):
    example = ENTRIES[name].example()
    if taken:
        assert getattr(replace(example, **{field: value}), field) == value  # pyright: ignore[reportArgumentType]
    else:
        with pytest.raises(ValueError, match=f"^{name}: .*{field}"):
            replace(example, **{field: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_setting_that_is_a_number_is_in_the_table(name: str):
    numbers = {
        field.name
        for field in fields(ENTRIES[name].cls)  # pyright: ignore[reportArgumentType]
        if field.type in (int, float) or "tuple[float" in str(field.type)
    }
    assert numbers == set(RANGES.get(name, {}))


@pytest.mark.parametrize(("ddof", "G"), [(0, 1), (1, 2)])
@pytest.mark.parametrize("advantage", [GroupZScore, BatchScaled, EachZScore])
def test_smallest_group_for_a_deviation(advantage: type, ddof: int, G: int):
    def value(size: int) -> Tensor:
        mask, rewards = ones(size, 1).bool(), tensor([[1.0, 0.0][:size]])
        if advantage is EachZScore:
            return EachZScore(ddof=ddof, column_weights=None)(columns=rewards[None], mask=mask)
        return advantage(ddof=ddof)(rewards=rewards, mask=mask)

    assert value(G).isfinite().all()
    if ddof:
        with pytest.raises(ValueError, match="^" + advantage.__name__ + ": ddof=1 needs .*at least 2 completions"):
            value(G - 1)
