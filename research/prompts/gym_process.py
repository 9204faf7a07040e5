"""Script that generates reasoning-gym entries: reads a pickled request from standard input, writes a pickled reply.

It imports nothing of `research`, so it starts as fast as reasoning-gym itself.
"""

import pickle
import random
import sys
from difflib import get_close_matches

import numpy as np
from reasoning_gym.factory import DATASETS, create_dataset

UNSCORABLE = "composite"
"""The one name in the registry that mixes other tasks; it has no scorer of its own."""


def generate(task: str, size: int, seed: int, config: dict[str, object]) -> list[object]:
    """The entries 0 to size − 1 of a task: question, answer and metadata, in Python's own types.

    Raises: ValueError if there is no such task, or it does not take the settings.
    """
    tasks = sorted(set(DATASETS) - {UNSCORABLE})
    if task not in tasks:
        near = get_close_matches(task, tasks) or get_close_matches(task, tasks, cutoff=0.3)
        hint = f"the nearest names are {', '.join(near)}" if near else f"there are {', '.join(tasks)}"
        raise ValueError(f"reasoning-gym has no task {task!r}; {hint}")
    settings = sorted(set(DATASETS[task][1].__dataclass_fields__) - {"size", "seed"})
    unknown = sorted(set(config) - set(settings))
    if unknown:
        raise ValueError(f"task {task!r} has no setting {unknown[0]!r}; there are {', '.join(settings)}")
    try:
        dataset = create_dataset(task, size=size, seed=seed, **config)
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"task {task!r} refuses config {config}: {error}") from error
    return [plain(dataset[index]) for index in range(size)]


def plain(value: object) -> object:
    """The value with NumPy's scalars and arrays as Python's own; tuples stay tuples, as some scorers compare them."""
    if isinstance(value, dict):
        return {plain(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(inner) for inner in value)
    if isinstance(value, np.generic):
        return value.item()
    return value.tolist() if isinstance(value, np.ndarray) else value


def main() -> None:
    """Answer one request; what a task prints goes to standard error."""
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    request = pickle.load(sys.stdin.buffer)
    random.seed(request["seed"])
    np.random.seed(request["seed"] % 2**32)  # noqa: NPY002 (tasks draw from the global generator)
    try:
        reply = {"entries": generate(**request)}
    except ValueError as error:
        reply = {"error": str(error)}
    out.write(pickle.dumps(reply))


if __name__ == "__main__":
    main()
