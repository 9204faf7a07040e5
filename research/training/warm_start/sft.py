"""Supervised fine-tuning on demonstrations, with the loss −log p of their completion tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import cast

import torch
from jaxtyping import Float
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from research.component import require
from research.policy.logprobs import completion_positions
from research.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """A prompt and a completion to imitate, in tokens; the completion includes the end token."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    own: tuple[bool, ...]
    """True for each completion token that is imitated, False for the tokens of a tool."""


@dataclass(frozen=True, kw_only=True)
class SFTSettings:
    """Length and learning rate of supervised fine-tuning."""

    steps: int
    """Optimizer steps; at least 1."""
    batch: int
    """Demonstrations in a step; at least 1."""
    learning_rate: float
    """Learning rate after warm-up, above 0; it decays linearly to a twentieth."""
    warmup_steps: int = 30
    """Number of optimizer steps of linear warm-up."""

    def __post_init__(self) -> None:
        require(
            self.steps >= 1 and self.batch >= 1,
            f"SFT: steps and batch are at least 1, got {self.steps} and {self.batch}",
        )
        require(self.learning_rate > 0, f"SFT: learning_rate is above 0, got {self.learning_rate}")


class SFTModule(LightningModule):
    """Trains a model to imitate demonstrations.

    loss = − Σ_{i,t} log π_θ(o_{i,t} | q_i, o_{i,<t}) / Σ_i |o_i|
    """

    def __init__(self, model: nn.Module, settings: SFTSettings) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def training_step(self, batch: list[Demonstration], batch_idx: int) -> Float[Tensor, ""]:
        """The loss of one batch."""
        sequences = [torch.tensor([*d.prompt_ids, *d.completion_ids], device=self.device) for d in batch]
        input_ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
        prompts = torch.tensor([len(d.prompt_ids) for d in batch], device=self.device)
        own = [torch.tensor(d.own, device=self.device) for d in batch]
        rows, _, position = completion_positions(prompts, torch.nn.utils.rnn.pad_sequence(own, batch_first=True))
        logits = self.model(input_ids=input_ids, use_cache=False).logits[rows, position]
        loss = torch.nn.functional.cross_entropy(logits.float(), input_ids[rows, position + 1])
        self.log("loss", loss, prog_bar=True)
        return loss

    def transfer_batch_to_device(
        self, batch: list[Demonstration], device: torch.device, dataloader_idx: int
    ) -> list[Demonstration]:
        """Leave demonstrations as they are; the step makes tensors of them."""
        return batch

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a linear warm-up and a linear decay."""
        s = self.settings
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=s.learning_rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True
        )
        schedule = LambdaLR(optimizer, lambda k: min((k + 1) / max(1, s.warmup_steps), max(0.05, 1 - k / s.steps)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def batches(demonstrations: Sequence[Demonstration], settings: SFTSettings, seed: int) -> DataLoader:
    """One batch for each step, in a seeded order. Among eight batches, rows of similar length share a batch."""
    random, run = Random(derive_seed(seed, "sft")), 8 * settings.batch
    order: list[Demonstration] = []
    while len(order) < settings.steps * settings.batch:
        order += random.sample(demonstrations, len(demonstrations))
    planned: list[list[Demonstration]] = []
    for start in range(0, settings.steps * settings.batch, run):
        pool = sorted(order[start : start + run], key=lambda d: len(d.prompt_ids) + len(d.completion_ids))
        pieces = [pool[k : k + settings.batch] for k in range(0, len(pool), settings.batch)]
        planned += random.sample(pieces, len(pieces))
    return DataLoader(cast(Dataset[list[Demonstration]], planned[: settings.steps]), batch_size=None)
