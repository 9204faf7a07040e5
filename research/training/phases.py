"""Where the time of a step goes."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Phases:
    """Sums wall-clock seconds by phase, and forgets them at the start of each step.

    Example:
        >>> phases = Phases()
        >>> with phases("sampling"):
        ...     pass
        >>> sorted(phases.seconds)
        ['sampling']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def reset(self) -> None:
        """Begin a new step."""
        self.seconds = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the block's duration to the phase `name`."""
        began = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - began
