"""A command: one word behind `research`, what may follow it, and what it does."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass


def no_arguments(parser: ArgumentParser) -> None:
    """Add nothing: the command is the whole line."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One word behind `research`.

    A command's libraries are imported inside its function, so that `research --help` answers at once.
    """

    name: str
    """The word."""
    text: str
    """Description for `--help`."""
    run: Callable[[Namespace, list[str]], int]
    """Parsed arguments, with the whole command line as `words`, and overrides → exit status."""
    add_arguments: Callable[[ArgumentParser], None] = no_arguments
    """Tells the parser what may follow the word."""
    overrides: bool = False
    """True if `--section.key=value` may follow too; anything that the parser does not know is refused otherwise."""
