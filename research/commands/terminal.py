"""The terminal: what was typed there, and where tables go."""

import shlex
import sys
from argparse import Namespace
from typing import Any


def command_line(known: Namespace) -> str:
    """The command as it can be typed again."""
    return f"research {shlex.join(known.words)}"


def console() -> Any:
    """rich's console, as wide as the terminal; in a file or a pipe, 140 columns."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140)
