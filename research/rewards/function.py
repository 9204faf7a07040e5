"""A user's own function as a verifier or as a reward function, by its import path."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from inspect import Parameter, signature
from math import isfinite

from research.errors import UserError
from research.rewards.isolated import InWorkers, VerifiedInWorkers, ask, unjudged
from research.rewards.reward_functions import RewardFunction, Weighted
from research.rewards.verdicts import Fault
from research.rewards.verifiers import Verifier
from research.rewards.worker import Value
from research.types import Completion, Prompt

ARGUMENTS = ("prompt", "completion", "answer", "meta")
"""The arguments that a function may name: the texts of prompt, completion and reference answer, and the meta."""


def function_at(path: str) -> Callable[..., object]:
    """The function of an import path; the current folder is searched last.

    Raises: UserError if there is none.
    """
    module, _, name = path.rpartition(".")
    if not module:
        raise UserError(f"{path!r} is not the import path of a function: write my_module.my_function")
    here = os.getcwd()
    sys.path.append(here)
    try:
        found = getattr(import_module(module), name, None)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot import {module}: {type(error).__name__}: {reason}") from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise UserError(f"{path}: {module} has no function {name}")
    return found


@lru_cache
def arguments_of(path: str) -> tuple[str, ...]:
    """The arguments, among `ARGUMENTS`, that the function takes.

    Raises: UserError if there is no such function, or it needs another argument.
    """
    try:
        parameters = list(signature(function_at(path)).parameters.values())
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: its arguments cannot be read: {error}") from error
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
        return ARGUMENTS
    by_name = [p for p in parameters if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
    taken = tuple(p.name for p in by_name if p.name in ARGUMENTS)
    needed = [p for p in parameters if p.default is Parameter.empty and p.kind is not Parameter.VAR_POSITIONAL]
    others = [p.name for p in needed if p.name not in taken]
    offered = ", ".join(ARGUMENTS)
    if others:
        raise UserError(f"{path} needs {', '.join(others)}: a function is given {offered}, whichever it names")
    if not taken:
        raise UserError(f"{path} takes none of {offered}, so it cannot know what it judges")
    return taken


@dataclass(frozen=True, kw_only=True)
class OwnFunction(InWorkers):
    """A function of your own, and the limits of the worker processes that call it."""

    function: str
    """Import path of the function, `my_module.my_function`; the current folder is searched too."""


def called(component: OwnFunction, prompt: Prompt, completion: Completion, verdict: bool | None) -> Value | Fault:
    """The value of the component's function for the completion, or the fault that stopped it."""
    offered = {"prompt": prompt.text, "completion": completion.text, "answer": prompt.answer, "meta": dict(prompt.meta)}
    request = {name: offered[name] for name in arguments_of(component.function)}
    return ask(component, "function", (component.function,), request, verdict)


@dataclass(frozen=True, kw_only=True)
class FunctionVerifier(OwnFunction, VerifiedInWorkers, Verifier):
    """A function of your own decides what is right.

        r = right if f(prompt, completion, answer, meta) else wrong

    The function names those of `prompt`, `completion`, `answer` (texts) and `meta` (a dict) that it wants, and returns
    True, False, or None for "nothing to say"; `def` or `async def`. It runs in worker processes, so it may be slow.

    Args:
        prompt: the prompt, with its reference answer.
        completion: one completion of it.

    Returns: whether it is accepted; None if the function says nothing; or the fault that kept it from being judged.

    Raises: ValueError if right ≤ wrong or a limit is out of range; UserError if there is no such function, if it needs
        another argument, raises an exception or returns something else.

    Source: TRL, grpo_trainer.py, custom reward functions.

    Example:
        >>> FunctionVerifier(function="my_module.my_function").timeout
        5.0
    """

    def resolve(self) -> None:
        arguments_of(self.function)

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool | Fault | None:
        value = called(self, prompt, completion, unjudged(self))
        if not (value is None or isinstance(value, (bool, Fault))):
            raise UserError(f"{self.function} returned {value!r}: a verifier returns True, False or None")
        return value


@dataclass(frozen=True, kw_only=True)
class FunctionReward(OwnFunction, Weighted, RewardFunction):
    """A function of your own gives the reward.

        r = weight · f(prompt, completion, answer, meta)

    The function names those of `prompt`, `completion`, `answer` (texts) and `meta` (a dict) that it wants, and returns
    a number, or None for "nothing to say"; `def` or `async def`. It runs in worker processes, so it may be slow. A
    completion that could not be judged is left out of the baseline.

    Args:
        prompt: the prompt, with its reference answer.
        completion: one completion of it.

    Returns: the number; None if the function says nothing; or the fault that kept it from being judged.

    Raises: ValueError if weight is 0 or a limit is out of range; UserError if there is no such function, if it needs
        another argument, raises an exception or returns something else.

    Source: TRL, grpo_trainer.py, custom reward functions.

    Example:
        >>> FunctionReward(function="my_module.my_function", weight=0.5).weight
        0.5
    """

    def resolve(self) -> None:
        arguments_of(self.function)

    def __call__(self, *, prompt: Prompt, completion: Completion) -> float | Fault | None:
        value = called(self, prompt, completion, None)
        if value is None or isinstance(value, Fault):
            return value
        if not isfinite(value):
            raise UserError(f"{self.function} returned {value}: a reward is finite")
        return float(value)
