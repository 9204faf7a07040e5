"""Checkpoints that are written completely or not at all, and hold tensors and plain values only.

A checkpoint is data: nothing in it can name code to run. It is written by pickle, as torch does, and read by torch's
restricted unpickler, which makes tensors, numbers, texts, lists, tuples, sets and dictionaries, and nothing else.
"""

import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from research.errors import UserError

_NAMED = re.compile(r"GLOBAL (\S+)")
_LEAVES = (type(None), bool, int, float, complex, str, bytes, torch.Tensor, torch.nn.Parameter, torch.Size, torch.dtype)
_LISTS = (list, tuple, set)
_MAPPINGS = (dict, OrderedDict)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file, then renames it: a kill or a full disk leaves the last one intact."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write the file, flush it to disk, and rename it.

        Raises: UserError if it cannot be written, or if it would hold anything that cannot be read again; the
            checkpoint before is then still there.
        """
        if (found := foreign(checkpoint)) is not None:
            raise UserError(
                f"cannot write the checkpoint {path}: it would hold {found}, and a checkpoint holds tensors and plain "
                "values only. Turn it into these where it comes from: a callback, a component or a prompt source."
            )
        target = Path(path)
        unfinished = target.with_name(f".{target.name}.unfinished")  # one left by a killed process is overwritten
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                unfinished.unlink()
            reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
            raise UserError(
                f"cannot write the checkpoint {target}: {reason}. The checkpoint before it is intact; "
                "free some space or choose another folder, then run the same command to continue."
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: str | torch.device | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint, onto the CPU by default.

        Raises: UserError if the file is missing or damaged, or holds anything but tensors and plain values.
        """
        with reading(path):
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """A block that reads a checkpoint.

    Raises: UserError, one sentence for each reason why it cannot be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint at {path}") from error
    except Exception as error:
        if isinstance(error, UnpicklingError) and (named := _NAMED.search(str(error))):
            raise UserError(
                f"the checkpoint {path} names Python code ({named.group(1)}), which is not run: a checkpoint holds "
                "tensors and plain values only. If an earlier version wrote it, finish the run with that version; "
                "otherwise do not trust it, and delete it to start the run again."
            ) from error
        raise UserError(
            f"the checkpoint {path} cannot be read: it is cut short or not a checkpoint. "
            "Delete it to start the run again from its beginning, or put an intact copy in its place."
        ) from error


def foreign(value: object, place: str = "") -> str | None:
    """The first value that is neither a tensor nor plain, by its place and type; None if there is none.

    Example:
        >>> foreign({"totals": {"steps": 3}}) is None
        True
        >>> foreign({"research": [0, print]})
        'a builtin_function_or_method at research.1'
    """
    kind = type(value)
    if kind in _LEAVES:
        return None
    if isinstance(value, dict) and kind in _MAPPINGS:
        pairs = [*((key, key) for key in value), *value.items()]
    elif isinstance(value, (list, tuple, set)) and kind in _LISTS:
        pairs = list(enumerate(value))
    else:
        return f"a {kind.__name__} at {place}"
    inner = (foreign(item, f"{place}.{key}" if place else str(key)) for key, item in pairs)
    return next((found for found in inner if found is not None), None)
