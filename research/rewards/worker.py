"""The program of a worker process: it prepares one task, then answers one request after another until its parent ends.

It runs by its path and imports nothing of the package, so a worker takes no more time and memory to start than the
library that it verifies with. Requests and replies go through one connection; prints of the task go to the parent's
output. Replies are JSON, not pickle, since a worker may have run what the policy wrote.

An alarm of the kernel bounds every request a little beyond the parent's timeout. It ends the process even inside a
single instruction of the interpreter, and after the parent is gone, so a worker never outlives its parent by more.
"""

import asyncio
import json
import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from inspect import isawaitable
from multiprocessing.connection import Connection
from typing import TypedDict

GRACE = 2.0
"""Seconds between the parent's timeout and the alarm."""

Value = bool | int | float | None
Task = Callable[..., Value]
"""One request → its value; a request is a dictionary of plain data."""


class TwoTexts(TypedDict):
    """A request to the task `math-verify`."""

    gold: str
    answer: str


class GymAnswer(TypedDict):
    """A request to the task `reasoning-gym`."""

    task: str
    """The name of the dataset."""
    entry: dict[str, object]
    """The question as the dataset made it."""
    answer: str


class Refused(Exception):
    """A mistake that the user can put right, in one sentence."""


def math_verify_task() -> Task:
    """Compares two texts as mathematics, by the math-verify library."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)

    def task(request: TwoTexts) -> bool:
        gold = parse(request["gold"], parsing_timeout=0)  # 0 for none, so no signals
        if not gold:
            raise Refused(f"math-verify cannot read the reference answer {request['gold'][:80]!r}")
        found = parse(request["answer"], parsing_timeout=0)
        try:
            return verify(gold, found, timeout_seconds=None, raise_on_error=True)
        except (MemoryError, RecursionError):
            raise
        except Exception:  # some pairs cannot be compared, which to the library is not being equal
            return verify(gold, found, timeout_seconds=None)

    return task


def reasoning_gym_task() -> Task:
    """Scores an answer from 0 to 1, by the dataset's own scorer."""
    from reasoning_gym import get_score_answer_fn

    def task(request: GymAnswer) -> float:
        score = get_score_answer_fn(request["task"])
        return float(score(request["answer"], request["entry"]))  # pyright: ignore[reportCallIssue]

    return task


def function_task(path: str) -> Task:
    """Calls a user's own function with its arguments by name; async functions are run to their end."""
    module, _, name = path.rpartition(".")
    function = getattr(import_module(module), name)

    async def awaited(value: Awaitable[object]) -> object:
        return await value

    def task(request: Mapping[str, object]) -> Value:
        try:
            value = function(**request)
            value = asyncio.run(awaited(value)) if isawaitable(value) else value
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            raise Refused(f"{path} raised {type(error).__name__}: {' '.join(str(error).split())}") from error
        if value is not None and not isinstance(value, (bool, int, float)):
            raise Refused(f"{path} returned {type(value).__name__}, not a number, a bool or None")
        return value

    return task


TASKS: dict[str, Callable[..., Task]] = {
    "math-verify": math_verify_task,
    "reasoning-gym": reasoning_gym_task,
    "function": function_task,
}


def answered(task: Task, request: Mapping[str, object]) -> tuple[str, Value, str]:
    """The reply to one request: `value` and the value, or the name of the obstacle, with its sentence if it has one."""
    try:
        return "value", task(request), ""
    except Refused as refusal:
        return "refused", None, str(refusal)
    except MemoryError:
        return "memory", None, ""
    except RecursionError:
        return "nesting", None, ""
    except Exception as error:
        return "error", None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def send(connection: Connection, reply: tuple[str, Value, str]) -> None:
    """Send a reply: a line of JSON."""
    connection.send_bytes(json.dumps(reply).encode())


def serve(connection: Connection) -> None:
    """Prepare the task that the first message names, then answer requests until the connection is closed."""
    path, memory, name, arguments = connection.recv()
    sys.path[:] = path
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        task = TASKS[name](*arguments)
    except Exception as error:
        send(connection, ("refused", None, f"{type(error).__name__}: {' '.join(str(error).split())}"))
        return
    send(connection, ("value", None, ""))
    while True:
        seconds, request = connection.recv()
        signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)
        reply = answered(task, request)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        send(connection, reply)


if __name__ == "__main__":
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):
        sys.exit()
