"""The processes that train together: each samples and reads its share, and all of them know everything.

The groups are gathered before credit, so every rank computes advantages, weights and coefficients over the whole update
batch, by the same code as one rank does; a rank then takes the gradient of its own rows, and the sum over ranks is the
gradient of one rank that has all rows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from lightning import Trainer
from torch import Tensor, distributed

from research.policy import TokenValues
from research.seeding import derive_seed
from research.types import UpdateBatch

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """One process among those that train together."""

    rank: int = 0
    """Which one this is."""
    size: int = 1
    """How many there are."""

    @classmethod
    def of(cls, trainer: Trainer | None) -> "Ranks":
        """The ranks of a Lightning trainer; one where there is none."""
        return cls() if trainer is None else cls(rank=trainer.global_rank, size=trainer.world_size)

    def seed(self, seed: int) -> int:
        """A seed of this rank's own, so that no two ranks draw the same numbers; the seed itself for one rank."""
        return seed if self.size == 1 else derive_seed(seed, "rank", self.rank)

    def share(self, items: Sequence[Item]) -> list[Item]:
        """The items that are this rank's: every `size`-th.

        Example:
            >>> Ranks(rank=1, size=3).share("abcde")
            ['b', 'e']
        """
        return list(items[self.rank :: self.size])

    def gather(self, own: list[Item]) -> list[Item]:
        """All items in order, from every rank's share."""
        if self.size == 1:
            return own
        shares: list[list[Item]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(shares, own)
        return [shares[k % self.size][k // self.size] for k in range(sum(map(len, shares)))]

    def rows(self, batch: UpdateBatch) -> UpdateBatch:
        """The rows that are this rank's: as many as any other's up to one, of about the same lengths."""
        if self.size == 1:
            return batch
        return batch.rows(self._own(batch))

    def read(self, read: Callable[[UpdateBatch], TokenValues], batch: UpdateBatch) -> TokenValues:
        """What `read` says of all rows, each of which one rank reads.

        Args:
            read: asks a model for the log-probabilities and entropies of some rows, maybe of none.
            batch: the rows.
        """
        if self.size == 1:
            return read(batch)
        own = self._own(batch)
        values = read(batch.rows(own))
        found: list[tuple[Tensor, ...]] = [()] * self.size
        distributed.all_gather_object(found, (own.cpu(), values.logprobs.cpu(), values.entropies.cpu()))
        whole = torch.zeros(2, *batch["mask"].shape)
        for rows, *parts in found:
            for k, part in enumerate(parts):
                whole[k, rows, : part.shape[1]] = part
        logprobs, entropies = whole.to(batch.input_ids.device)
        return TokenValues(logprobs=logprobs, entropies=entropies)

    def add(self, gradients: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks."""
        if self.size == 1:
            return
        tensors = list(gradients)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def most(self, count: int) -> int:
        """The largest count of any rank."""
        return max(self.gather([count]))

    def _own(self, batch: UpdateBatch) -> Tensor:
        order = torch.argsort(batch.prompt_lengths + batch.lengths, descending=True, stable=True)
        return order[self.rank :: self.size].sort().values
