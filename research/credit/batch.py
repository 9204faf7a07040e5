"""Advantages whose scale is the update batch's: no prompt counts more because its own rewards lie close together."""

from dataclasses import dataclass
from math import nan
from typing import ClassVar, Literal

from jaxtyping import Bool, Float
from torch import Tensor

from research.component import require
from research.credit.advantage import Advantage, centred_in_group
from research.credit.moments import Deviation, deviation, to_go, whitened, z_scores
from research.types import over_tokens


@dataclass(frozen=True, kw_only=True)
class BatchScaled(Deviation, Advantage):
    """Reward minus the group's mean, over the standard deviation of the update batch's rewards.

        Â_{i,t} = (r_i − mean_group(r)) / (std_batch(r) + ε)

    The deviation is that of the rewards themselves, so the prompts' differences in difficulty are part of it. A group
    whose rewards are all equal gets exactly 0.

    Args:
        rewards: shaped rewards [N G], task units; N·G > ddof.
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], in standard deviations of the batch, 0 on padding.

    Raises: ValueError if ddof is not 0 or 1, if eps < 0, or if the batch is too small for ddof.

    Source: Liu et al. 2025, Lite PPO (arXiv:2508.08221); TRL, grpo_trainer.py, scale_rewards="batch".

    Example:
        >>> from torch import tensor
        >>> BatchScaled(ddof=0, eps=0.0)(rewards=tensor([[2.0, 0.0], [1.0, 1.0]]), mask=tensor([[True]] * 4)).flatten()
        tensor([ 1.4142, -1.4142,  0.0000,  0.0000])
    """

    def __call__(self, *, rewards: Float[Tensor, "N G"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        B = rewards.numel()
        require(self.ddof < B, f"BatchScaled: ddof={self.ddof} needs at least {self.ddof + 1} completions, got {B}")
        std = deviation(rewards, (0, 1), self.ddof) + self.eps
        return over_tokens(centred_in_group(rewards) / std.masked_fill(std == 0, 1.0), mask)


@dataclass(frozen=True, kw_only=True)
class BatchWhitened(Advantage):
    """Reward, minus the group's mean or not, whitened over the update batch.

        Â_{i,t} = (x_i − mean_batch(x)) / √(var_batch(x) + 1e-8),  x_i = r_i or r_i − mean_group(r)

    The variance is the sample one. Over completions the mean of r − mean_group(r) is 0, so a group whose rewards are
    all equal gets exactly 0; over tokens it is not, and such a group does not. All rewards of the batch equal give 0.

    Args:
        rewards: shaped rewards [N G], task units.
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], in standard deviations of the batch, 0 on padding.

    Source: Hu et al. 2025, REINFORCE++, with a group baseline (arXiv:2501.03262); verl, core_algos.py (tokens).

    Example:
        >>> from torch import tensor
        >>> whiten = BatchWhitened(baseline="group", weighting="completions")
        >>> whiten(rewards=tensor([[2.0, 0.0], [1.0, 1.0]]), mask=tensor([[True]] * 4)).flatten()
        tensor([ 1.2247, -1.2247,  0.0000,  0.0000])
    """

    baseline: Literal["none", "group"]
    """Subtracted before whitening: nothing (`none`), or the mean of the `group`."""
    weighting: Literal["completions", "tokens"]
    """Unit of the batch's mean and variance: each completion counts once, or once for each of its tokens."""

    @property
    def centred(self) -> bool:
        return self.baseline == "group" and self.weighting == "completions"

    def __call__(self, *, rewards: Float[Tensor, "N G"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        x, known = rewards if self.baseline == "none" else centred_in_group(rewards), ~rewards.isnan()
        if self.weighting == "tokens":
            return whitened(over_tokens(x, mask), mask & known.reshape(-1, 1))
        return over_tokens(whitened(x, known, shift=not self.centred), mask)


@dataclass(frozen=True, kw_only=True)
class WhitenedReturns(Advantage):
    """The rewards still to come, token by token, whitened over the update batch.

        Â_{i,t} = (R_{i,t} − mean(R)) / √(var(R) + 1e-8),  R_{i,t} = r_i + Σ_{k ≥ t} r_{i,k}

    There is no discount and no baseline but the batch's mean. Mean and sample variance are over the batch's tokens; all
    returns equal give 0.

    Args:
        rewards: shaped rewards of whole completions [N G], task units; each comes after its last token.
        token_rewards: rewards of single tokens [B T], task units; the paper: −β·(log π_old − log π_ref).
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], in standard deviations of the batch, 0 on padding.

    Source: Hu et al. 2025, REINFORCE++ (arXiv:2501.03262); verl, core_algos.py, for the variance.

    Example:
        >>> from torch import tensor
        >>> WhitenedReturns()(rewards=tensor([[1.0]]), token_rewards=tensor([[2.0, 0.0]]), mask=tensor([[True, True]]))
        tensor([[ 0.7071, -0.7071]])
    """

    per_completion: ClassVar[bool] = False

    @property
    def centred(self) -> bool:
        return False

    def __call__(
        self,
        *,
        rewards: Float[Tensor, "N G"],
        token_rewards: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        known = ~rewards.isnan().reshape(-1, 1)
        return whitened(over_tokens(rewards, mask) + to_go(token_rewards.float() * mask), mask & known)


@dataclass(frozen=True, kw_only=True)
class EachZScore(Deviation, Advantage):
    """Every reward column normalized in its group by itself, then a weighted sum, scaled by the update batch.

        Â_{i,t} = s_i / (std_batch(s) + ε),  s_i = Σ_k ω_k (r_{k,i} − mean_group(r_k)) / (std_group(r_k) + ε)

    A sum of plain rewards is ruled by the column of the largest spread; here all have the same. The mean of s over the
    batch is 0 by construction. A group in which no column varies gets exactly 0; one whose columns merely add up to
    equal rewards need not.

    Args:
        columns: each verifier's, reward function's and shaping term's own reward [K N G], task units; G > ddof.
        mask: True where a completion token counts [B T].

    Returns: advantages [B T], in standard deviations of the batch, 0 on padding.

    Raises: ValueError if ddof is not 0 or 1, if eps < 0, if there are not as many weights as columns, or if a group is
        too small for ddof.

    Source: Liu et al. 2026, GDPO, without the weights (arXiv:2601.05242); TRL, grpo_trainer.py, normalize_then_sum.

    Example:
        >>> from torch import tensor
        >>> each = EachZScore(ddof=0, eps=0.0, column_weights=None)
        >>> each(columns=tensor([[[1.0, 0.0]], [[0.2, 0.1]]]), mask=tensor([[True], [True]]))
        tensor([[ 1.],
                [-1.]])
    """

    column_weights: tuple[float, ...] | None
    """ω, one a column: verifiers, reward functions, shaping terms, in the recipe's order; null is 1 for each."""

    @property
    def centred(self) -> bool:
        return False

    def __call__(self, *, columns: Float[Tensor, "K N G"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        K, _, G = columns.shape
        weights = (1.0,) * K if self.column_weights is None else self.column_weights
        require(len(weights) == K, f"EachZScore: {len(weights)} column_weights for {K} reward columns")
        require(self.ddof < G, f"EachZScore: ddof={self.ddof} needs groups of at least {self.ddof + 1} completions")
        known = ~columns.isnan()
        parts = z_scores(columns, known, (2,), ddof=self.ddof, eps=self.eps)
        total = (parts * parts.new_tensor(weights)[:, None, None]).sum(0)
        std = deviation(total.where(known.all(0), nan), (0, 1), self.ddof) + self.eps
        return over_tokens(total / std.masked_fill(std == 0, 1.0), mask)
