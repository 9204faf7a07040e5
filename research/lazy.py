"""Packages whose names are imported when they are first asked for, so that one light module does not load them all."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from research.source_files import read_module


def exports(package: str) -> Callable[[str], Any]:
    """A package's `__getattr__`: it imports a name from where the package's own source does, under `TYPE_CHECKING`."""

    def imported(name: str) -> Any:
        """The name, which the package keeps from then on.

        Raises: AttributeError if the package exports nothing of this name.
        """
        module = sys.modules[package]
        read = read_module(package, Path(str(module.__file__)))
        origin = None if read is None or name.startswith("__") else read.names.get(name)
        if not isinstance(origin, tuple) or not origin[0].startswith(f"{package}."):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(origin[0]), origin[1])
        setattr(module, name, value)
        return value

    return imported


def load_all(package: str) -> None:
    """Import everything that a package exports."""
    module = import_module(package)
    for name in module.__all__:
        getattr(module, name)
