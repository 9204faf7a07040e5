"""The covariance of a token's log-probability and its advantage, which drives the policy's entropy down."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def covariance_quantities(
    old_logprobs: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> dict[str, Float[Tensor, "B T"]]:
    """Each token's part of the covariance, and the share of tokens whose part is higher.

        Cov_{i,t} = (log π_old(o_{i,t}) − mean log π_old) · (Â_{i,t} − mean Â),  means over the batch's tokens

    Args:
        old_logprobs: the trainer's at the rollout's weights, nats.
        advantages: Â.
        mask: True where a completion token counts.

    Returns: `covariances` (nats times the advantage's unit) and `covariance_rank` (in [0, 1)), 0 and 1 on padding.

    Source: Cui et al. 2025, the entropy mechanism, eq. 10 (arXiv:2505.22617), at the rollout's policy.
    """
    logprobs, credit = old_logprobs[mask].float(), advantages[mask].float()
    parts = (logprobs - logprobs.mean()) * (credit - credit.mean())
    higher = torch.searchsorted(parts.sort().values, parts, right=True)
    covariances, rank = torch.zeros(mask.shape, device=mask.device), torch.ones(mask.shape, device=mask.device)
    covariances[mask] = parts
    rank[mask] = 1.0 - higher / max(1, len(parts))
    return {"covariances": covariances, "covariance_rank": rank}
