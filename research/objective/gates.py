"""The gate slot: which tokens gain, decided at the policy now. A recipe lists any number; they are multiplied."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from research.component import Component, require


class Gate(Component):
    """g [B T] in {0, 1}: what a token's gain is multiplied by; it carries no gradient."""


@dataclass(frozen=True, kw_only=True)
class OffPolicyMask(Gate):
    """A punished completion that has become improbable gains nothing more.

        g_{i,t} = 0 if Â_{i,t} < 0 and 1/|o_i| Σ_t log(π_old(o_{i,t}) / π_θ(o_{i,t})) > δ, else 1

    The paper was read from a summary and from TRL, which measures from the sampler's log-probabilities where it has
    them; here it is the trainer's own, so that only the policy's movement counts.

    Args:
        logprobs: the policy now [B T], nats; read without its gradient.
        old_logprobs: the trainer's at the rollout's weights [B T], nats.
        advantages: Â [B T].
        mask: True where a completion token counts [B T].

    Returns: gates [B T] in {0, 1}.

    Raises: ValueError if delta ≤ 0.

    Source: DeepSeek-AI et al. 2025, DeepSeek-V3.2, eq. 9 (arXiv:2512.02556).

    Example:
        >>> from torch import tensor
        >>> now, old, mask = tensor([[-3.0], [-3.0]]), tensor([[-1.0], [-1.0]]), tensor([[True], [True]])
        >>> gate = OffPolicyMask(delta=0.5)
        >>> gate(logprobs=now, old_logprobs=old, advantages=tensor([[1.0], [-1.0]]), mask=mask)
        tensor([[1.],
                [0.]])
    """

    delta: float
    """δ, nats a token; above 0. TRL's example: 0.5; the paper's value is unconfirmed."""

    def __post_init__(self) -> None:
        require(self.delta > 0, f"OffPolicyMask: delta is above 0 nats, got {self.delta}")

    def __call__(
        self,
        *,
        logprobs: Float[Tensor, "B T"],
        old_logprobs: Float[Tensor, "B T"],
        advantages: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T"]:
        fall = (old_logprobs - logprobs.detach()).masked_fill(~mask, 0.0)
        mean = fall.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
        return (~((advantages < 0) & (mean > self.delta))).to(logprobs.dtype)
