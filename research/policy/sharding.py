"""A policy whose weights are sharded over ranks by FSDP2: every block gathers its own just before it computes."""

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
    """Sharded readers, and what all ranks must do together to use them.

    Args:
        readers: are sharded here, each block a unit; embedding, last norm and output layer another.
        mesh: one-dimensional, over the ranks.
        most: the largest of the ranks' counts.
    """

    def __init__(self, readers: list[Reader], mesh: DeviceMesh, most: Callable[[int], int]) -> None:
        self.readers, self.most = readers, most
        for reader in readers:
            for block in blocks(reader):
                fully_shard(block, mesh=mesh)
            fully_shard(reader, mesh=mesh, reshard_after_forward=False)
            for unit in self.units(reader):
                unit.set_gradient_divide_factor(1.0)  # the sum over ranks: coefficients are of the whole batch
                unit.set_force_sum_reduction_for_comms(True)

    def units(self, reader: Reader) -> list[FSDPModule]:
        """The modules that gather their weights on their own."""
        return [module for module in reader.modules() if isinstance(module, FSDPModule)]

    def reshard(self) -> None:
        """Forget gathered weights, since the optimizer changes only the shards."""
        for reader in self.readers:
            for unit in self.units(reader):
                unit.reshard()

    @contextmanager
    def whole(self, reader: Reader) -> Iterator[None]:
        """Every rank has all weights of the reader, and may use it as often as it likes; without gradient."""
        with torch.no_grad():
            reader(self._token(reader))  # a unit that computes before the first pass of the whole would take the lead
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
        """These passes, then as many idle ones as bring this rank to the most of any: gathering weights takes all.

        Args:
            reader: reads one token in an idle pass.
            passes: this rank's.
            backward: whether each has a backward pass too; that of an idle one has gradient 0.
        """
        idle = self.most(len(passes)) - len(passes)
        yield from passes
        for _ in range(idle):
            values = reader(self._token(reader))
            if backward:
                (0.0 * values.logprobs.sum()).backward()
        self.reshard()

    def _token(self, reader: Reader) -> UpdateBatch:
        """A completion of one token."""
        device = next(reader.parameters()).device
        one = torch.ones(1, dtype=torch.long, device=device)
        return UpdateBatch(
            input_ids=torch.zeros(1, 2, dtype=torch.long, device=device),
            prompt_lengths=one,
            lengths=one,
            quantities={"mask": torch.ones(1, 1, dtype=torch.bool, device=device)},
        )


def blocks(reader: Reader) -> list[nn.Module]:
    """The decoder's blocks."""
    layers = decoder_of(reader.causal_lm).layers
    assert isinstance(layers, nn.ModuleList)
    return list(layers)


def whole(value: torch.Tensor) -> torch.Tensor:
    """A sharded tensor gathered, on the CPU; every rank takes part."""
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()


def first_rank() -> bool:
    """Whether this process is alone, or the first of those that train together."""
    return not distributed.is_initialized() or distributed.get_rank() == 0
