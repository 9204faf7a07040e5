"""Sharding of a policy over ranks by FSDP2; each block gathers its weights just before it computes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from research.policy.reader import Reader, decoder_of
from research.types import UpdateBatch

Pass = TypeVar("Pass")


class Shards:
    """Sharded readers, and the collective operations that all ranks perform to use them.

    Args:
        readers: sharded here. Each block is a unit; embedding, last norm and output layer form another one.
        mesh: one-dimensional, over the ranks.
        most: a collective call that gives the largest of the ranks' counts.
    """

    def __init__(self, readers: list[Reader], mesh: DeviceMesh, most: Callable[[int], int]) -> None:
        self.readers, self.most = readers, most
        for reader in readers:
            for block in blocks(reader):
                fully_shard(block, mesh=mesh)
            fully_shard(reader, mesh=mesh, reshard_after_forward=False)
            for unit in self.units(reader):
                unit.set_gradient_divide_factor(1.0)  # sum over ranks: coefficients are of the whole batch
                unit.set_force_sum_reduction_for_comms(True)

    def units(self, reader: Reader) -> list[FSDPModule]:
        """The modules that gather their own weights."""
        return [module for module in reader.modules() if isinstance(module, FSDPModule)]

    def reshard(self) -> None:
        """Drop gathered weights, because the optimizer changes only the shards."""
        for reader in self.readers:
            for unit in self.units(reader):
                unit.reshard()

    @contextmanager
    def whole(self, reader: Reader) -> Iterator[None]:
        """A block in which every rank holds all weights and may call the reader freely, without gradient."""
        with torch.no_grad():
            reader(
                self._token(reader)
            )  # FSDP takes the first module that computes for its root, which must be the reader
        units = self.units(reader)
        for unit in units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        try:
            yield
        finally:
            for unit in units:
                unit.set_reshard_after_forward(unit is not reader, recurse=False)
                unit.reshard()

    def even(self, reader: Reader, passes: Sequence[Pass], *, backward: bool = False) -> Iterator[Pass]:
        """The passes of this rank, then idle ones, so that all ranks make equally many and can gather weights together.

        Args:
            reader: reads one token in an idle pass.
            passes: passes of this rank.
            backward: True if each has a backward pass too; in an idle pass its gradient is 0.
        """
        idle = self.most(len(passes)) - len(passes)
        yield from passes
        for _ in range(idle):
            values = reader(self._token(reader))
            if backward:
                (0.0 * values.logprobs.sum()).backward()
        self.reshard()

    def _token(self, reader: Reader) -> UpdateBatch:
        """A batch of one completion of one token."""
        device = next(reader.parameters()).device
        one = torch.ones(1, dtype=torch.long, device=device)
        return UpdateBatch(
            input_ids=torch.zeros(1, 2, dtype=torch.long, device=device),
            prompt_lengths=one,
            lengths=one,
            quantities={"mask": torch.ones(1, 1, dtype=torch.bool, device=device)},
        )


def blocks(reader: Reader) -> list[nn.Module]:
    """The transformer blocks of the decoder."""
    layers = decoder_of(reader.causal_lm).layers
    assert isinstance(layers, nn.ModuleList)
    return list(layers)


def whole(value: torch.Tensor) -> torch.Tensor:
    """A sharded tensor, gathered on the CPU; every rank must call it."""
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()


def first_rank() -> bool:
    """True in the only process, or in the first of those that train together."""
    return not distributed.is_initialized() or distributed.get_rank() == 0
