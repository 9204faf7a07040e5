"""The covariance of log-probability and advantage: numbers to check by hand."""

import pytest
import torch
from torch import tensor

from research.credit.covariance import covariance_quantities


def test_parts_and_ranks_of_three_tokens():
    """log π − mean = 1, −1, 0 and Â − mean = 2, −1, −1: parts 2, 1, 0, of which none, one and two are higher."""
    found = covariance_quantities(
        old_logprobs=tensor([[-1.0, -3.0], [-2.0, -9.0]]),
        advantages=tensor([[4.0, 1.0], [1.0, 5.0]]),
        mask=tensor([[True, True], [True, False]]),
    )
    assert found["covariances"].tolist() == [[2.0, 1.0], [0.0, 0.0]]
    # Thirds in float32.
    assert found["covariance_rank"].flatten().tolist() == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0], abs=1e-6)


def test_equal_parts_have_the_rank_of_the_highest():
    """Deviations ±1 of both: parts 1 and 1, so none is higher than either."""
    found = covariance_quantities(
        old_logprobs=tensor([[-1.0, -3.0]]), advantages=tensor([[3.0, 1.0]]), mask=tensor([[True, True]])
    )
    assert found["covariances"].tolist() == [[1.0, 1.0]]
    assert found["covariance_rank"].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("counts", [True, False])
def test_one_token_and_none(counts: bool):
    one = tensor([[-1.0]])
    found = covariance_quantities(old_logprobs=one, advantages=one, mask=tensor([[counts]]))
    assert found["covariances"].tolist() == [[0.0]]
    assert found["covariance_rank"].tolist() == [[0.0 if counts else 1.0]]


@pytest.mark.parametrize(("logprobs", "advantages"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_sums_in_float32(logprobs: torch.dtype, advantages: torch.dtype):
    """In bfloat16 the mean of 1 and 1 + 1/128 would be one of them."""
    values, mask = tensor([[1.0, 1.0078125]]), tensor([[True, True]])
    found = covariance_quantities(old_logprobs=values.to(logprobs), advantages=values.to(advantages), mask=mask)
    assert found["covariances"].tolist() == [[2.0**-16, 2.0**-16]]
