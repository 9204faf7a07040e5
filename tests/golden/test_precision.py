"""Credit is computed in float32 or better, also where a model's quantities are stored in less."""

from math import sqrt

import pytest
import torch
from test_slow_reference import SETTINGS, ragged_batch, tensors
from torch import tensor

from research.catalogue import discover
from research.component import apply
from research.credit.moments import whitened, z_scores

OF_MODELS = ("old_logprobs", "rollout_logprobs", "entropies", "values", "token_rewards")
"""Rewards are sums of Python numbers, and never stored in less than float32."""
ENTRIES = {entry.name: entry for entry in discover() if entry.stage == "credit"}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param(name, settings, id="-".join([name, *map(str, settings.values())]))
        for name in ENTRIES
        for settings in SETTINGS.get(name, [{}])
    ],
)
def test_stored_in_bfloat16_is_the_same_number_in_float32(name: str, settings: dict):
    """A sum or a quotient of bfloat16 numbers in bfloat16 would be off by 4e-3."""
    component = ENTRIES[name].cls(**settings)  # pyright: ignore[reportAbstractUsage]
    batch = tensors(ragged_batch(4))
    stored = batch | {key: batch[key].bfloat16() for key in OF_MODELS}
    wide = stored | {key: stored[key].float() for key in OF_MODELS}
    # The same operations, but for where a float32 number is rounded on the way to float64.
    torch.testing.assert_close(apply(component, stored), apply(component, wide), rtol=1e-5, atol=1e-5)


def test_small_differences_of_large_numbers():
    """1024 and twice 1024 + 2⁻¹³, neighbours in float32, which cannot hold their mean: z = −√2, √½, √½."""
    values, counts = 1024.0 + tensor([[0.0, 1.0, 1.0]]) * 2.0**-13, torch.ones(1, 3, dtype=torch.bool)
    z = z_scores(values, counts, (1,), ddof=0, eps=0.0)
    torch.testing.assert_close(z, tensor([[-sqrt(2), sqrt(0.5), sqrt(0.5)]]).double(), rtol=1e-6, atol=0.0)
    # The sample variance is 2⁻²⁶/3, to which whitening adds 1e-8; 1e-6 is float32's rounding of the result.
    side = 2.0**-13 / 3 / sqrt(2.0**-26 / 3 + 1e-8)
    assert whitened(values, counts)[0].tolist() == pytest.approx([-2 * side, side, side], rel=1e-6)
