"""Seeds, as study files, scales, searches and the command line give them."""

from research.errors import UserError


def check_seeds(what: str, seeds: object) -> list[int]:
    """The seeds, if they are a list of different whole numbers.

    Raises: UserError if they are not; `what` begins the sentence.
    """
    if isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds) and len(set(seeds)) == len(seeds):
        return seeds
    raise UserError(f"{what} is a list of different whole numbers, got {seeds}")


def read_seeds(what: str, text: str) -> list[int]:
    """The seeds of a text such as 0,1,2.

    Raises: UserError if they are not different whole numbers; `what` begins the sentence.
    """
    return check_seeds(what, [int(word) if word.strip().isdecimal() else word for word in text.split(",")])
