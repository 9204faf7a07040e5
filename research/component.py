"""Components: each trick is a frozen, keyword-only dataclass whose `__call__` is its equation.

The arguments of `__call__` are the tensors of the equation, by the names in `QUANTITIES`. They also declare the
component's needs: a quantity is computed, and the reference model built, only if some component of the recipe names it.
"""

from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, signature
from typing import Any, ClassVar

from torch import Tensor

from research.errors import require

__all__ = ["QUANTITIES", "Component", "apply", "needs_of", "require"]

QUANTITIES: Mapping[str, str] = {
    "mask": "bool [B T], True where a completion token counts: it is the policy's own, neither padding nor a tool's",
    "lengths": "int [N G], completion tokens, the end token and a tool's included",
    "truncated": "bool [B], the completion was cut at the limit",
    "token_ids": "int [B T], the completions' tokens; 0 on padding",
    "right": "bool [N G], whether every verifier accepted the completion",
    "outcomes": "[N G], the verifiers' reward, before shaping",
    "rewards": "[N G], outcomes plus shaping",
    "columns": "[K N G], each verifier's and each shaping term's own reward; rewards are their sum",
    "targets": "[N G], tokens that the prompt asks for",
    "step_rewards": "[B T], a step's reward on its last token, 0 elsewhere",
    "step_ends": "bool [B T], True on the last token of a step",
    "token_rewards": "[B T], rewards of single tokens, beyond the completion's",
    "values": "[B T], the critic's estimate of the rewards still to come before token t is chosen",
    "uniform": "[B T], independent draws from [0, 1), seeded by run and step",
    "advantages": "[B T], credit after the baseline",
    "covariances": "[B T], (log π_old − mean)(Â − mean) over the update batch",
    "covariance_rank": "[B T], share of the update batch's tokens whose covariance is higher; in [0, 1)",
    "entropy_coefficient": "[], the coefficient that an adaptive entropy bonus has come to",
    "logprobs": "[B T], nats, the policy now (the only one with a gradient)",
    "old_logprobs": "[B T], nats, the trainer's own at the rollout's weights",
    "rollout_logprobs": "[B T], nats, the sampler's",
    "ref_logprobs": "[B T], nats, the frozen reference policy's",
    "entropies": "[B T], nats, −Σ_v p log p over the whole vocabulary",
    "ratio": "[B T], exp(logprobs − old_logprobs) in the recipe's reduction",
}


class Settings:
    """Base of what a recipe sets: of components, and of the fields that several of them share.

    Shared fields are a frozen, keyword-only dataclass below this class, without an equation; a component names it
    before its slot. Every `__post_init__` first calls the next class's, so that all fields are checked.
    """

    def __post_init__(self) -> None:
        """Refuse fields outside their range.

        Raises: ValueError that names the field and its range.
        """


class Component(Settings, ABC):
    """Base of every slot's abstract class."""

    __call__: ClassVar[Callable[..., Any]]

    @classmethod
    def needs(cls) -> frozenset[str]:
        """The quantities that the equation names: the parameters of `__call__`."""
        parameters = list(signature(cls.__call__).parameters.values())[1:]
        return frozenset(p.name for p in parameters if p.kind is not Parameter.VAR_KEYWORD)


def needs_of(components: Iterable[Component]) -> frozenset[str]:
    """The union of what the components need."""
    return frozenset().union(*(component.needs() for component in components))


def apply(component: Component, quantities: Mapping[str, Tensor]) -> Tensor:
    """Evaluate the component's equation on the quantities that it names."""
    return component(**{name: quantities[name] for name in component.needs()})
