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


def read_seeds(what: str, text: str) -> list[int]:
    """The seeds of a text such as 0,1,2.

    Raises: UserError if they are not different whole numbers; `what` begins the message.
    """
    seeds: list[Any] = [int(word) if word.strip().isdecimal() else word for word in text.split(",")]
    check_seeds(what, seeds)
    return seeds
