"""Log-probabilities and entropies of completion tokens, from hidden states; other tokens need no logits."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LOGITS = 2**26
"""Most logits in memory at a time: 256 MiB in float32, and about five times as much during the backward pass."""


def completion_positions(
    prompt_lengths: Int[Tensor, " B"], mask: Bool[Tensor, "B T"]
) -> tuple[Int[Tensor, " K"], Int[Tensor, " K"], Int[Tensor, " K"]]:
    """Row, completion index t and the position that predicts token t, for each of the K completion tokens that count.

    Values of all other tokens, those of a tool and padding, are 0.

    Example:
        >>> completion_positions(torch.tensor([2]), torch.tensor([[True, True, True]]))
        (tensor([0, 0, 0]), tensor([0, 1, 2]), tensor([1, 2, 3]))
    """
    rows, t = mask.nonzero(as_tuple=True)
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
    """log p(target), from the log-probabilities of the whole vocabulary."""
    return log_p.gather(-1, targets[:, None]).squeeze(-1)


def entropies_from(log_p: Float[Tensor, "K V"]) -> Float[Tensor, " K"]:
    """The entropy H, from the log-probabilities of the whole vocabulary."""
    return -(log_p.exp() * log_p).sum(-1)


def values_from_hidden(
    head: nn.Module,
    hidden: Float[Tensor, "K H"],
    targets: Int[Tensor, " K"],
    *,
    temperature: float,
    entropy_gradient: bool,
    chunk: int,
) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
    """log p(target) and H of softmax(head(hidden) / temperature), with the logits of at most `chunk` tokens at a time.

    More tokens are computed chunk by chunk, and the backward pass recomputes the logits of each chunk to save memory.
    A single chunk is computed once and kept.

    Args:
        head: the output layer, states to logits.
        hidden: the state that predicts each token.
        targets: the tokens.
        temperature: divides the logits.
        entropy_gradient: True if the entropies carry a gradient; without it they need no memory for the backward pass.
        chunk: number of tokens, at least 1. It changes the rounding of sums and nothing else.

    Returns: log-probabilities and entropies in nats, float32 for a head that computes in float32 or less.

    Example:
        >>> head = torch.nn.Linear(2, 4, bias=False)
        >>> _ = torch.nn.init.zeros_(head.weight)
        >>> logprobs, entropies = values_from_hidden(
        ...     head, torch.ones(3, 2), torch.tensor([0, 1, 2]), temperature=1.0, entropy_gradient=True, chunk=2
        ... )
        >>> entropies.detach()  # log 4
        tensor([1.3863, 1.3863, 1.3863])
    """

    def values(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(hidden)
        log_p = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, -1)
        return gathered(log_p, targets), entropies_from(log_p if entropy_gradient else log_p.detach())

    if len(hidden) <= chunk:
        return values(hidden, targets)
    parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    kind = hidden.device.type
    # A cast that autocast cached over several chunks would sum their gradients in low precision.
    with torch.autocast(
        kind,
        dtype=torch.get_autocast_dtype(kind),
        enabled=torch.is_autocast_enabled(kind),
        cache_enabled=False,
    ):
        if torch.is_grad_enabled():
            chunks = [checkpoint(values, *part, use_reentrant=False) for part in parts]
        else:
            chunks = [values(*part) for part in parts]
    logprobs, entropies = zip(*chunks, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


def micro_batches(
    spans: Int[Tensor, " B"], tokens: int, apart: Bool[Tensor, " B"] | None = None
) -> Iterator[Int[Tensor, " R"]]:
    """Rows in micro-batches, longest first, each of a padded size (rows × longest) of at most `tokens`.

    A single row always fits. Rows that `apart` marks are kept in micro-batches of their own.

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
