"""Requests for completions to a vLLM server: one request for each prompt, several at a time."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import takewhile
from time import monotonic
from typing import Required, TypedDict

from transformers import PreTrainedTokenizerBase

from research.errors import UserError
from research.rollouts.sampler import Decoding
from research.rollouts.vllm.http import Server, ServerError
from research.rollouts.vllm.requests import completion, sampling_parameters
from research.types import Completion, Group, Prompt

ANSWER: Mapping[str, bool | float] = {
    "return_token_ids": True,
    "return_tokens_as_token_ids": True,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_p": 0.0,
}
"""Fields of every request: token ids in the answer, and neutral values for settings that the server may have."""


class Logprobs(TypedDict):
    """The part of an answer that says how likely its tokens were."""

    token_logprobs: list[float]


class Choice(TypedDict, total=False):
    """A completion as the server answers it, in JSON."""

    index: Required[int]
    finish_reason: Required[str | None]
    token_ids: list[int] | None
    logprobs: Logprobs | None


@dataclass(frozen=True, kw_only=True)
class Call:
    """The arguments of a call of `sample`, with the tokens of the prompts."""

    prompts: Sequence[Prompt]
    prompt_ids: Sequence[Sequence[int]]
    n: int
    decoding: Decoding
    seed: int
    end: float
    """Deadline, by the monotonic clock."""


@dataclass(frozen=True, kw_only=True)
class Completions:
    """Requests the completions of many prompts from a server."""

    server: Server
    tokenizer: PreTrainedTokenizerBase
    """Decodes the completions."""
    end_tokens: Sequence[int]
    """Token ids that end a completion."""
    model: Callable[[], str]
    """Gives the name of the newest weights on the server."""
    concurrency: int
    """Most requests that are under way at a time."""

    def __call__(self, call: Call) -> list[Group]:
        """The groups, in the order of the prompts.

        Raises: ServerError if a request fails, UserError if the deadline passes.
        """
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            futures = [pool.submit(self._group, call, k) for k in range(len(call.prompts))]
            done, left = wait(futures, timeout=max(0.0, call.end - monotonic()), return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            if left:
                raise UserError(
                    f"the vLLM server at {self.server.url} still owes {len(left)} of {len(futures)} groups when "
                    "rollout_timeout is over: raise it, or sample less at a step"
                )
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _group(self, call: Call, index: int) -> Group:
        ids = list(call.prompt_ids[index])
        decoding = call.decoding.within(call.prompts[index])
        drawn = sampling_parameters(decoding, n=call.n, seed=call.seed, index=index, end_tokens=self.end_tokens)
        body = {"model": self.model(), "prompt": ids, **ANSWER, **drawn}
        choices: list[Choice] = self.server.ask("/v1/completions", "choices", body)
        return Group(
            prompt=call.prompts[index],
            prompt_ids=tuple(ids),
            completions=tuple(self._completion(c) for c in sorted(choices, key=lambda choice: choice["index"])),
        )

    def _completion(self, choice: Choice) -> Completion:
        ids, likely = choice.get("token_ids"), choice.get("logprobs")
        logprobs = None if likely is None else likely.get("token_logprobs")
        if choice["finish_reason"] == "abort":
            raise ServerError(f"the vLLM server at {self.server.url} broke completions off.", away=True)
        if ids is None or logprobs is None or len(ids) != len(logprobs):
            raise UserError(
                f"the vLLM server at {self.server.url} does not say tokens and log-probabilities of its completions: "
                "it must be of vLLM 0.32 or later"
            )
        return completion(self.tokenizer, ids, logprobs, choice["finish_reason"])


def common_gaps(before: Sequence[Group], after: Sequence[Group]) -> list[float]:
    """Differences of log-probability, in nats, over the tokens that two samples of the same prompts have in common."""
    return [
        gap
        for groups in zip(before, after, strict=True)
        for old, new in zip(*(group.completions for group in groups), strict=True)
        for gap in _gaps(old, new)
    ]


def _gaps(old: Completion, new: Completion) -> list[float]:
    shorter = range(min(len(old.token_ids), len(new.token_ids)))
    same = takewhile(lambda t: old.token_ids[t] == new.token_ids[t], shorter)
    return [abs(old.rollout_logprobs[t] - new.rollout_logprobs[t]) for t in same]
