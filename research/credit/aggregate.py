"""The aggregation slot: how much one token counts in the objective.

    J(θ) = Σ_{i,t} c_{i,t} [ w_{i,t} · s(ρ_{i,t}, Â_{i,t}) − kl_{i,t} + bonus_{i,t} ]

The coefficients c are computed once from the mask of the whole update batch, so the loss of any subset of rows is a
plain sum: minibatching, micro-batching and packing cannot change the gradient.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from research.component import Component, require


class Aggregate(Component):
    """c [B T] ≥ 0: one token's share of the objective; 0 where `mask` is False."""


@dataclass(frozen=True, kw_only=True)
class TokenMean(Aggregate):
    """Every token of the update batch counts the same.

        c_{i,t} = 1 / Σ_k |o_k|

    Args:
        mask: True where a token counts [B T].

    Returns: coefficients [B T]; they sum to 1 (to 0 if nothing counts).

    Source: Yu et al. 2025, DAPO, eq. 8 (arXiv:2503.14476).

    Example:
        >>> from torch import tensor
        >>> TokenMean()(mask=tensor([[True, False], [True, True]]))
        tensor([[0.3333, 0.0000],
                [0.3333, 0.3333]])
    """

    def __call__(self, *, mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return mask.float() / mask.sum().clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class SequenceMean(Aggregate):
    """Every completion counts the same, and every token within it.

        c_{i,t} = 1 / (B · |o_i|),  B = the number of completions with a token that counts

    Args:
        mask: True where a token counts [B T].

    Returns: coefficients [B T]; they sum to 1 (to 0 if nothing counts).

    Source: Shao et al. 2024, GRPO, eq. 3 (arXiv:2402.03300).

    Example:
        >>> from torch import tensor
        >>> SequenceMean()(mask=tensor([[True, False], [True, True]]))
        tensor([[0.5000, 0.0000],
                [0.2500, 0.2500]])
    """

    def __call__(self, *, mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        completions = mask.any(-1).sum().clamp(min=1)
        return mask.float() / mask.sum(-1, keepdim=True).clamp(min=1) / completions


@dataclass(frozen=True, kw_only=True)
class PromptMean(Aggregate):
    """Every prompt counts the same, and every token of its completions.

        c_{i,t} = 1 / (P · Σ_{k of the same prompt} |o_k|),  P = the number of prompts with a token that counts

    Args:
        mask: True where a token counts [B T].
        lengths: tokens of each completion [N G]; only its shape is read, for the rows of each prompt.

    Returns: coefficients [B T]; they sum to 1 (to 0 if nothing counts).

    Source: Khatri et al. 2025, ScaleRL, the prompt average (arXiv:2510.13786).

    Example:
        >>> from torch import tensor
        >>> PromptMean()(mask=tensor([[True, False], [True, True]]), lengths=tensor([[1], [2]]))
        tensor([[0.5000, 0.0000],
                [0.2500, 0.2500]])
    """

    def __call__(self, *, mask: Bool[Tensor, "B T"], lengths: Int[Tensor, "N G"]) -> Float[Tensor, "B T"]:
        by_prompt = mask.reshape(len(lengths), -1)
        tokens = by_prompt.sum(-1, keepdim=True)
        shares = by_prompt.float() / tokens.clamp(min=1) / (tokens > 0).sum().clamp(min=1)
        return shares.reshape(mask.shape)


@dataclass(frozen=True, kw_only=True)
class ConstantLength(Aggregate):
    """A token counts 1/L whatever its completion's length, so the tokens of long completions count as much.

        c_{i,t} = 1 / (B · L),  B = the number of completions with a token that counts

    L is a constant of the recipe, never the padded width of a batch.

    Args:
        mask: True where a token counts [B T].

    Returns: coefficients [B T].

    Raises: ValueError if length < 1.

    Source: Liu et al. 2025, Dr. GRPO, §3.2 and the repository's masked sum (arXiv:2503.20783).

    Example:
        >>> from torch import tensor
        >>> ConstantLength(length=4)(mask=tensor([[True, False], [True, True]]))
        tensor([[0.1250, 0.0000],
                [0.1250, 0.1250]])
    """

    length: int
    """L, tokens: the paper takes the generation limit (3000)."""

    def __post_init__(self) -> None:
        require(self.length >= 1, f"ConstantLength: length is at least 1 token, got {self.length}")

    def __call__(self, *, mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return mask.float() / (mask.any(-1).sum().clamp(min=1) * self.length)
