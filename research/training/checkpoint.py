"""Checkpoints that are written completely or not at all."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from research.errors import UserError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file, then renames it: a kill or a full disk leaves the last one intact."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write the file, flush it to disk, and rename it.

        Raises: UserError if it cannot be written; the checkpoint before is then still there.
        """
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

        Raises: UserError if the file is missing or damaged.
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
