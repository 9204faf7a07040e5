"""Random numbers by name: every draw of a run has a seed that depends only on the run's seed and on what is drawn.

Nothing random is carried from one step to the next, so a resumed run draws what the uninterrupted one draws, and two
arms of an ablation at one seed draw the same prompts and the same evaluation samples.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2⁶³) that is a pure function of `parts` (SHA-256 of their texts).

    Example:
        >>> derive_seed(0, "rollouts", 3) == derive_seed(0, "rollouts", 3)
        True
        >>> derive_seed(0, "rollouts", 3) == derive_seed(0, "rollouts", 4)
        False
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def torch_seed(seed: int) -> Iterator[None]:
    """Run a block under torch's global generators set to `seed`; the generators' states are restored afterwards."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def random_states() -> dict:
    """The states of Python's, NumPy's and torch's global generators, as tensors and plain values for a checkpoint."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (name, torch.tensor(keys, dtype=torch.int64), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict) -> None:
    """Restore what `random_states` saved (CUDA states only where the number of devices is the same).

    Raises: ValueError, TypeError or RuntimeError if a state is malformed.
    """
    name, keys, position, *rest = states["numpy"]
    if not 0 <= position <= len(keys):  # NumPy would read beyond its memory
        raise ValueError(f"a position of NumPy's generator is from 0 to {len(keys)}, not {position}")
    random.setstate(states["python"])
    np.random.set_state((name, np.array(keys.tolist(), dtype=np.uint32), position, *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count() and states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
