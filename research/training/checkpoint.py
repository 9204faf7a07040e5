"""Checkpoints that are written whole or not at all, and errors about them that say what to do."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from research.errors import UserError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a neighbour file first, then renames: a kill or a full disk leaves the last checkpoint as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Save, flush to disk, rename.

        Raises: UserError if the disk does not take it; the checkpoint before is then still there.
        """
        target = Path(path)
        unfinished = target.with_name(f".{target.name}.unfinished")  # a killed process's is overwritten by the next
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
        """Load, on the CPU unless told otherwise.

        Raises: UserError if the file is damaged.
        """
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=False)
        except FileNotFoundError as error:
            raise UserError(f"there is no checkpoint at {path}") from error
        except Exception as error:
            raise UserError(
                f"the checkpoint {path} cannot be read: it is cut short or not a checkpoint. "
                "Delete it to start the run again from its beginning, or put an intact copy in its place."
            ) from error
