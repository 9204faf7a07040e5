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
    """The text that the policy reads, before tokenization."""
    answer: str
    """The reference answer, as the verifier expects it."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything else that the source knows, such as a level. Four names are read elsewhere: `target`, the tokens that
    the text asks for; `solution`, a reference solution to imitate; `steps`, the accepted texts of each step;
    `question`, the question alone, where the text holds more."""

    @property
    def question(self) -> str:
        """The question, without the template, the length and the chat markup around it."""
        return str(self.meta.get("question", self.text))


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """The text that a tool wrote into a completion, where the policy called it."""

    start: int
    """The index of the tool's first token among the completion's."""
    tokens: int
    """The number of tokens that the tool wrote; fewer than its whole answer where the limit cut it."""
    failed: bool
    """True if the tool had no result, and its text says so."""

    def cut(self, limit: int) -> "ToolCall":
        """The same call in a completion that is cut after `limit` tokens; it starts before the cut."""
        return replace(self, tokens=min(self.tokens, limit - self.start))


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One text that the sampler generated for a prompt."""

    token_ids: tuple[int, ...]
    """At least one token; the end token, if there is one, and a tool's tokens are among them."""
    rollout_logprobs: tuple[float, ...]
    """The sampler's log-probability of each token, nats, after temperature and truncation; 0 for a tool's token."""
    text: str
    """The decoded tokens without special tokens."""
    finish_reason: Literal["stop", "length"]
    """`stop`: the policy ended it; `length`: it was truncated at the limit."""
    tool_calls: tuple[ToolCall, ...] | None = None
    """The tool's texts, in order; None where the policy had no tool to call."""

    @property
    def own(self) -> tuple[bool, ...]:
        """True for each token of the policy's own, False for a tool's."""
        return own_tokens(len(self.token_ids), self.tool_calls or ())

    @property
    def truncated(self) -> bool:
        """True if it was cut at the limit."""
        return self.finish_reason == "length"


@dataclass(frozen=True, kw_only=True)
class Group:
    """The G completions of one prompt, with their verdicts and rewards once they are verified."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    completions: tuple[Completion, ...]
    outcomes: tuple[float, ...] = ()
    """The reward of each completion before any shaping; NaN for one that could not be judged."""
    right: tuple[bool, ...] = ()
    """True for each completion that every verifier accepted."""
    columns: tuple[tuple[float, ...], ...] = ()
    """The reward of each completion by each verifier and reward function, in their order; NaN where the outcome is."""
    faults: tuple[str | None, ...] = ()
    """The fault that kept each completion from being judged, such as a timeout, or None; empty without any fault."""
    step_rewards: tuple[tuple[float | None, ...], ...] = ()
    """The reward of the step that ends at each token of each completion, or None; empty unless steps are verified."""
    annotations: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    """Quantities of the policy that sampled the group, by name: one tensor [T_i] for each completion."""
    step: int = 0
    """The step at which the group was sampled."""

    @property
    def scored(self) -> tuple[bool, ...]:
        """True for each completion that has a reward."""
        return tuple(not isnan(outcome) for outcome in self.outcomes)

    @property
    def known_outcomes(self) -> tuple[float, ...]:
        """The outcomes of the completions that have one."""
        return tuple(outcome for outcome in self.outcomes if not isnan(outcome))

    @property
    def length_errors(self) -> tuple[int, ...]:
        """Tokens between each completion's length and the one that the prompt asks for; empty if it asks for none."""
        target = self.prompt.meta.get("target")
        return () if target is None else tuple(abs(target - len(c.token_ids)) for c in self.completions)


@dataclass(frozen=True, kw_only=True)
class UpdateBatch:
    """The rollouts of one step as tensors, as `credit` and `objective` read them.

    `quantities` holds every tensor that a component may name in its `__call__`: always `mask`, `truncated`, `lengths`,
    `rewards` and `outcomes`; `old_logprobs`, `rollout_logprobs`, `ref_logprobs` and `entropies` where some component
    needs them; after credit also `advantages`, `weights` and `coefficients`.
    """

    input_ids: Int[Tensor, "B S"]
    """Prompt and completion, right-padded."""
    prompt_lengths: Int[Tensor, " B"]
    lengths: Int[Tensor, " B"]
    """Completion tokens of each row; a tool's are counted here, and not in `mask`."""
    quantities: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        """The quantity called `name`."""
        return self.quantities[name]

    @property
    def gains(self) -> Bool[Tensor, " B"]:
        """True for each row with a token whose advantage and weight are not 0; known after credit."""
        return (self["advantages"] * self["weights"]).any(1)

    def with_quantities(self, **more: Tensor) -> "UpdateBatch":
        """A copy of the batch with more quantities."""
        return UpdateBatch(
            input_ids=self.input_ids,
            prompt_lengths=self.prompt_lengths,
            lengths=self.lengths,
            quantities={**self.quantities, **more},
        )

    def rows(self, index: Int[Tensor, " R"]) -> "UpdateBatch":
        """The rows at `index`, cut to the longest row and the longest completion among them.

        Quantities of rows and of tokens are selected, single numbers kept, and quantities of groups [N G] left out.
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
    """True for each of `count` tokens that the policy wrote, False for those of the tool's calls.

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
    """Spread each completion's value over its tokens; 0 on padding."""
    return per_completion.reshape(-1, 1).to(torch.float32).expand(mask.shape) * mask
