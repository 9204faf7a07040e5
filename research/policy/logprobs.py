"""Log-probabilities and entropies of completion tokens, from hidden states, without logits for anything else."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from research.types import length_mask


def completion_positions(
    prompt_lengths: Int[Tensor, " B"], lengths: Int[Tensor, " B"]
) -> tuple[Int[Tensor, " K"], Int[Tensor, " K"], Int[Tensor, " K"]]:
    """Row, completion index t and the position that predicts token t, for each of the K = Σ|o_i| completion tokens.

    Example:
        >>> completion_positions(torch.tensor([2]), torch.tensor([3]))
        (tensor([0, 0, 0]), tensor([0, 1, 2]), tensor([1, 2, 3]))
    """
    rows, t = length_mask(lengths).nonzero(as_tuple=True)
    return rows, t, prompt_lengths[rows] + t - 1


def logprobs_of(logits: Float[Tensor, "K V"], targets: Int[Tensor, " K"]) -> Float[Tensor, " K"]:
    """log p(target) in nats, computed in float32."""
    return gathered(torch.log_softmax(logits.float(), -1), targets)


def entropies_of(logits: Float[Tensor, "K V"]) -> Float[Tensor, " K"]:
    """H = −Σ_v p log p over the whole vocabulary, in nats, computed in float32.

    Example:
        >>> entropies_of(torch.zeros(1, 4))  # log 4
        tensor([1.3863])
    """
    return entropies_from(torch.log_softmax(logits.float(), -1))


def gathered(log_p: Float[Tensor, "K V"], targets: Int[Tensor, " K"]) -> Float[Tensor, " K"]:
    """log p(target), of the log-probabilities of the whole vocabulary."""
    return log_p.gather(-1, targets[:, None]).squeeze(-1)


def entropies_from(log_p: Float[Tensor, "K V"]) -> Float[Tensor, " K"]:
    """H, of the log-probabilities of the whole vocabulary."""
    return -(log_p.exp() * log_p).sum(-1)


def micro_batches(
    spans: Int[Tensor, " B"], tokens: int, apart: Bool[Tensor, " B"] | None = None
) -> Iterator[Int[Tensor, " R"]]:
    """Rows, longest first, in runs whose padded size rows × longest stays within `tokens` (one row always fits).

    Rows that `apart` marks share no run with the others.

    Example:
        >>> [rows.tolist() for rows in micro_batches(torch.tensor([3, 10, 4, 9]), 20)]
        [[1, 3], [2, 0]]
    """
    order = torch.argsort(spans, descending=True, stable=True)
    for part in (order,) if apart is None else (order[~apart[order]], order[apart[order]]):
        start = 0
        while start < len(part):
            rows = max(1, tokens // int(spans[part[start]]))
            yield part[start : start + rows]
            start += rows
