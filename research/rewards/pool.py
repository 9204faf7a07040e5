"""Worker processes with a real timeout: callable from any thread, and killed when they take too long.

Python cannot stop a thread, and a signal only reaches the main one, so work that may hang is done in processes of its
own. They are started when first needed, a bounded number for a task, and kept; one that runs out of time or memory is
replaced. A request's clock starts when a worker takes it up: waiting for a free one is not counted. The workers end
with their parent, however it ends.
"""

import atexit
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import Pipe
from pathlib import Path
from queue import LifoQueue
from subprocess import DEVNULL, Popen

from research.errors import UserError
from research.rewards.worker import Value

LONGEST = 2**20
"""Bytes of a reply at the most."""
START_SECONDS = 120.0
"""Seconds that a worker may take to start and to import its libraries."""


@dataclass(frozen=True)
class Reply:
    """A worker's reply to a request."""

    kind: str
    """`value`, `refused`, or the obstacle: `timeout`, `crash`, `memory`, `nesting` or `error`."""
    value: Value = None
    """The task's value."""
    sentence: str = ""
    """The reason of a refusal, the message of an error."""


def read_reply(message: bytes) -> Reply:
    """A worker's reply.

    Raises: ValueError if it is none.
    """
    match json.loads(message):
        case [str(kind), None | bool() | int() | float() as value, str(sentence)]:
            return Reply(kind, value, sentence)
    raise ValueError("a worker's reply is a kind, a value and a sentence")


class Worker:
    """One process and the connection to it.

    Args:
        task: a name in `worker.TASKS`.
        arguments: the task's own.
        memory: address space at the most, MiB; None for no limit.

    Raises: UserError if the task cannot be prepared.
    """

    def __init__(self, task: str, arguments: tuple[str, ...], memory: int | None) -> None:
        self.connection, theirs = Pipe()
        program = Path(__file__).with_name("worker.py")
        with theirs:
            self.process = Popen(
                [sys.executable, "-P", str(program), str(theirs.fileno())],
                stdin=DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            )
        limit = None if memory is None else memory * 2**20
        reply = self._exchange(([*sys.path, os.getcwd()], limit, task, arguments), START_SECONDS)
        if reply.kind != "value":
            self.end()
            raise UserError(f"the worker for {task} does not start: {reply.sentence or reply.kind}")

    def __call__(self, request: Mapping[str, object], seconds: float) -> Reply:
        """The reply to a request; `timeout` after so many seconds, `crash` if the process has ended."""
        return self._exchange((seconds, request), seconds)

    def _exchange(self, message: object, seconds: float) -> Reply:
        try:
            self.connection.send(message)
            if not self.connection.poll(seconds):
                return Reply("timeout")
            return read_reply(self.connection.recv_bytes(LONGEST))
        except (EOFError, OSError, ValueError):
            return Reply("crash")

    def end(self) -> None:
        """Kill the process and whatever it has started."""
        self.connection.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Pool:
    """At most `size` workers for one task; callable from any thread.

    Example:
        >>> pool = Pool("math-verify", (), 1, 2048)
        >>> pool({"gold": "$0.5$", "answer": "so it is 1/2"}, 10.0).value
        True
        >>> pool.close()
    """

    task: str
    arguments: tuple[str, ...]
    size: int
    memory: int | None
    free: LifoQueue[Worker | None] = field(default_factory=LifoQueue)

    def __post_init__(self) -> None:
        for _ in range(self.size):
            self.free.put(None)

    def __call__(self, request: Mapping[str, object], seconds: float) -> Reply:
        """A worker's reply. A worker that ran out of time or memory, or crashed, is ended and later replaced.

        Raises: UserError with the worker's sentence.
        """
        worker, kept = self.free.get(), None
        try:
            if worker is not None and worker.process.poll() is not None:
                worker.end()
                worker = None
            worker = worker or Worker(self.task, self.arguments, self.memory)
            reply = worker(request, seconds)
            kept = None if reply.kind in ("timeout", "crash", "memory") else worker
        finally:
            if kept is None and worker is not None:
                worker.end()
            self.free.put(kept)
        if reply.kind == "refused":
            raise UserError(reply.sentence)
        return reply

    def close(self) -> None:
        """End all workers that are not at work; the next request starts new ones."""
        idle = [self.free.get_nowait() for _ in range(self.free.qsize())]
        for worker in idle:
            if worker is not None:
                worker.end()
            self.free.put(None)


@cache
def _pool(owner: int, task: str, arguments: tuple[str, ...], size: int, memory: int | None) -> Pool:
    pool = Pool(task, arguments, size, memory)
    atexit.register(pool.close)
    return pool


def shared_pool(task: str, arguments: tuple[str, ...] = (), *, size: int, memory: int | None) -> Pool:
    """The process's only pool for this task and size; a forked process makes its own."""
    return _pool(os.getpid(), task, arguments, size, memory)
