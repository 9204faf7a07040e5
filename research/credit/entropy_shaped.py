"""Advantages of rewards that are shaped by entropy: right completions earn more where the policy was unsure.

The paper's equations leave several readings open. Each is a setting without a default: the entropies that are compared
(`entropy_scope`), the shaped rewards that are normalized together (`norm_scope`, `norm_set`), the bounds of an entropy
(`entropy_clamp`), the mean that it is compared with (`mean`), the place of shaping terms (`shaping`) and the treatment
of a group that is all right or all wrong (`dead_groups`). `decisions/0008` says which to take.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Bool, Float
from torch import Tensor

from research.component import require
from research.credit.advantage import Advantage
from research.credit.moments import Deviation, z_scores
from research.types import over_tokens


@dataclass(frozen=True, kw_only=True)
class EntropyShaping(Deviation):
    """The readings of the paper, for tokens (GTPO) and for whole completions (GRPO-S).

    An entropy is a token's, or the mean over a completion's tokens; α is called β in the paper's GRPO-S.
    """

    alpha1: float = 1.0
    """α1 (β1), reward units, at least 0: the reward of being right, the penalty of being wrong. The paper: 1."""
    alpha2: float = 0.1
    """α2 (β2), reward units, at least 0: the mean bonus for entropy. The paper: 0.1."""
    entropy_floor: float = 1e-6
    """Entropies below it count as this, nats, above 0; 1/H is then at most its inverse. The paper gives no value."""
    entropy_clamp: tuple[float, float] | None
    """Bounds that entropies are clamped to, nats, or null. One replication reads the paper's 0.2 and 0.28 so."""
    entropy_scope: Literal["group", "batch"]
    """The completions whose entropies are compared: the group's (eqs. 3 and 9) or the update batch's (§4)."""
    norm_scope: Literal["group", "batch"]
    """The completions whose shaped rewards are normalized together: the group's or the update batch's."""
    norm_set: Literal["polarity", "zero_filled", "pooled"]
    """R̃ (R̂): one polarity alone; all tokens (completions), those of the other polarity as 0; all as they are."""
    mean: Literal["arithmetic", "geometric"]
    """The mean that an entropy is compared with: Σ H / d, or (Π H)^(1/d) (appendix C); d completions are summed."""
    shaping: Literal["scaled", "added"]
    """Form in which rewards − outcomes enter: times α1, or as they are. UNCONFIRMED: the paper does not say."""
    dead_groups: Literal["skip", "keep"]
    """A group all right or all wrong gets exactly 0 and is in no sum (`skip`), or trains (`keep`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name, clamp = type(self).__name__, self.entropy_clamp
        require(self.alpha1 >= 0, f"{name}: alpha1 is at least 0, got {self.alpha1}")
        require(self.alpha2 >= 0, f"{name}: alpha2 is at least 0, got {self.alpha2}")
        require(self.entropy_floor > 0, f"{name}: entropy_floor is above 0, got {self.entropy_floor}")
        require(
            clamp is None or 0 < clamp[0] <= clamp[1],
            f"{name}: entropy_clamp is null or two bounds above 0, the lower one first, got {clamp}",
        )


@dataclass(frozen=True, kw_only=True)
class EntropyShapedTokens(EntropyShaping, Advantage):
    """GTPO: a token's shaped reward, positive in right completions and negative in wrong ones, normalized.

        Ã_{i,t} = (r̃_{i,t} − mean(R̃)) / (std(R̃) + ε)
        r̃_{i,t} = α1 + α2 · H_{i,t} / Σ_k H_{k,t} · d_t            if o_i is right
        r̃_{i,t} = −α1 − α2 · (1/H_{i,t}) / Σ_k (1/H_{k,t}) · h_t   if o_i is wrong

    k runs over the right (wrong) completions with a token t; d_t (h_t) is how many there are. The paper's r_i is 1 for
    a right completion, whatever the verifiers pay. The paper adds a small ε to its denominators; here an entropy has a
    floor, which keeps every column's sum exactly (α1 + α2)·d_t. Sums and statistics over nothing give 0.

    Args:
        right: whether every verifier accepted the completion [N G].
        outcomes: the verifiers' reward, before shaping [N G], task units.
        rewards: outcomes plus shaping [N G], task units; read for their difference alone.
        entropies: of the policy that sampled, over the whole vocabulary [B T], nats; constant in θ.
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], in standard deviations, 0 on padding.

    Raises: ValueError if ddof is not 0 or 1, if eps or a coefficient is negative, or if entropy_floor or the clamp is
        not above 0.

    Source: Tan et al. 2025, GTPO, eqs. 3–6 and appendix C (arXiv:2508.04349).

    Example:
        >>> from torch import tensor
        >>> advantage = EntropyShapedTokens(
        ...     ddof=0, eps=0.0, entropy_scope="group", norm_scope="group", norm_set="pooled", entropy_clamp=None,
        ...     mean="arithmetic", shaping="scaled", dead_groups="skip")
        >>> advantage(right=tensor([[True, False]]), outcomes=tensor([[1.0, 0.0]]), rewards=tensor([[1.0, 0.0]]),
        ...     entropies=tensor([[2.0], [1.0]]), mask=tensor([[True], [True]]))
        tensor([[ 1.],
                [-1.]])
    """

    per_completion: ClassVar[bool] = False

    @property
    def centred(self) -> bool:
        return self.dead_groups == "skip"

    def __call__(
        self,
        *,
        right: Bool[Tensor, "N G"],
        outcomes: Float[Tensor, "N G"],
        rewards: Float[Tensor, "N G"],
        entropies: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        by_group = (*right.shape, mask.shape[1])
        extra = rewards.double() - outcomes.double()
        shaped = _shaped(self, right, extra, entropies.reshape(by_group), mask.reshape(by_group))
        return shaped.reshape(mask.shape).float()


@dataclass(frozen=True, kw_only=True)
class EntropyShapedSequences(EntropyShaping, Advantage):
    """GRPO-S: a completion's shaped reward, by the mean entropy of its tokens, normalized.

        Â_i = (r̂_i − mean(R̂)) / (std(R̂) + ε),  Ĥ_i = mean_t H_{i,t}
        r̂_i = β1 + β2 · Ĥ_i / Σ_k Ĥ_k · n            if o_i is right
        r̂_i = −β1 − β2 · (1/Ĥ_i) / Σ_k (1/Ĥ_k) · m   if o_i is wrong

    k runs over the n right (m wrong) completions. β1 and β2 are called α1 and α2 here, and the choices of
    `EntropyShapedTokens` hold here too. With `mean: geometric`, Ĥ_i stays the arithmetic mean of its tokens and is
    compared with the geometric mean over completions (UNCONFIRMED: read from the token form of appendix C).

    Args:
        right: whether every verifier accepted the completion [N G].
        outcomes: the verifiers' reward, before shaping [N G], task units.
        rewards: outcomes plus shaping [N G], task units; read for their difference alone.
        entropies: of the policy that sampled, over the whole vocabulary [B T], nats; constant in θ.
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], in standard deviations, 0 on padding.

    Raises: ValueError if ddof is not 0 or 1, if eps or a coefficient is negative, or if entropy_floor or the clamp is
        not above 0.

    Source: Tan et al. 2025, GRPO-S, eqs. 8 and 9, and appendix C (arXiv:2508.04349).

    Example:
        >>> from torch import tensor
        >>> advantage = EntropyShapedSequences(
        ...     ddof=0, eps=0.0, entropy_scope="group", norm_scope="group", norm_set="pooled", entropy_clamp=None,
        ...     mean="arithmetic", shaping="scaled", dead_groups="skip")
        >>> advantage(right=tensor([[True, False]]), outcomes=tensor([[1.0, 0.0]]), rewards=tensor([[1.0, 0.0]]),
        ...     entropies=tensor([[2.0], [1.0]]), mask=tensor([[True], [True]]))
        tensor([[ 1.],
                [-1.]])
    """

    @property
    def centred(self) -> bool:
        return self.dead_groups == "skip"

    def __call__(
        self,
        *,
        right: Bool[Tensor, "N G"],
        outcomes: Float[Tensor, "N G"],
        rewards: Float[Tensor, "N G"],
        entropies: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        one_column, tokens = (*right.shape, 1), mask.sum(-1)
        mean_entropy = entropies.double().where(mask, 0.0).sum(-1) / tokens.clamp(min=1)
        extra = rewards.double() - outcomes.double()
        shaped = _shaped(self, right, extra, mean_entropy.reshape(one_column), (tokens > 0).reshape(one_column))
        return over_tokens(shaped.squeeze(-1), mask)


def _shaped(
    settings: EntropyShaping,
    right: Bool[Tensor, "N G"],
    extra: Float[Tensor, "N G"],
    entropies: Float[Tensor, "N G T"],
    mask: Bool[Tensor, "N G T"],
) -> Float[Tensor, "N G T"]:
    """Ã, in float64: shaped rewards of each polarity, normalized; GRPO-S is the case of one column."""
    known = ~extra.isnan()
    mask = mask & known[..., None]
    if settings.dead_groups == "skip":
        mask = mask & ((right & known).any(-1) & (~right & known).any(-1))[:, None, None]
    won, lost = mask & right[..., None], mask & ~right[..., None]
    H = entropies.double() if settings.entropy_clamp is None else entropies.double().clamp(*settings.entropy_clamp)
    H = H.clamp(min=settings.entropy_floor)
    base, bonus = settings.alpha1, settings.alpha2
    more = (extra * base if settings.shaping == "scaled" else extra)[..., None]
    plus = (base + more + bonus * _over_column_mean(settings, H, won)).where(won, 0.0)
    minus = (-base + more - bonus * _over_column_mean(settings, 1.0 / H, lost)).where(lost, 0.0)
    if settings.norm_set == "pooled":
        return _normalized(settings, plus + minus, mask)
    sets = (won, lost) if settings.norm_set == "polarity" else (mask, mask)
    return _normalized(settings, plus, sets[0]) * won + _normalized(settings, minus, sets[1]) * lost


def _over_column_mean(
    settings: EntropyShaping,
    values: Float[Tensor, "N G T"],
    counts: Bool[Tensor, "N G T"],
) -> Float[Tensor, "N G T"]:
    """Each value over the mean of its column: x / Σ_k x_k · d_t, or over the column's geometric mean.

    Of a column in which nothing counts it is 0/0, which the caller fills.
    """
    dims = (1,) if settings.entropy_scope == "group" else (0, 1)
    x = values if settings.mean == "arithmetic" else values.log()
    mean = x.where(counts, 0.0).sum(dims, keepdim=True) / counts.sum(dims, keepdim=True)
    return values / (mean if settings.mean == "arithmetic" else mean.exp())


def _normalized(
    settings: EntropyShaping,
    values: Float[Tensor, "N G T"],
    counts: Bool[Tensor, "N G T"],
) -> Float[Tensor, "N G T"]:
    dims = (1, 2) if settings.norm_scope == "group" else (0, 1, 2)
    return z_scores(values, counts, dims, ddof=settings.ddof, eps=settings.eps)
