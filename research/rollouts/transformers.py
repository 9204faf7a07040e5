"""A sampler that uses `generate` of transformers, and records the log-probability of each drawn token."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from research.rollouts.sampler import Decoding, Sampler, prompt_tokens
from research.rollouts.weights import base_model, device_of
from research.seeding import derive_seed, torch_seed
from research.types import Completion, Group, Prompt


@runtime_checkable
class _Generates(Protocol):
    """A transformers model that completes what it is given."""

    def generate(self, **settings: object) -> Tensor:
        """The sequences, prompts included [B S]."""
        ...


class _ChosenLogProbs(LogitsProcessor):
    """Records log p(token) of each sampled token, from the same scores that it is drawn from.

    `generate` calls it before each draw, when the previous draw is the last column of `input_ids`. So only the scores
    of one position are held at a time, never [T B V]. It has to come after temperature, top-k and top-p, which are
    therefore given to `generate` as processors: its own are applied after all processors that it is given.
    """

    def __init__(self) -> None:
        self.columns: list[Tensor] = []
        self._scores: Tensor | None = None

    def __call__(self, input_ids: Int[Tensor, "B S"], scores: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        self._close(input_ids[:, -1])
        self._scores = scores
        return scores

    def finish(self, sequences: Int[Tensor, "B S"]) -> Float[Tensor, "B T"]:
        """The log-probabilities of the T sampled columns."""
        self._close(sequences[:, -1])
        return torch.stack(self.columns, dim=1)

    def _close(self, drawn: Int[Tensor, " B"]) -> None:
        if self._scores is not None:
            log_p = torch.log_softmax(self._scores.float(), -1)
            self.columns.append(log_p.gather(-1, drawn[:, None]).squeeze(-1))


class StopStrings(StoppingCriteria):
    """Ends completions that contain one of several strings.

    Args:
        tokenizer: decodes the tokens.
        strings: at least one.
        prompt_tokens: number of tokens at the start of a row that belong to the prompt.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str], prompt_tokens: int = 0) -> None:
        self.tokenizer, self.strings, self.prompt_tokens = tokenizer, strings, prompt_tokens
        self.longest = max(len(string.encode()) for string in strings)
        self.unseen = set(tokenizer.all_special_ids)

    def __call__(self, input_ids: Int[Tensor, "B S"], scores: Tensor | None, **kwargs: object) -> Bool[Tensor, " B"]:
        """True for each row whose last tokens contain a string."""
        ended = [self.in_tail(row) for row in input_ids[:, self.prompt_tokens :].tolist()]
        return torch.tensor(ended, device=input_ids.device)

    def in_tail(self, ids: Sequence[int]) -> bool:
        """True if the text of the last tokens contains a string; as many tokens as the longest string has bytes."""
        text = self.tokenizer.decode([token for token in ids if token not in self.unseen][-self.longest :])
        return any(string in text for string in self.strings)

    def end(self, ids: Sequence[int]) -> int | None:
        """Number of tokens up to the end of the first string in a completion; None if it contains no string."""
        return next((t for t in range(1, len(ids) + 1) if self.in_tail(ids[:t])), None)


class TransformersSampler(Sampler):
    """Samples with the policy itself, through `generate`.

    Args:
        max_rows: completions sampled at once, at least 1; bounds memory. It decides which completions share a batch,
            so another value draws other tokens.
    """

    def __init__(self, *, max_rows: int = 512) -> None:
        if max_rows < 1:
            raise ValueError(f"TransformersSampler: max_rows is at least 1, got {max_rows}")
        self.max_rows = max_rows

    def attach(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        """Sample from this model; its tokenizer pads on the left from now on, as generation requires."""
        tokenizer.padding_side = "left"
        self.model, self.tokenizer = model, tokenizer

    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        """Draw n completions of each prompt; a pure function of the weights, the arguments and `max_rows`."""
        chunk = max(1, self.max_rows // n)
        groups = []
        for start in range(0, len(prompts), chunk):
            with torch_seed(derive_seed(seed, start)):
                groups += self._sample_chunk(prompts[start : start + chunk], n, decoding)
        return groups

    def _sample_chunk(self, prompts: Sequence[Prompt], n: int, decoding: Decoding) -> list[Group]:
        ids = [torch.tensor(row, device=device_of(self.model)) for row in prompt_tokens(prompts, self.tokenizer)]
        rows = pad_sequence(ids, True, pad_token(self.tokenizer), padding_side="left")
        real = pad_sequence([torch.ones_like(row) for row in ids], True, 0, padding_side="left")
        was_training = self.model.training
        self.model.eval()
        drawn, logprobs = self.generate(rows, real, n, decoding)
        self.model.train(was_training)
        completions = self._completions(drawn.cpu().tolist(), logprobs.cpu().tolist(), decoding)
        return [
            Group(
                prompt=prompt,
                prompt_ids=tuple(ids[k].tolist()),
                completions=tuple(completions[k * n : (k + 1) * n]),
            )
            for k, prompt in enumerate(prompts)
        ]

    @torch.no_grad()
    def generate(
        self, input_ids: Int[Tensor, "N P"], mask: Int[Tensor, "N P"], n: int, decoding: Decoding
    ) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Draw n completions for each prompt: their tokens and log-probabilities, of no meaning after the end token."""
        recorder, model = _ChosenLogProbs(), cast(_Generates, base_model(self.model))
        with self._own_settings_aside():
            sequences = model.generate(
                input_ids=input_ids,
                attention_mask=mask,
                do_sample=True,
                num_return_sequences=n,
                max_new_tokens=decoding.max_tokens,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                logits_processor=LogitsProcessorList([*warpers(decoding), recorder]),
                stopping_criteria=StoppingCriteriaList(
                    [StopStrings(self.tokenizer, decoding.stop, input_ids.shape[1])] if decoding.stop else []
                ),
            )
        return sequences[:, input_ids.shape[1] :], recorder.finish(sequences)

    def _completions(self, drawn: list[list[int]], logprobs: list[list[float]], decoding: Decoding) -> list[Completion]:
        lengths = [self._length(row, decoding) for row in drawn]
        kept = [row[: length or None] for row, length in zip(drawn, lengths, strict=True)]
        texts = self.tokenizer.batch_decode(kept, skip_special_tokens=True)
        return [
            Completion(
                token_ids=tuple(ids),
                rollout_logprobs=tuple(values[: len(ids)]),
                text=text,
                finish_reason="length" if length is None else "stop",
            )
            for ids, length, values, text in zip(kept, lengths, logprobs, texts, strict=True)
        ]

    def _length(self, row: list[int], decoding: Decoding) -> int | None:
        """Number of tokens up to the one that ended the completion; None for a truncated one."""
        end = end_tokens(self.model)
        length = next((t + 1 for t, token in enumerate(row) if token in end), None)
        if not decoding.stop:
            return length
        return StopStrings(self.tokenizer, decoding.stop).end(row[:length]) or length

    @contextmanager
    def _own_settings_aside(self) -> Iterator[None]:
        """A block without the model's own generation settings, except its end tokens.

        A repetition penalty, for example, would sample from another distribution than the policy's.
        """
        model = base_model(self.model)
        own = model.generation_config
        model.generation_config = GenerationConfig(
            eos_token_id=own.eos_token_id, bos_token_id=own.bos_token_id, pad_token_id=pad_token(self.tokenizer)
        )
        try:
            yield
        finally:
            model.generation_config = own


def end_tokens(model: nn.Module) -> set[int]:
    """The token ids that end a completion of this model."""
    end = base_model(model).generation_config.eos_token_id
    return set(end) if isinstance(end, list) else {end}


def pad_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the tokenizer's padding token."""
    found = tokenizer.pad_token_id
    assert isinstance(found, int), "loading a policy gives its tokenizer a padding token"
    return found


def warpers(decoding: Decoding) -> list[LogitsProcessor]:
    """Processors that turn logits into those of the sampled distribution: temperature, then top-k, then top-p."""
    chain: list[LogitsProcessor] = []
    if decoding.temperature != 1.0:
        chain.append(TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_k > 0:
        chain.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1.0:
        chain.append(TopPLogitsWarper(decoding.top_p))
    return chain
