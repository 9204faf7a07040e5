"""A sampler without a model, whose completions are given in advance; for tests of the code around a sampler."""

from collections.abc import Mapping, Sequence

from torch import nn
from transformers import PreTrainedTokenizerBase

from research.rollouts.sampler import Decoding, Sampler, end_token, prompt_tokens, text_of
from research.types import Completion, Group, Prompt


class ScriptedSampler(Sampler):
    """Completes each prompt with the texts that a script lists for it, one after the other.

    Args:
        script: prompt text → completion texts. A call for n completions takes the next n; after the last text comes
            the first.

    Raises: KeyError if a prompt is not in the script.
    """

    def __init__(self, script: Mapping[str, Sequence[str]]) -> None:
        self.script = script
        self.calls: dict[str, int] = {}

    def attach(self, model: nn.Module | None, tokenizer: PreTrainedTokenizerBase) -> None:
        """Keep the tokenizer; the model is not used."""
        self.tokenizer = tokenizer

    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        """The script's next n completions of each prompt, cut at `decoding.max_tokens`; log-probabilities are 0."""
        return [self._group(prompt, n, decoding) for prompt in prompts]

    def _group(self, prompt: Prompt, n: int, decoding: Decoding) -> Group:
        texts, start = self.script[prompt.text], self.calls.get(prompt.text, 0)
        self.calls[prompt.text] = start + n
        completions = tuple(self._completion(texts[(start + k) % len(texts)], decoding) for k in range(n))
        prompt_ids = tuple(prompt_tokens([prompt], self.tokenizer)[0])
        return Group(prompt=prompt, prompt_ids=prompt_ids, completions=completions)

    def _completion(self, text: str, decoding: Decoding) -> Completion:
        ids = [*self.tokenizer(text)["input_ids"], end_token(self.tokenizer)]
        kept = tuple(ids[: decoding.max_tokens])
        return Completion(
            token_ids=kept,
            rollout_logprobs=(0.0,) * len(kept),
            text=text_of(kept, self.tokenizer),
            finish_reason="stop" if len(kept) == len(ids) else "length",
        )
