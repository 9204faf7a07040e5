"""The KL slot: a penalty that keeps the policy near the reference.

The estimators k1, k2 and k3 agree in expectation or nearly so, but their gradients do not: that of k1 is 0 in
expectation, that of k3 is the forward KL's, and only k2's is the reverse KL's. `gradient: kl` keeps the value of an
estimator and takes the reverse KL's gradient.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from research.component import Component, Settings, require
from research.objective.ratio import log_ratio


class KL(Component):
    """β·kl [B T]: a token's penalty; subtracted from its gain, weighted by c alone."""


@dataclass(frozen=True, kw_only=True)
class Beta(Settings):
    """The coefficient of a KL penalty."""

    beta: float
    """β, reward per nat; above 0. DeepSeekMath: 0.04, with k3; KL-Cov's paper: 1, and 0.1 in verl."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, f"{type(self).__name__}: beta is above 0, got {self.beta}; for no penalty use NoKL")


def _with_gradient(
    value: Float[Tensor, "B T"],
    gradient: Literal["value", "kl"],
    *,
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    ref_logprobs: Float[Tensor, "B T"],
) -> Float[Tensor, "B T"]:
    """The value, with its own gradient or with ρ log(π_θ/π_ref) ∇ log π_θ, in expectation that of KL(π_θ ‖ π_ref)."""
    if gradient == "value":
        return value
    ratio = log_ratio(logprobs, old_logprobs).exp()
    force = ratio * log_ratio(logprobs, ref_logprobs)
    return value.detach() + force.detach() * (logprobs - logprobs.detach())


@dataclass(frozen=True, kw_only=True)
class NoKL(KL):
    """No penalty, and no reference model.

        kl_{i,t} = 0

    Args:
        logprobs: the policy now [B T], nats.

    Returns: zeros [B T].

    Source: Yu et al. 2025, DAPO, §2.3 (arXiv:2503.14476).

    Example:
        >>> from torch import tensor
        >>> NoKL()(logprobs=tensor([[-1.0]]))
        tensor([[0.]])
    """

    def __call__(self, *, logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return torch.zeros_like(logprobs)


@dataclass(frozen=True, kw_only=True)
class K1(Beta, KL):
    """The plain estimator, unbiased and noisy.

        kl_{i,t} = β · log(π_θ/π_ref)

    Its own gradient is β ∇ log π_θ, which is 0 in expectation whatever the reference: with `gradient: value` it adds
    noise and holds the policy to nothing. With `gradient: kl` it is what k1 subtracted from the reward does.

    Args:
        logprobs: the policy now [B T], nats.
        old_logprobs: the trainer's at the rollout's weights [B T], nats; only `gradient: kl` reads it.
        ref_logprobs: the frozen reference's [B T], nats.

    Returns: penalties [B T] of either sign, in β·nats. log(π_θ/π_ref) is clamped at ±20, where its gradient stops.

    Raises: ValueError if beta ≤ 0 (use NoKL for no penalty).

    Source: Schulman 2020, Approximating KL Divergence (joschu.net/blog/kl-approx.html).

    Example:
        >>> from torch import tensor
        >>> now, reference = tensor([[0.0]]), tensor([[1.0]])
        >>> K1(beta=1.0, gradient="kl")(logprobs=now, old_logprobs=now, ref_logprobs=reference)
        tensor([[-1.]])
    """

    gradient: Literal["value", "kl"]
    """`value`: the estimator's own; `kl`: ρ · log(π_θ/π_ref) · ∇ log π_θ, the reverse KL's."""

    def __call__(
        self,
        *,
        logprobs: Float[Tensor, "B T"],
        old_logprobs: Float[Tensor, "B T"],
        ref_logprobs: Float[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        value = log_ratio(logprobs, ref_logprobs)
        return self.beta * _with_gradient(
            value, self.gradient, logprobs=logprobs, old_logprobs=old_logprobs, ref_logprobs=ref_logprobs
        )


@dataclass(frozen=True, kw_only=True)
class K2(Beta, KL):
    """Half the squared log-ratio: a biased value, with the reverse KL's gradient on policy.

        kl_{i,t} = β · 1/2 · log(π_θ/π_ref)²

    Args:
        logprobs: the policy now [B T], nats.
        ref_logprobs: the frozen reference's [B T], nats.

    Returns: penalties [B T] ≥ 0, in β·nats. log(π_θ/π_ref) is clamped at ±20, where the gradient stops.

    Raises: ValueError if beta ≤ 0 (use NoKL for no penalty).

    Source: Schulman 2020, Approximating KL Divergence (joschu.net/blog/kl-approx.html); Hu et al. 2025, REINFORCE++
    with a baseline (arXiv:2501.03262).

    Example:
        >>> from torch import tensor
        >>> K2(beta=1.0)(logprobs=tensor([[0.0]]), ref_logprobs=tensor([[1.0]]))
        tensor([[0.5000]])
    """

    def __call__(self, *, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return self.beta / 2 * log_ratio(logprobs, ref_logprobs) ** 2


@dataclass(frozen=True, kw_only=True)
class K3(Beta, KL):
    """The non-negative, low-variance estimator.

        kl_{i,t} = β · ( π_ref/π_θ − log(π_ref/π_θ) − 1 )

    The papers differentiate it as it stands (`gradient: value`), which on policy is the forward KL's gradient.

    Args:
        logprobs: the policy now [B T], nats.
        old_logprobs: the trainer's at the rollout's weights [B T], nats; only `gradient: kl` reads it.
        ref_logprobs: the frozen reference's [B T], nats.

    Returns: penalties [B T] ≥ 0, in β·nats. log(π_ref/π_θ) is clamped at ±20, where its own gradient stops.

    Raises: ValueError if beta ≤ 0 (use NoKL for no penalty).

    Source: Shao et al. 2024, GRPO, eq. 4 (arXiv:2402.03300).

    Example:
        >>> from torch import tensor
        >>> now, reference = tensor([[0.0]]), tensor([[1.0]])
        >>> K3(beta=1.0, gradient="value")(logprobs=now, old_logprobs=now, ref_logprobs=reference)
        tensor([[0.7183]])
    """

    gradient: Literal["value", "kl"]
    """`value`: the estimator's own, as the papers write it; `kl`: ρ · log(π_θ/π_ref) · ∇ log π_θ, the reverse KL's."""

    def __call__(
        self,
        *,
        logprobs: Float[Tensor, "B T"],
        old_logprobs: Float[Tensor, "B T"],
        ref_logprobs: Float[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        d = log_ratio(ref_logprobs, logprobs)
        return self.beta * _with_gradient(
            torch.expm1(d) - d,
            self.gradient,
            logprobs=logprobs,
            old_logprobs=old_logprobs,
            ref_logprobs=ref_logprobs,
        )
