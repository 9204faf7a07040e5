"""The work that both sides do, and what both child processes report; imports nothing heavy."""

import resource
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Work:
    """One rollout and one optimizer step, repeated."""

    recipe: str
    model: str
    prompts: int
    completions: int
    max_completion_tokens: int | None
    """None takes the recipe's."""
    repetitions: int
    steps: int
    """Timed in each repetition, after one that warms up."""
    threads: int

    @property
    def steps_a_repetition(self) -> int:
        return self.steps + 1

    @property
    def all_steps(self) -> int:
        return self.repetitions * self.steps_a_repetition


def prompts_digest(texts: Iterable[str]) -> str:
    """Equal for equal sets of prompts."""
    return sha256("\n".join(sorted(set(texts))).encode()).hexdigest()[:12]


def peak_bytes() -> int:
    """Peak resident memory of this process.

    Linux keeps it per program in VmHWM; `ru_maxrss` would also hold the peak of the parent that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
