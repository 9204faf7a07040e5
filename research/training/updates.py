"""Optimizer steps of an update batch: epochs × minibatches, each read in micro-batches of a limited size."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from research.component import require
from research.seeding import derive_seed
from research.types import UpdateBatch


@dataclass(frozen=True, kw_only=True)
class Updates:
    """Optimizer steps per update batch.

    A minibatch's loss is multiplied by the number of minibatches M, so its gradient is an unbiased estimate of the
    whole batch's: with coefficients c computed over the batch, E[ M · Σ_{i∈minibatch} c_i g_i ] = Σ_i c_i g_i.
    """

    epochs: int
    """Passes over the update batch (PPO's μ); at least 1."""
    minibatches: int
    """Optimizer steps in each pass; at least 1."""
    micro_batch_tokens: int
    """Most padded tokens in a forward pass, which bounds memory and does not change the gradient."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, f"Updates: epochs is at least 1, got {self.epochs}")
        require(self.minibatches >= 1, f"Updates: minibatches is at least 1, got {self.minibatches}")
        require(
            self.micro_batch_tokens >= 1, f"Updates: micro_batch_tokens is at least 1, got {self.micro_batch_tokens}"
        )

    @property
    def on_policy(self) -> bool:
        """True if there is a single optimizer step, at which every ratio is 1."""
        return self.epochs == 1 and self.minibatches == 1

    def split(self, batch: UpdateBatch, seed: int) -> Iterator[UpdateBatch]:
        """The minibatches of all epochs, with shuffled rows and with coefficients multiplied by M."""
        rows = len(batch.lengths)
        pieces = min(self.minibatches, rows)
        shares = [name for name in ("coefficients", "value_coefficients") if name in batch.quantities]
        scaled = batch.with_quantities(**{name: batch[name] * pieces for name in shares})
        for epoch in range(self.epochs):
            generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
            order = torch.randperm(rows, generator=generator) if pieces > 1 else torch.arange(rows)
            for piece in order.tensor_split(pieces):
                yield scaled.rows(piece.to(batch.lengths.device))
