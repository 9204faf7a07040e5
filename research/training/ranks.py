"""Data parallelism: each rank samples and reads its share of the prompts, and all results are gathered.

Groups are gathered before credit, so every rank computes advantages, weights and coefficients over the whole update
batch with the same code as a single process. Then each rank computes the gradient of its own rows. The sum over ranks
is the gradient that a single process computes from all rows.
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
    """Index of this process."""
    size: int = 1
    """Number of processes."""

    @classmethod
    def of(cls, trainer: Trainer | None) -> "Ranks":
        """The rank of this process in a Lightning trainer; a single rank without a trainer."""
        return cls() if trainer is None else cls(rank=trainer.global_rank, size=trainer.world_size)

    def seed(self, seed: int) -> int:
        """A seed for this rank, different on each of several ranks; the given seed for a single rank."""
        return seed if self.size == 1 else derive_seed(seed, "rank", self.rank)

    def share(self, items: Sequence[Item]) -> list[Item]:
        """The share of this rank: every `size`-th item.

        Example:
            >>> Ranks(rank=1, size=3).share("abcde")
            ['b', 'e']
        """
        return list(items[self.rank :: self.size])

    def gather(self, own: list[Item]) -> list[Item]:
        """All items in their original order, gathered from the shares of all ranks."""
        if self.size == 1:
            return own
        shares: list[list[Item]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(shares, own)
        return [shares[k % self.size][k // self.size] for k in range(sum(map(len, shares)))]

    def rows(self, batch: UpdateBatch) -> UpdateBatch:
        """The rows of this rank; the ranks' numbers of rows differ by at most one, and their lengths are similar."""
        if self.size == 1:
            return batch
        return batch.rows(self._own(batch))

    def read(self, read: Callable[[UpdateBatch], TokenValues], batch: UpdateBatch) -> TokenValues:
        """Values of all rows, of which each rank computes its share.

        Args:
            read: computes log-probabilities and entropies of some rows, possibly of none.
            batch: all rows.
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
