"""Sampling with a tool: the policy writes until it calls the tool, reads the answer, and continues."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn
from transformers import PreTrainedTokenizerBase

from research.component import require
from research.errors import UserError
from research.rollouts.sampler import Decoding, Sampler, Turn, text_of
from research.rollouts.tool import Tool, tokenized
from research.seeding import derive_seed
from research.types import Completion, Group, Prompt, ToolCall


@dataclass(kw_only=True)
class _Row:
    """A completion that is being written."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    limit: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    finish: Literal["stop", "length"] | None = None

    @property
    def room(self) -> int:
        """Tokens left until the completion is truncated."""
        return self.limit - len(self.ids)

    def write(self, ids: Sequence[int], logprobs: Sequence[float]) -> int:
        """Append as many tokens as there is room for, and return their number."""
        count = min(len(ids), self.room)
        self.ids += ids[:count]
        self.logprobs += logprobs[:count]
        return count

    def turn(self, text: str) -> Turn:
        """The prompt of the next turn."""
        return Turn(
            id=self.prompt.id,
            text=self.prompt.text + text,
            answer=self.prompt.answer,
            meta=self.prompt.meta,
            token_ids=(*self.prompt_ids, *self.ids),
            room=self.room,
        )


class ToolSampler(Sampler):
    """Lets the policy call a tool while another sampler draws its tokens.

    A turn ends with the string that closes a call. The tool's answer is appended, and the policy continues in another
    turn. The policy did not choose the tokens of the answer, so `Completion.own` excludes them from everything that is
    learned or measured per token. They do count in the completion's length, and so for its limit and for every rule
    about lengths, because they fill the context like other tokens. A stop string ends a completion only if the policy
    writes it. Each turn reads the prompt and the completion so far again, unless the sampler caches prefixes.

    Args:
        sampler: draws the tokens.
        tool: answers the calls.
        max_calls: most calls that are answered in a completion; at least 1. Later calls get no answer.
    """

    def __init__(self, *, sampler: Sampler, tool: Tool, max_calls: int) -> None:
        require(max_calls >= 1, f"ToolSampler: max_calls is at least 1, got {max_calls}")
        require(sampler.tool is None, "ToolSampler: the sampler inside has a tool already")
        self.sampler, self.tool, self.max_calls = sampler, tool, max_calls
        self.tolerance = sampler.tolerance

    def __copy__(self) -> "ToolSampler":
        return ToolSampler(sampler=copy(self.sampler), tool=self.called, max_calls=self.max_calls)

    @property
    def called(self) -> Tool:
        """The tool, which a sampler of this class always has."""
        assert self.tool is not None
        return self.tool

    @property
    def engine(self) -> Sampler:
        return self.sampler.engine

    def attach(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        """Sample from this model from now on.

        Raises: UserError if its tokenizer has no ordinary tokens for the tool's strings.
        """
        self.sampler.attach(model, tokenizer)
        self.tokenizer, self.unsayable = tokenizer, set(tokenizer.all_special_ids)
        for text in self.called.texts:
            if self.unsayable & set(self._said(text)):
                raise UserError(
                    f"the policy's tokenizer has no ordinary tokens for {text!r}, which {type(self.tool).__name__} "
                    "reads or writes: take other marks"
                )

    def sync(self, version: int) -> Mapping[str, float]:
        return self.sampler.sync(version)

    def sleep(self) -> None:
        self.sampler.sleep()

    def close(self) -> None:
        self.sampler.close()

    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        """Draw n completions of each prompt; the same call gives the same groups if the inner sampler does so."""
        pausing = replace(decoding, stop=(*decoding.stop, self.called.close))
        groups = self.sampler.sample(prompts, n=n, decoding=pausing, seed=seed)
        rows = [
            _Row(prompt=group.prompt, prompt_ids=group.prompt_ids, limit=decoding.max_tokens)
            for group in groups
            for _ in group.completions
        ]
        drawn = [completion for group in groups for completion in group.completions]
        writing = self._take(rows, drawn, decoding)
        for calls in range(1, self.max_calls + 1):
            if not writing:
                break
            last = calls == self.max_calls
            turns = [row.turn(self._text(row)) for row in writing]
            going_on = replace(decoding if last else pausing, max_tokens=max(row.room for row in writing))
            more = self.sampler.sample(turns, n=1, decoding=going_on, seed=derive_seed(seed, "turn", calls))
            drawn = [group.completions[0] for group in more]
            writing = self._take(writing, drawn, decoding, answering=not last)
        made = iter(rows)
        return [replace(g, completions=tuple(self._completion(next(made)) for _ in g.completions)) for g in groups]

    def _take(
        self, rows: list[_Row], drawn: Sequence[Completion], decoding: Decoding, *, answering: bool = True
    ) -> list[_Row]:
        """Append the drawn tokens and the tool's answers, and return the rows that are not finished."""
        for row, completion in zip(rows, drawn, strict=True):
            count = row.write(completion.token_ids, completion.rollout_logprobs)
            ended = any(string in completion.text for string in decoding.stop)
            if completion.truncated or count < len(completion.token_ids):
                row.finish = "length"
            elif ended or not answering or self.called.close not in completion.text:
                row.finish = "stop"
            else:
                self._answer(row)
                row.finish = None if row.room > 0 else "length"
        return [row for row in rows if row.finish is None]

    def _answer(self, row: _Row) -> None:
        """Append the answer. Special tokens in it are left out, and the call then counts as failed."""
        answer = self.called(self._text(row))
        start, said = len(row.ids), self._said(answer.text)
        ids = [token for token in said if token not in self.unsayable]
        count = row.write(ids, (0.0,) * len(ids))
        row.calls.append(ToolCall(start=start, tokens=count, failed=answer.failed or ids != said))

    def _said(self, text: str) -> list[int]:
        return tokenized([text], self.tokenizer)[0]

    def _text(self, row: _Row) -> str:
        return text_of(row.ids, self.tokenizer)

    def _completion(self, row: _Row) -> Completion:
        assert row.finish is not None, "every row is finished after the last turn"
        return Completion(
            token_ids=tuple(row.ids),
            rollout_logprobs=tuple(row.logprobs),
            text=self._text(row),
            finish_reason=row.finish,
            tool_calls=tuple(row.calls),
        )
