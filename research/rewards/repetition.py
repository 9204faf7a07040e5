"""The penalty of a completion that repeats itself."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from research.component import require
from research.rewards.shaping import Shaping


@dataclass(frozen=True, kw_only=True)
class RepetitionPenalty(Shaping):
    """A completion pays for the share of its n-grams that it has used before.

        r_rep = p · (1 − #distinct n-grams / #n-grams) ≤ 0;  0 for a completion of fewer than n tokens

    n-grams of tokens, the end token included, as in TRL. The paper is about a sparse penalty on the repeated tokens
    themselves, N = 40 and P = −0.05; this is one number a completion.

    Args:
        token_ids: the completions' tokens [B T].
        mask: True where a completion token counts [B T].
        lengths: completion tokens, the end token included [N G].

    Returns: penalties [N G] in [p, 0], reward units.

    Raises: ValueError if ngram < 1 or penalty > 0.

    Source: Yeo et al. 2025, Demystifying Long Chain-of-Thought, repetition penalty (arXiv:2502.03373), in TRL's form.

    Example:
        >>> from torch import tensor
        >>> ids = tensor([[5, 5, 5, 5], [5, 6, 7, 0]])
        >>> RepetitionPenalty(ngram=2, penalty=-1.0)(token_ids=ids, mask=ids > 0, lengths=tensor([[4, 3]]))
        tensor([[-0.6667, -0.0000]])
    """

    ngram: int = 3
    """n, tokens; at least 1. TRL: 3; the paper: 40."""
    penalty: float = -1.0
    """p, reward of a completion that is all repetition; at most 0. TRL: −1."""

    def __post_init__(self) -> None:
        require(self.ngram >= 1, f"RepetitionPenalty: ngram is at least 1 token, got {self.ngram}")
        require(self.penalty <= 0, f"RepetitionPenalty: penalty is at most 0, got {self.penalty}")

    def __call__(
        self, *, token_ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"], lengths: Int[Tensor, "N G"]
    ) -> Float[Tensor, "N G"]:
        shares = [self._repeated(ids[counts]) for ids, counts in zip(token_ids, mask, strict=True)]
        return self.penalty * torch.tensor(shares, device=lengths.device).reshape(lengths.shape)

    def _repeated(self, ids: Int[Tensor, " t"]) -> float:
        """1 − #distinct n-grams / #n-grams of one completion."""
        if len(ids) < self.ngram:
            return 0.0
        ngrams = ids.unfold(0, self.ngram, 1)
        return 1.0 - len(torch.unique(ngrams, dim=0)) / len(ngrams)
