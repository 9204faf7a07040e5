"""What an engine of vLLM is asked and what it answers, in process or behind a server; nothing here needs vLLM."""

from collections.abc import Sequence
from typing import Literal, TypedDict, cast

from transformers import PreTrainedTokenizerBase

from research.errors import UserError
from research.rollouts.sampler import Decoding, text_of
from research.seeding import derive_seed
from research.types import Completion, Prompt

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The adapters' ranks that vLLM has room for."""


class SamplingRequest(TypedDict):
    """How completions are drawn, in the names that `vllm.SamplingParams` and the completions route share."""

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
    """What an engine is told of adapters before it starts."""

    enable_lora: bool
    max_lora_rank: int


def sampling_parameters(
    decoding: Decoding, *, n: int, seed: int, index: int, end_tokens: Sequence[int]
) -> SamplingRequest:
    """How one prompt's completions are drawn, in the names that `vllm.SamplingParams` and the completions route share.

    Completion k of the prompt draws with the request's seed plus k, so it depends on the seed, on the prompt's place in
    the call and on k alone. End tokens are named as stop tokens, which the engine keeps in the completion; what the
    engine's own tokenizer or generation config calls an end token is not asked.

    Args:
        decoding: temperature, truncation, stop strings, length.
        n: completions of the prompt.
        seed: of the call.
        index: the prompt's place in the call.
        end_tokens: ids that end a completion.

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
    """Refuse prompts that leave no room for their completions: the engine would cut these short and call it the limit.

    Args:
        prompts: are named in the refusal.
        prompt_ids: their tokens.
        decoding: says how long a completion may be.
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
    """What the engine answered, as the other samplers give it: the text is decoded here, without special tokens.

    Raises: UserError if the engine ended the completion for a reason of its own.
    """
    if finish_reason not in ("stop", "length") or not token_ids:
        raise UserError(
            f"vLLM ended a completion of {len(token_ids)} tokens with the reason {finish_reason!r}, not because the "
            "policy or the limit ended it: look into the engine's log"
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
