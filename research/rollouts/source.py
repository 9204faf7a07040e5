"""The source slot: the origin of the completions that train."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy, deepcopy
from typing import ClassVar

from torch import nn
from transformers import PreTrainedTokenizerBase

from research.errors import UserError
from research.rollouts.sampler import Decoding, Sampler, end_token
from research.rollouts.tool import pieces_of, tokenized
from research.types import Completion, Group, Prompt


class Source(ABC):
    """Origin of the completions that train. Evaluation always samples the policy."""

    of_policy: ClassVar[bool] = False
    """True if the trained policy wrote the completions, so that a ratio to its log-probabilities has a meaning."""
    samples: ClassVar[bool] = True
    """True if a model samples the completions during the step, so that their tokens count as a cost."""

    @property
    def frozen(self) -> list[nn.Module]:
        """Models that the source keeps in memory beside the policy."""
        return []

    @abstractmethod
    def attach(self, sampler: Sampler, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        """Receive the sampler, the policy's model and its tokenizer, before training begins."""

    @abstractmethod
    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        """Give n completions of each prompt, in the order of the prompts; the same call gives the same groups."""


class CurrentPolicy(Source):
    """The current policy: o ~ π_θ, for reinforcement learning and online rejection-sampling fine-tuning.

    Source: Shao et al. 2024, DeepSeekMath, table 10 (arXiv:2402.03300).
    """

    of_policy = True

    def attach(self, sampler: Sampler, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        self.sampler = sampler

    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        return self.sampler.sample(prompts, n=n, decoding=decoding, seed=seed)


class StartPolicy(Source):
    """The policy that training started from: o ~ π_sft, for rejection-sampling fine-tuning.

    A frozen copy of it is kept beside the policy and sampled anew for every prompt; the paper samples once and reuses
    the completions.

    Source: Shao et al. 2024, DeepSeekMath, eq. 8 (arXiv:2402.03300).
    """

    def attach(self, sampler: Sampler, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        """Keep a frozen copy of the model.

        Raises: UserError if the sampler keeps weights of its own.
        """
        if sampler.tolerance is not None:
            raise UserError(
                f"StartPolicy samples a frozen copy of the start, and {type(sampler).__name__} holds only one model: "
                "take CompactSampler or TransformersSampler, or CurrentPolicy"
            )
        self.sampler = copy(sampler)
        self.start = deepcopy(model).requires_grad_(False).eval()
        self.sampler.attach(self.start, tokenizer)

    @property
    def frozen(self) -> list[nn.Module]:
        return [self.start]

    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        return self.sampler.sample(prompts, n=n, decoding=decoding, seed=seed)


class Demonstrations(Source):
    """The reference solutions of the prompts: o ~ P_sft, for supervised fine-tuning.

    Each prompt has its solution in `meta["solution"]`; a solution longer than the limit is truncated. Text that the
    sampler's tool would have written is not imitated.

    Args:
        template: the completion to imitate, with `{solution}` and `{answer}` in the places of the prompt's own.
        remove: regular expressions; their matches are deleted from the solution first.

    Source: Shao et al. 2024, DeepSeekMath, eq. 6 (arXiv:2402.03300).
    """

    samples = False

    def __init__(self, template: str = "{solution}", remove: Sequence[str] = ()) -> None:
        if "{solution}" not in template:
            raise ValueError(f"Demonstrations: template has a place for {{solution}}, got {template!r}")
        try:
            self.removed = [re.compile(pattern) for pattern in remove]
        except re.error as error:
            raise ValueError(f"Demonstrations: remove holds regular expressions, got {error.pattern!r}") from error
        self.template = template

    def attach(self, sampler: Sampler, model: nn.Module | None, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer, self.tool = tokenizer, sampler.tool

    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        """n copies of each prompt's solution.

        Raises: UserError if a prompt has no solution.
        """
        return [self._group(prompt, n, decoding.max_tokens) for prompt in prompts]

    def _group(self, prompt: Prompt, n: int, limit: int) -> Group:
        solution = prompt.meta.get("solution")
        if solution is None:
            raise UserError(
                f"prompt {prompt.id} has no reference solution to imitate: name the field that holds it in the data's "
                "field map, or take another rollouts.source"
            )
        for pattern in self.removed:
            solution = pattern.sub("", solution)
        solution = self.template.replace("{answer}", prompt.answer).replace("{solution}", solution)
        pieces = [solution] if self.tool is None else pieces_of(solution, self.tool)
        said, calls = tokenized(pieces, self.tokenizer)
        ids = [*said, end_token(self.tokenizer)]
        completion = Completion(
            token_ids=tuple(ids[:limit]),
            rollout_logprobs=(0.0,) * min(len(ids), limit),
            text=solution if len(ids) <= limit else str(self.tokenizer.decode(ids[:limit])),
            finish_reason="stop" if len(ids) <= limit else "length",
            tool_calls=None if self.tool is None else tuple(call.cut(limit) for call in calls if call.start < limit),
        )
        prompt_ids = tuple(self.tokenizer(prompt.text)["input_ids"])
        return Group(prompt=prompt, prompt_ids=prompt_ids, completions=(completion,) * n)
