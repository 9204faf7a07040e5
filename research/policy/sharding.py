"""A policy whose weights are sharded over ranks by FSDP2: every block gathers its own just before it computes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from research.policy.reader import Reader
from research.types import UpdateBatch


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

    def keep_up(self, reader: Reader, passes: int, *, backward: bool = False) -> None:
        """As many more passes as bring this rank to the largest count of any: gathering weights takes all ranks.

        Args:
            reader: reads one token again and again.
            passes: how many passes this rank has had.
            backward: whether each has a backward pass; here its gradient is 0.
        """
        device = next(reader.parameters()).device
        one = torch.ones(1, dtype=torch.long, device=device)
        batch = UpdateBatch(
            input_ids=torch.zeros(1, 2, dtype=torch.long, device=device),
            prompt_lengths=one,
            lengths=one,
            quantities={"mask": torch.ones(1, 1, dtype=torch.bool, device=device)},
        )
        for _ in range(self.most(passes) - passes):
            values = reader(batch)
            if backward:
                (0.0 * values.logprobs.sum()).backward()


def blocks(reader: Reader) -> list[nn.Module]:
    """The decoder's blocks."""
    return list(reader.causal_lm.get_decoder().layers)  # pyright: ignore
