"""Wall-clock time of the phases of a step."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Phases:
    """Sums wall-clock seconds by phase, from zero at the start of each step.

    Example:
        >>> phases = Phases()
        >>> with phases("sampling"):
        ...     pass
        >>> sorted(phases.times())
        ['time/sampling_seconds', 'time/step_seconds']
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin a new step."""
        self.seconds: dict[str, float] = {}
        self._began = perf_counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the block's duration to the phase `name`."""
        began = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - began

    def times(self) -> dict[str, float]:
        """Metrics of the step so far: seconds of each phase and of the whole step."""
        times = {f"time/{phase}_seconds": seconds for phase, seconds in self.seconds.items()}
        times["time/step_seconds"] = perf_counter() - self._began
        return times
