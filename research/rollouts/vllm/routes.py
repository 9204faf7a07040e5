"""The route slot: the transfer of the policy's weights to a vLLM server that is already running."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import finalize

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, distributed, nn

from research.component import require
from research.errors import UserError
from research.rollouts.vllm.http import Server, ServerError
from research.rollouts.weights import full_weights, is_adapted, save_adapter, size

SHARD_BYTES = 4 * 1024**3
"""Largest file of a checkpoint, in bytes, which bounds the copy that is held in memory."""


def is_first_rank() -> bool:
    """True in the process that talks to the server for all ranks."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


class Route(ABC):
    """A way to transfer weights to a server."""

    @abstractmethod
    def attach(self, server: Server, model: nn.Module) -> None:
        """Transfer the weights of this model to this server from now on.

        Raises: UserError if this route cannot transfer them.
        """

    @abstractmethod
    def prepare(self, version: int) -> int:
        """Prepare the current weights, under this version, for sending. Every rank calls it.

        Returns: the size of the weights in bytes.
        Raises: UserError if that fails.
        """

    @abstractmethod
    def send(self) -> None:
        """Send the prepared weights. One rank calls it, and calls it again if the server was restarted.

        Raises: UserError if that fails.
        """

    def served(self, base: str) -> str:
        """The model name to request completions by; `base` is the name of the server's own model."""
        return base

    def alone(self) -> AbstractContextManager[None]:
        """A block that only one rank at a time may enter; a rank sends weights again only inside it."""
        return nullcontext()

    @abstractmethod
    def close(self) -> None:
        """Remove everything that the route has created."""


class CheckpointRoute(Route):
    """Transfers weights through a folder: the trainer saves the model or its adapters, and the server loads them.

    Trainer and server must see the folder under the same path; their devices do not matter. On one host `/dev/shm` is
    the fastest. Only the newest version is kept, and it is deleted at the end of the run. A server that was restarted
    loads the newest version again.

    Args:
        folder: a subfolder `policy-weights` is made in it; no other run may use the folder at the same time.
    """

    def __init__(self, *, folder: str) -> None:
        require(bool(folder.strip()), "CheckpointRoute: folder names a folder that trainer and server both see")
        self.folder = Path(folder).expanduser().resolve() / "policy-weights"
        self.newest: Path | None = None
        self._before: Path | None = None
        self._clear: Callable[[], object] | None = None

    def attach(self, server: Server, model: nn.Module) -> None:
        """Reserve the folder for this run.

        Raises: UserError if it cannot be written, or if another run uses it.
        """
        self.server, self.model, self.adapted = server, model, is_adapted(model)
        if not is_first_rank():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._owner = FileLock(self.folder / "run.lock", timeout=0)
            self._owner.acquire()
            for left_over in self.folder.glob("version-*"):
                shutil.rmtree(left_over)
        except Timeout as error:
            raise UserError(
                f"another run sends its weights through {self.folder}: give each run a folder and a server of its own"
            ) from error
        except OSError as error:
            raise UserError(
                f"cannot keep the policy's weights in {self.folder} ({error.strerror or error}): give CheckpointRoute "
                "a folder that trainer and server may both use"
            ) from error
        self._clear = finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def prepare(self, version: int) -> int:
        """Write the checkpoint or the adapters, and delete the version before.

        Raises: UserError if they cannot be written.
        """
        self._before, self.newest = self.newest, self.folder / f"version-{version}"
        try:
            written = self._write_adapter() if self.adapted else self._write(full_weights(self.model))
            if is_first_rank() and self._before is not None:
                shutil.rmtree(self._before)
        except (OSError, SafetensorError) as error:
            raise UserError(f"cannot write the policy's weights to {self.newest}: {error}") from error
        return written

    def send(self) -> None:
        """Make the server load the newest version.

        Raises: UserError with the server's answer if it fails.
        """
        assert self.newest is not None, "prepare comes first"
        if self.adapted:
            for version in filter(None, (self._before, self.newest)):
                self._unload(version)
            body = {"lora_name": self._name(self.newest), "lora_path": str(self.newest)}
            self.server.post("/v1/load_lora_adapter", body)
        else:
            self._reload(self.newest)

    def served(self, base: str) -> str:
        """The name of the newest version's adapter; `base` for a policy without adapters."""
        return self._name(self.newest) if self.adapted and self.newest is not None else base

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block that is guarded by a lock file in the folder.

        Raises: UserError if another rank holds the lock for longer than `request_timeout`.
        """
        try:
            with FileLock(self.folder / "send.lock", timeout=self.server.request_timeout):
                yield
        except Timeout as error:
            raise UserError(
                f"another rank has been sending weights from {self.folder} for {self.server.request_timeout:g} s: look "
                "into the server's log, or raise request_timeout"
            ) from error

    def close(self) -> None:
        """Delete the folder, and unload the adapter from the server."""
        if self._clear is None:
            return
        if self.newest is not None and self.adapted:
            with suppress(ServerError):
                self._unload(self.newest)
        self._clear()
        self._owner.release()

    def _write_adapter(self) -> int:
        assert self.newest is not None
        if is_first_rank():
            return save_adapter(self.model, self.newest)
        with TemporaryDirectory() as unread:  # gathering sharded adapters takes every rank
            return save_adapter(self.model, Path(unread))

    def _write(self, weights: Iterator[tuple[str, Tensor]]) -> int:
        try:
            return self._save(weights) if is_first_rank() else size(value for _, value in weights)
        finally:
            for _ in weights:  # gathering takes every rank, so a rank whose writing failed still iterates to the end
                pass

    def _save(self, weights: Iterator[tuple[str, Tensor]]) -> int:
        assert self.newest is not None
        self.newest.mkdir()
        shard: dict[str, Tensor] = {}
        total = 0
        for name, value in weights:
            if size([*shard.values(), value]) > SHARD_BYTES and shard:
                total += self._save_shard(shard)
            shard[name] = value.to("cpu", copy=True).contiguous()
        return total + self._save_shard(shard)

    def _save_shard(self, shard: dict[str, Tensor]) -> int:
        assert self.newest is not None
        save_file(shard, self.newest / f"model-{len(list(self.newest.iterdir())):05d}.safetensors")
        written = size(shard.values())
        shard.clear()
        return written

    def _reload(self, version: Path) -> None:
        try:
            self.server.post("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(version)}})
        except ServerError as error:
            if error.status == 500:  # vLLM drops its old weights before it opens the new ones
                raise ServerError(
                    f"{error} Does it see {version}, under this path, with the shapes that it serves? It has no usable "
                    "weights now: restart it.",
                    status=error.status,
                ) from error
            raise

    def _name(self, version: Path) -> str:
        return f"policy-{version.name}"

    def _unload(self, version: Path) -> None:
        """Unload an adapter from the server, if it is loaded there."""
        try:
            self.server.post("/v1/unload_lora_adapter", {"lora_name": self._name(version)})
        except ServerError as error:
            if error.status != 404:
                raise
