"""Token weights that compare the completions of a group, or judge one as a whole, by its tokens."""

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from research.component import require
from research.credit.weights import TokenWeight


@dataclass(frozen=True, kw_only=True)
class SkipConflicts(TokenWeight):
    """A token that a group both rewards and punishes at one position is not punished, and is rewarded more.

        w_{i,t} = 0 if Â_{i,t} < 0 and o_{i,t} is in conflict,  amplify if Â_{i,t} > 0 and it is,  else 1
        conflict: some completion j of the group has o_{j,t} = o_{i,t} and Â_{j,t} of the other sign

    This is "group-relative trajectory-based policy optimization", which shares its short name, GTPO, with an unrelated
    method. The authors' repository counts only unbroken runs of conflicts, from the first token on and from the last
    token back; here every position counts, as the paper's abstract describes it.

    Args:
        advantages: Â [B T].
        token_ids: the completions' tokens [B T].
        lengths: completion tokens [N G]; only its shape is read, for the rows of each group.
        mask: True where a completion token counts [B T].

    Returns: weights [B T] in {0, 1, amplify}, 0 on padding.

    Raises: ValueError if amplify < 1.

    Source: Simoni et al. 2025, GTPO (arXiv:2508.03772).

    Example:
        >>> from torch import tensor
        >>> ids, mask = tensor([[7, 8], [7, 9]]), tensor([[True, True], [True, True]])
        >>> advantages, lengths = tensor([[1.0, 1.0], [-1.0, -1.0]]), tensor([[2, 2]])
        >>> SkipConflicts(amplify=2.0)(advantages=advantages, token_ids=ids, lengths=lengths, mask=mask)
        tensor([[2., 1.],
                [0., 1.]])
    """

    amplify: float
    """λ of a rewarded token in conflict; at least 1. The paper's value is unconfirmed; its repository's settings: 2."""

    def __post_init__(self) -> None:
        require(self.amplify >= 1, f"SkipConflicts: amplify is at least 1, got {self.amplify}")

    def __call__(
        self,
        *,
        advantages: Float[Tensor, "B T"],
        token_ids: Int[Tensor, "B T"],
        lengths: Int[Tensor, "N G"],
        mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        groups = (*lengths.shape, -1)
        tokens, signs = token_ids.reshape(groups), (advantages.sign() * mask).reshape(groups)
        conflict = torch.zeros_like(tokens, dtype=torch.bool)
        for other in range(1, lengths.shape[1]):
            opposite = signs * signs.roll(other, dims=1) < 0
            conflict |= opposite & (tokens == tokens.roll(other, dims=1))
        weights = torch.ones_like(mask, dtype=torch.float32)
        weights = weights.masked_fill((conflict & (signs < 0)).reshape(mask.shape), 0.0)
        return weights.masked_fill((conflict & (signs > 0)).reshape(mask.shape), self.amplify) * mask


@dataclass(frozen=True, kw_only=True)
class SkipHighEntropy(TokenWeight):
    """A completion that the policy wrote too uncertainly does not train.

        w_{i,t} = δ_i = 1[ 1/|o_i| Σ_t H_{i,t} ≤ limit ]

    The paper sets δ = 1 where the policy's entropy is above the limit from the start: leave this weight out of a recipe
    that starts there.

    Args:
        entropies: the policy's that sampled [B T], nats.
        mask: True where a completion token counts [B T].

    Returns: weights [B T] in {0, 1}.

    Raises: ValueError if limit ≤ 0.

    Source: Simoni et al. 2025, GTPO (arXiv:2508.03772).

    Example:
        >>> from torch import tensor
        >>> entropies = tensor([[0.5, 0.7], [0.7, 0.9]])
        >>> SkipHighEntropy(limit=0.693)(entropies=entropies, mask=tensor([[True, True], [True, True]]))
        tensor([[1., 1.],
                [0., 0.]])
    """

    limit: float = log(2)
    """The greatest mean entropy, nats a token; above 0. The paper: ln 2; its repository's settings: 0.7."""

    def __post_init__(self) -> None:
        require(self.limit > 0, f"SkipHighEntropy: limit is above 0 nats, got {self.limit}")

    def __call__(self, *, entropies: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        total = entropies.float().masked_fill(~mask, 0.0).sum(-1, keepdim=True)
        mean = total / mask.sum(-1, keepdim=True).clamp(min=1)
        return (mask & (mean <= self.limit)).float()
