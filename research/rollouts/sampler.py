"""The sampler slot: an engine that completes prompts with the current weights of the policy."""

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
    """Settings with which completions are drawn."""

    max_tokens: int
    """Longest completion, in tokens, at least 1; one that has not ended by then is truncated."""
    temperature: float = 1.0
    """Divisor of the logits, above 0. `rollout_logprobs` are computed after it."""
    top_p: float = 1.0
    """Keeps the smallest set of tokens with this much probability; in (0, 1]."""
    top_k: int = 0
    """Keeps this many tokens, the most probable ones; 0 keeps all."""
    stop: tuple[str, ...] = ()
    """Stop strings: a completion ends with the first of them that it contains, as with an end token."""

    def __post_init__(self) -> None:
        require(self.max_tokens >= 1, f"Decoding: max_tokens is at least 1, got {self.max_tokens}")
        require(self.temperature > 0, f"Decoding: temperature is above 0, got {self.temperature}")
        require(0 < self.top_p <= 1, f"Decoding: top_p is in (0, 1], got {self.top_p}")
        require(self.top_k >= 0, f"Decoding: top_k is at least 0, got {self.top_k}")
        require(all(self.stop), f"Decoding: a stop string has at least one character, got {list(self.stop)}")

    @property
    def truncates(self) -> bool:
        """True if top-p or top-k excludes tokens, so that the sampler's distribution is not the policy's."""
        return self.top_p < 1 or self.top_k > 0

    def within(self, prompt: Prompt) -> "Decoding":
        """The same settings for one prompt, which may have room for fewer tokens."""
        return replace(self, max_tokens=min(self.max_tokens, prompt.room)) if isinstance(prompt, Turn) else self


@dataclass(frozen=True, kw_only=True)
class Turn(Prompt):
    """A prompt together with an unfinished completion, which the sampler continues."""

    token_ids: tuple[int, ...]
    """Tokens of prompt and completion; tokenizing the text again could give different ones."""
    room: int
    """Tokens left until the completion is truncated; at least 1. A sampler may still draw `Decoding.max_tokens`."""


def prompt_tokens(prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The tokens that the policy reads before it completes each prompt."""
    return [
        list(prompt.token_ids) if isinstance(prompt, Turn) else list(tokenizer(prompt.text)["input_ids"])
        for prompt in prompts
    ]


def text_of(token_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The decoded text of tokens, without special tokens."""
    return cast(str, tokenizer.decode(list(token_ids), skip_special_tokens=True))


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the tokenizer's end token."""
    found = tokenizer.eos_token_id
    assert isinstance(found, int), "the policy's tokenizer has one end token"
    return found


class Sampler(ABC):
    """An engine that samples groups.

    An engine that samples with the policy's own parameters needs `attach` and `sample` only. An engine with weights of
    its own copies the policy's in `sync`, and `tolerance` says how closely its log-probabilities must then agree.
    """

    tolerance: float | None = None
    """Largest accepted difference to the policy's log-probability of a token, in nats; None for shared parameters."""
    tool: Tool | None = None
    """The tool that the policy may call in a completion; None for no tool."""

    @property
    def engine(self) -> "Sampler":
        """The sampler that draws the tokens: this one, or the one that it wraps."""
        return self

    @abstractmethod
    def attach(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        """Sample from this model from now on."""

    def sync(self, version: int) -> Mapping[str, float]:
        """Give the engine the current weights of the model, and wake it if it sleeps. Every rank calls it.

        Args:
            version: a number that changes whenever the weights do.

        Returns: metrics of the transfer.
        """
        return {}

    def sleep(self) -> None:  # noqa: B027 (most samplers have nothing to do here)
        """Free device memory for the update, until the next `sync`."""

    def close(self) -> None:  # noqa: B027
        """Release everything that the sampler has started."""

    @abstractmethod
    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        """Draw n completions of each prompt, in the order of the prompts; the same call gives the same groups."""
