"""The nouns: prompt, completion, group, rollouts, update batch.

Axes: N prompts, G completions a prompt, B = N·G rows (row n·G + g is completion g of prompt n), T completion tokens.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isnan
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text given to the policy, with the reference answer that verifies its completions."""

    id: str
    """Unique within its source; names the prompt in results."""
    text: str
    """What the policy reads, before tokenization."""
    answer: str
    """The reference answer, as the verifier expects it."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything else the source knows: difficulty, level, the row it came from. Four names are read by others:
    `target`, tokens that the text asks for; `solution`, a reference solution to imitate; `steps`, what each step of a
    completion may say; `question`, what is asked, where the text says more."""

    @property
    def question(self) -> str:
        """What is asked, without the template, the length and the chat markup around it."""
        return str(self.meta.get("question", self.text))


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """What a tool wrote into a completion, where the policy called it."""

    start: int
    """The index of the tool's first token among the completion's."""
    tokens: int
    """How many tokens the tool wrote; fewer than its whole answer where the limit cut it."""
    failed: bool
    """Whether the answer says that there is none."""

    def cut(self, limit: int) -> "ToolCall":
        """The same in a completion that is cut after `limit` tokens; it starts before that."""
        return replace(self, tokens=min(self.tokens, limit - self.start))


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the sampler generated for one prompt."""

    token_ids: tuple[int, ...]
    """The tokens, the end token included when there is one; at least one token. A tool's are among them."""
    rollout_logprobs: tuple[float, ...]
    """The sampler's log-probability of each token, after temperature and truncation; nats. 0 for a tool's token."""
    text: str
    """The decoded tokens without special tokens."""
    finish_reason: Literal["stop", "length"]
    """`stop`: the policy ended it; `length`: it was cut at the limit, i.e. truncated."""
    tool_calls: tuple[ToolCall, ...] | None = None
    """In order; None where the policy had no tool to call."""

    @property
    def own(self) -> tuple[bool, ...]:
        """Whether each token is the policy's own, and not a tool's."""
        return own_tokens(len(self.token_ids), self.tool_calls or ())

    @property
    def truncated(self) -> bool:
        """Whether the limit cut it."""
        return self.finish_reason == "length"


@dataclass(frozen=True, kw_only=True)
class Group:
    """The G completions of one prompt and what is known about them from the moment of sampling."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    completions: tuple[Completion, ...]
    outcomes: tuple[float, ...] = ()
    """The reward of each completion before any shaping; NaN for one that could not be judged."""
    right: tuple[bool, ...] = ()
    """Whether every verifier accepted each completion."""
    columns: tuple[tuple[float, ...], ...] = ()
    """Each verifier's and reward function's own reward of each completion, in their order; NaN where the outcome is."""
    faults: tuple[str | None, ...] = ()
    """What kept a verifier or function from judging each completion, such as a timeout; empty if nothing did."""
    step_rewards: tuple[tuple[float | None, ...], ...] = ()
    """Where steps are verified: for each token of each completion, the reward of the step that ends there, or None."""
    annotations: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    """Per-token quantities of the policy that sampled the group, by name, one [T_i] for each completion."""
    step: int = 0
    """The step at which the group was sampled."""

    @property
    def scored(self) -> tuple[bool, ...]:
        """Whether each completion has a reward."""
        return tuple(not isnan(outcome) for outcome in self.outcomes)

    @property
    def known_outcomes(self) -> tuple[float, ...]:
        """The outcomes of the completions that have one."""
        return tuple(outcome for outcome in self.outcomes if not isnan(outcome))

    @property
    def length_errors(self) -> tuple[int, ...]:
        """How many tokens each completion is from the length that the prompt asks for; empty if it asks for none."""
        target = self.prompt.meta.get("target")
        return () if target is None else tuple(abs(target - len(c.token_ids)) for c in self.completions)


@dataclass(frozen=True, kw_only=True)
class UpdateBatch:
    """The rollouts of one step as tensors: all that `credit` reads and all that `objective` reads.

    `quantities` holds every tensor a component may name in its `__call__`: `mask`, `truncated`, `lengths`, `rewards`,
    `outcomes`, and, where some component needs them, `old_logprobs`, `rollout_logprobs`, `ref_logprobs`, `entropies`;
    after credit also `advantages`, `weights` and `coefficients`.
    """

    input_ids: Int[Tensor, "B S"]
    """Prompt and completion, right-padded."""
    prompt_lengths: Int[Tensor, " B"]
    lengths: Int[Tensor, " B"]
    """Completion tokens of each row, a tool's among them; `mask` leaves those out."""
    quantities: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        """The quantity called `name`."""
        return self.quantities[name]

    @property
    def gains(self) -> Bool[Tensor, " B"]:
        """Whether some token of the completion has an advantage and a weight other than 0; after credit."""
        return (self["advantages"] * self["weights"]).any(1)

    def with_quantities(self, **more: Tensor) -> "UpdateBatch":
        """The same rows with more named quantities."""
        return UpdateBatch(
            input_ids=self.input_ids,
            prompt_lengths=self.prompt_lengths,
            lengths=self.lengths,
            quantities={**self.quantities, **more},
        )

    def rows(self, index: Int[Tensor, " R"]) -> "UpdateBatch":
        """The rows named by `index`, cut to the longest row and longest completion among them.

        Quantities per group ([N G]) do not survive a selection of rows and are left behind; single numbers are kept.
        """
        lengths, prompt_lengths = self.lengths[index], self.prompt_lengths[index]
        width, span = (int(ends.max()) if len(ends) > 0 else 0 for ends in (lengths, lengths + prompt_lengths))
        B, T = self["mask"].shape
        kept = {}
        for name, value in self.quantities.items():
            if value.shape == (B, T):
                kept[name] = value[index, :width]
            elif value.shape == (B,):
                kept[name] = value[index]
            elif value.dim() == 0:
                kept[name] = value
        return UpdateBatch(
            input_ids=self.input_ids[index, :span], prompt_lengths=prompt_lengths, lengths=lengths, quantities=kept
        )


def own_tokens(count: int, calls: Iterable[ToolCall]) -> tuple[bool, ...]:
    """Whether each of so many tokens is the policy's own, and not a tool's.

    Example:
        >>> own_tokens(4, [ToolCall(start=1, tokens=2, failed=False)])
        (True, False, False, True)
    """
    own = [True] * count
    for call in calls:
        own[call.start : call.start + call.tokens] = [False] * call.tokens
    return tuple(own)


def length_mask(lengths: Int[Tensor, " B"]) -> Bool[Tensor, "B T"]:
    """True where there is a completion token: mask[i, t] = t < |o_i|, T = max |o_i|.

    Example:
        >>> length_mask(torch.tensor([1, 3]))
        tensor([[ True, False, False],
                [ True,  True,  True]])
    """
    return torch.arange(int(lengths.max()), device=lengths.device)[None, :] < lengths[:, None]


def over_tokens(per_completion: Float[Tensor, "N G"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Give every token of a completion the completion's value, and padding 0."""
    return per_completion.reshape(-1, 1).to(torch.float32).expand(mask.shape) * mask
