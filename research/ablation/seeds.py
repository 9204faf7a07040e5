"""Seeds, as study files, scales, searches and the command line name them."""

from typing import Any

from research.errors import UserError


def check_seeds(what: str, seeds: Any) -> None:
    """Seeds are a list of different whole numbers.

    Raises: UserError if they are not; `what` begins the message.
    """
    whole = isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds)
    if not whole or len(set(seeds)) != len(seeds):
        raise UserError(f"{what} is a list of different whole numbers, got {seeds}")
