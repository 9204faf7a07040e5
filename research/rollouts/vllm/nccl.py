"""Experimental: a route that sends weights from GPU to GPU, by vLLM's own weight transfer."""

from collections.abc import Iterator, Mapping
from logging import getLogger
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, distributed, nn

from research.component import require
from research.errors import UserError
from research.rollouts.vllm.engine import module
from research.rollouts.vllm.http import Server
from research.rollouts.vllm.routes import Route
from research.rollouts.weights import full_weights, is_adapted, size

TRANSFER = "vllm.distributed.weight_transfer"
EXPERIMENTAL = "NCCLRoute is experimental: it has never run on GPUs; take CheckpointRoute for results that you rely on"


@runtime_checkable
class Transfer(Protocol):
    """The trainer's end of vLLM's weight transfer."""

    def send_weights(self) -> None:
        """Send one version to the server."""

    def shutdown(self) -> None:
        """Close the connection."""


class NCCLRoute(Route):
    """Experimental: sends weights by NCCL from the trainer's GPU to the server's GPUs, without files.

    It has never run on GPUs. Its calls follow the interface of vLLM 0.32 (pause, start, update, finish, resume) and are
    tested without a GPU; whether a transfer ends with an error when the server is lost is not known. Use
    CheckpointRoute for results that you rely on.

    It is for a single trainer that trains all weights. vLLM must be installed in the trainer's environment too, and the
    server must run on other GPUs than the trainer, started with `--weight-transfer-config '{"backend": "nccl"}'`.

    Args:
        address: of the trainer's host, as the server reaches it.
        port: for the server's connection to the trainer, at least 1; increased by one after a restart of the server.
    """

    def __init__(self, *, address: str, port: int) -> None:
        require(bool(address), "NCCLRoute: address is this host's, as the server reaches it")
        require(1 <= port < 2**16, f"NCCLRoute: port is in [1, 65535], got {port}")
        self.address, self.port = address, port
        self.engine: Transfer | None = None

    def attach(self, server: Server, model: nn.Module) -> None:
        """Transfer the weights of this model to this server from now on.

        Raises: UserError with adapters, on several ranks, or without a GPU or vLLM.
        """
        if is_adapted(model):
            raise UserError("NCCLRoute sends whole models only: take CheckpointRoute for a policy with adapters")
        if distributed.is_initialized() and distributed.get_world_size() > 1:
            raise UserError("NCCLRoute sends from one rank only: take CheckpointRoute, or train on one device")
        if not torch.cuda.is_available():
            raise UserError("NCCLRoute needs a GPU, and there is none: take CheckpointRoute")
        try:
            module("vllm")
        except ImportError as error:
            raise UserError(
                f"NCCLRoute needs vLLM in the trainer's environment too ({error}): pip install 'research-rlvr[vllm]', "
                "or take CheckpointRoute"
            ) from error
        getLogger(__name__).warning(EXPERIMENTAL)
        self.server, self.model = server, model

    def prepare(self, version: int) -> int:
        """Compute the size of the weights, which are read when they are sent."""
        return size(value for _, value in full_weights(self.model))

    def send(self) -> None:
        """Pause the server, transfer all weights, and resume the server.

        Raises: UserError with the reason if the transfer fails.
        """
        label = self.server.weights_label()
        if self.engine is not None and label == "default":
            self.engine, self.port = None, self.port + 1
        self.server.post("/pause?mode=wait")
        try:
            self.engine = self.engine or self._connected()
            self.engine.send_weights()
        except (RuntimeError, ValueError, OSError) as error:
            self.engine = None
            raise UserError(
                f"vLLM could not transfer the weights to {self.server.url} ({error}): check that the server reaches "
                f"{self.address}:{self.port}, or take CheckpointRoute"
            ) from error
        finally:
            self.server.post("/resume")

    def close(self) -> None:
        """Close the connection."""
        if self.engine is not None:
            self.engine.shutdown()

    def _connected(self) -> Transfer:
        info = module(f"{TRANSFER}.nccl_engine").NCCLTrainerInitInfo(
            master_address=self.address,
            master_port=self.port,
            world_size=1 + int(self.server.get("/get_world_size", "world_size")),
            rank=0,
        )
        factory = module(f"{TRANSFER}.factory").WeightTransferTrainerFactory
        return factory.trainer_init(info, client=TransferCalls(self.server), source=source_of(self.model))


class TransferCalls:
    """The calls of vLLM's transfer to the server, with this program's time-outs and errors."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def init_weight_transfer_engine(self, init_info: Mapping[str, object]) -> None:
        """Make the server's workers connect to the trainer."""
        self.server.post("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        """Begin the transfer of a version."""
        self.server.post("/start_weight_update")

    def update_weights(self, update_info: object) -> None:
        """Make the workers receive the described weights."""
        self.server.post("/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """End the transfer of a version."""
        self.server.post("/finish_weight_update", {"weight_version": weight_version})


def source_of(model: nn.Module) -> object:
    """The weights of a model in the form that vLLM's transfer reads: their descriptions, and an iterator."""
    base = module(f"{TRANSFER}.base")

    class Weights(base.WeightSource):
        def metadata(self) -> list[object]:
            return [base.ParamMeta(name, value.dtype, tuple(value.shape)) for name, value in full_weights(model)]

        def __iter__(self) -> Iterator[tuple[str, Tensor]]:
            return full_weights(model)

    return Weights()
