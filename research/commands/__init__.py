"""The commands, one file for each group of them; a command's arguments stand beside what it does."""

from collections.abc import Mapping

from research.commands import lookups, policies, studies
from research.commands.command import Command

COMMANDS: Mapping[str, Command] = {
    command.name: command for command in (*policies.COMMANDS, *studies.COMMANDS, *lookups.COMMANDS)
}
"""By name, in the order of `research --help`."""

__all__ = ["COMMANDS", "Command"]
