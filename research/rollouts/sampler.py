"""The sampler slot: an engine that completes prompts with the policy's current weights."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from torch import nn
from transformers import PreTrainedTokenizerBase

from research.component import require
from research.rollouts.tool import Tool
from research.types import Group, Prompt


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How completions are drawn."""

    max_tokens: int
    """A completion that reaches this many tokens without its end token is cut: truncated. At least 1."""
    temperature: float = 1.0
    """Divides the logits; above 0. `rollout_logprobs` are taken after it."""
    top_p: float = 1.0
    """Keeps the smallest set of tokens with this much probability; in (0, 1]."""
    top_k: int = 0
    """Keeps this many tokens, the most probable ones; 0 keeps all."""
    stop: tuple[str, ...] = ()
    """A completion ends with the first of these strings that it contains, as with an end token."""

    def __post_init__(self) -> None:
        require(self.max_tokens >= 1, f"Decoding: max_tokens is at least 1, got {self.max_tokens}")
        require(self.temperature > 0, f"Decoding: temperature is above 0, got {self.temperature}")
        require(0 < self.top_p <= 1, f"Decoding: top_p is in (0, 1], got {self.top_p}")
        require(self.top_k >= 0, f"Decoding: top_k is at least 0, got {self.top_k}")
        require(all(self.stop), f"Decoding: a stop string has at least one character, got {list(self.stop)}")

    @property
    def truncates(self) -> bool:
        """Whether some tokens can never be drawn, so that the sampler's distribution is not the policy's."""
        return self.top_p < 1 or self.top_k > 0

    def within(self, prompt: Prompt) -> "Decoding":
        """The same for one prompt, which may have room for fewer tokens."""
        return replace(self, max_tokens=min(self.max_tokens, prompt.room)) if isinstance(prompt, Turn) else self


@dataclass(frozen=True, kw_only=True)
class Turn(Prompt):
    """A prompt with its completion so far, to be gone on with."""

    token_ids: tuple[int, ...]
    """Of both: tokenizing the text again could give others."""
    room: int
    """Tokens until the completion is cut; at least 1. A sampler may draw up to `Decoding.max_tokens` all the same."""


def prompt_tokens(prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """What the policy reads before it completes each prompt."""
    return [
        list(prompt.token_ids) if isinstance(prompt, Turn) else list(tokenizer(prompt.text)["input_ids"])
        for prompt in prompts
    ]


def text_of(token_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of these tokens, without special tokens."""
    return cast(str, tokenizer.decode(list(token_ids), skip_special_tokens=True))


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the tokenizer's end token."""
    found = tokenizer.eos_token_id
    assert isinstance(found, int), "the policy's tokenizer has one end token"
    return found


class Sampler(ABC):
    """An engine that samples groups.

    One that samples with the policy's own parameters needs `attach` and `sample` only. One that keeps weights of its
    own takes them over in `sync`, and `tolerance` says how exactly its log-probabilities must then be the policy's.
    """

    tolerance: float | None = None
    """Largest gap, in nats, between its log-probability of a token and the policy's; None if they share parameters."""
    tool: Tool | None = None
    """What the policy may call while it writes."""

    @property
    def engine(self) -> "Sampler":
        """What draws the tokens: this sampler, or the one that it goes through."""
        return self

    @abstractmethod
    def attach(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        """Sample from this model from now on."""

    def sync(self, version: int) -> Mapping[str, float]:
        """Sample with the model's weights as they are now, which are of this version; what was measured on the way.

        Every rank calls it, and it wakes an engine that sleeps.
        """
        return {}

    def sleep(self) -> None:  # noqa: B027 (most samplers have nothing to do)
        """Leave the device's memory to the update, until the next `sync`."""

    def close(self) -> None:  # noqa: B027
        """End what was started."""

    @abstractmethod
    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        """n completions of each prompt, in the prompts' order; the same call gives the same groups."""
