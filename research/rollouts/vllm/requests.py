"""Requests to vLLM and its answers, the same for an engine in the process and a server. Nothing here imports vLLM."""

from collections.abc import Sequence
from typing import Literal, TypedDict, cast

from transformers import PreTrainedTokenizerBase

from research.errors import UserError
from research.rollouts.sampler import Decoding, text_of
from research.seeding import derive_seed
from research.types import Completion, Prompt

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters that vLLM supports."""


class SamplingRequest(TypedDict):
    """Sampling parameters, in the names that `vllm.SamplingParams` and the completions route share."""

    n: int
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    stop: list[str]
    stop_token_ids: list[int]
    ignore_eos: bool
    include_stop_str_in_output: bool
    logprobs: int
    seed: int


class AdapterSettings(TypedDict, total=False):
    """Settings with which an engine is started for a policy with adapters."""

    enable_lora: bool
    max_lora_rank: int


def sampling_parameters(
    decoding: Decoding, *, n: int, seed: int, index: int, end_tokens: Sequence[int]
) -> SamplingRequest:
    """The sampling parameters of one prompt's completions.

    vLLM draws completion k with the request's seed plus k, so it depends on the seed, on the place of the prompt in the
    call and on k alone. End tokens are given as stop tokens, which the engine keeps in the completion; those of the
    engine's own tokenizer and generation config are ignored.

    Args:
        decoding: temperature, truncation, stop strings, length.
        n: completions of the prompt.
        seed: of the call.
        index: place of the prompt in the call.
        end_tokens: token ids that end a completion.

    Example:
        >>> sampling_parameters(Decoding(max_tokens=8), n=2, seed=0, index=0, end_tokens=[1])["stop_token_ids"]
        [1]
    """
    return {
        "n": n,
        "max_tokens": decoding.max_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": decoding.top_k,
        "stop": list(decoding.stop),
        "stop_token_ids": sorted(end_tokens),
        "ignore_eos": True,
        "include_stop_str_in_output": True,
        "logprobs": 0,  # of the drawn token alone
        "seed": derive_seed(seed, index) >> 1,  # room for + k below 2⁶³
    }


def check_room(prompts: Sequence[Prompt], prompt_ids: Sequence[Sequence[int]], decoding: Decoding, limit: int) -> None:
    """Refuse prompts that leave too little room for their completions, which the engine would silently shorten.

    Args:
        prompts: named in the error.
        prompt_ids: tokens of the prompts.
        decoding: gives the longest completion.
        limit: most tokens that the engine reads, prompt and completion together.

    Raises: UserError with the numbers.
    """
    for prompt, ids in zip(prompts, prompt_ids, strict=True):
        tokens = decoding.within(prompt).max_tokens
        if len(ids) + tokens > limit:
            raise UserError(
                f"prompt {prompt.id} has {len(ids)} tokens and its completions up to {tokens}, which is "
                f"{len(ids) + tokens}, and the engine's max_model_len is {limit}: raise max_model_len, or "
                "lower rollouts.max_completion_tokens"
            )


def completion(
    tokenizer: PreTrainedTokenizerBase,
    token_ids: Sequence[int],
    logprobs: Sequence[float],
    finish_reason: str | None,
) -> Completion:
    """A completion from the engine's answer. The text is decoded here, without special tokens.

    Raises: UserError if the engine ended it for another reason than an end token, a stop string or the limit.
    """
    if finish_reason not in ("stop", "length") or not token_ids:
        raise UserError(
            f"vLLM ended a completion of {len(token_ids)} tokens with the reason {finish_reason!r}, and neither the "
            "policy nor the limit ended it: look into the engine's log"
        )
    return Completion(
        token_ids=tuple(token_ids),
        rollout_logprobs=tuple(logprobs),
        text=text_of(token_ids, tokenizer),
        finish_reason=cast(Literal["stop", "length"], finish_reason),
    )


def adapter_settings(rank: int) -> AdapterSettings:
    """The engine's settings for adapters of this rank.

    Raises: UserError if vLLM has no room for it.
    """
    if rank > RANKS[-1]:
        raise UserError(f"vLLM has room for adapters of rank {RANKS[-1]} at most, and LoRA's rank is {rank}")
    return {"enable_lora": True, "max_lora_rank": next(known for known in RANKS if known >= rank)}
