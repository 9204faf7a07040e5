"""Ctrl-C and SIGTERM: the first one is a request to stop, the second one stops at once."""

import signal
from collections.abc import Callable
from types import FrameType


class Interrupts:
    """Within the block, the first Ctrl-C or SIGTERM only sets `asked`; the second raises KeyboardInterrupt.

    Only the main thread can enter it. Schedulers that preempt, such as Slurm, send SIGTERM.
    """

    def __init__(self) -> None:
        self.asked = False
        self._done = False

    def __enter__(self) -> "Interrupts":
        self._before = {number: signal.signal(number, self._heard) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def once(self, act: Callable[[], None]) -> None:
        """Act on the request, the first time this is called."""
        if not self._done:
            self._done = True
            act()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
