"""The command `research`: its words, and what a user sees of a mistake."""

import argparse
import os
import re
import sys
from collections.abc import Sequence

from research.commands import COMMANDS
from research.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake is one line on standard error and exit status 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    # argparse takes a word with a space in it for a positional one, and a node on the command line has spaces.
    nodes = [word for word in words if re.match(r"--\w+(\.\w+)+=", word)]
    known, rest = parser.parse_known_args([word for word in words if word not in nodes])
    rest += nodes
    command = COMMANDS[known.command]
    if rest and not command.overrides:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    known.words = words
    try:
        return command.run(known, rest)
    except UserError as error:
        print(f"research: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("research: interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="research", description="Reinforcement learning with verifiable rewards, and ablations of it."
    )
    words = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        command.add_arguments(words.add_parser(command.name, help=command.text, description=command.text))
    return parser


if __name__ == "__main__":
    sys.exit(main())
