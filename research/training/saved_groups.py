"""Groups of completions as dictionaries, tensors and plain values, as a checkpoint keeps them."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from research.errors import UserError
from research.types import Completion, Group, Prompt, ToolCall

Saved = dict[str, Any]
"""A group in a checkpoint."""


def saved_group(group: Group) -> Saved:
    """The group for a checkpoint; `loaded_group` is the inverse."""
    prompt = group.prompt
    return {
        "prompt": {
            "id": prompt.id,
            "text": prompt.text,
            "answer": prompt.answer,
            "meta": dict(prompt.meta),
        },
        "prompt_ids": torch.tensor(group.prompt_ids, dtype=torch.int64),
        "completions": [_saved_completion(completion) for completion in group.completions],
        "outcomes": [float(value) for value in group.outcomes],
        "right": [bool(value) for value in group.right],
        "columns": [[float(value) for value in column] for column in group.columns],
        "faults": list(group.faults),
        "step_rewards": [[None if v is None else float(v) for v in rewards] for rewards in group.step_rewards],
        "annotations": {name: list(values) for name, values in group.annotations.items()},
        "step": group.step,
    }


def loaded_groups(saved: object) -> tuple[Group, ...]:
    """The groups that a checkpoint holds.

    Raises: UserError if they do not have the form that `saved_group` gives.
    """
    try:
        return tuple(_loaded_group(group) for group in _listed(saved, dict))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"the checkpoint's groups of completions are malformed ({type(error).__name__}: {error}): delete the "
            "checkpoint to start the run again, or put an intact copy in its place"
        ) from error


def _saved_completion(completion: Completion) -> Saved:
    calls = completion.tool_calls
    return {
        "token_ids": torch.tensor(completion.token_ids, dtype=torch.int64),
        "rollout_logprobs": torch.tensor(completion.rollout_logprobs, dtype=torch.float64),
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "tool_calls": None if calls is None else [(call.start, call.tokens, call.failed) for call in calls],
    }


def _loaded_group(saved: Saved) -> Group:
    prompt = _typed(saved["prompt"], dict)
    texts = {name: _typed(prompt[name], str) for name in ("id", "text", "answer")}
    completions = tuple(_loaded_completion(completion) for completion in _listed(saved["completions"], dict))
    group = Group(
        prompt=Prompt(**texts, meta=_typed(prompt["meta"], dict)),
        prompt_ids=_numbers(saved["prompt_ids"], torch.int64),
        completions=completions,
        outcomes=_listed(saved["outcomes"], float),
        right=_listed(saved["right"], bool),
        columns=tuple(_listed(column, float) for column in _listed(saved["columns"], list)),
        faults=_listed(saved["faults"], (str, type(None))),
        step_rewards=tuple(_listed(r, (float, type(None))) for r in _listed(saved["step_rewards"], list)),
        annotations={name: _listed(values, Tensor) for name, values in _typed(saved["annotations"], dict).items()},
        step=_typed(saved["step"], int),
    )
    parts = (group.outcomes, group.right, group.faults, group.step_rewards, *group.columns)
    if any(len(part) not in (0, len(completions)) for part in (*parts, *group.annotations.values())):
        raise ValueError(f"prompt {group.prompt.id} does not have as many rewards as completions")
    return group


def _loaded_completion(saved: Saved) -> Completion:
    tokens, logprobs = _numbers(saved["token_ids"], torch.int64), _numbers(saved["rollout_logprobs"], torch.float64)
    if len(tokens) != len(logprobs) or not tokens:
        raise ValueError("a completion has other numbers of tokens and log-probabilities")
    if saved["finish_reason"] not in ("stop", "length"):
        raise ValueError(f"a completion was finished by {saved['finish_reason']!r}, not by stop or length")
    calls = saved["tool_calls"]
    return Completion(
        token_ids=tokens,
        rollout_logprobs=logprobs,
        text=_typed(saved["text"], str),
        finish_reason=saved["finish_reason"],
        tool_calls=None if calls is None else tuple(_loaded_call(call) for call in _listed(calls, tuple)),
    )


def _loaded_call(saved: tuple[object, ...]) -> ToolCall:
    start, tokens, failed = saved
    return ToolCall(start=_typed(start, int), tokens=_typed(tokens, int), failed=_typed(failed, bool))


def _numbers(value: object, dtype: torch.dtype) -> tuple[Any, ...]:
    tensor = _typed(value, Tensor)
    if tensor.dtype != dtype or tensor.dim() != 1:
        raise TypeError(f"expected a vector of {dtype}, not {tensor.dtype} {tuple(tensor.shape)}")
    return tuple(tensor.tolist())


def _listed(value: object, kind: Any) -> tuple[Any, ...]:
    return tuple(_typed(item, kind) for item in cast(Sequence[object], _typed(value, list)))


def _typed(value: object, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind}, not {type(value).__name__}")
    return value
