"""The optimizer's settings, and an optimizer step that is skipped if the gradient is not finite."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from research.component import require
from research.errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """AdamW with a linear warm-up, a constant rate after it, and clipping by the global gradient norm."""

    learning_rate: float
    """Learning rate after warm-up; above 0."""
    warmup_steps: int
    """Steps (not optimizer steps) over which the rate grows linearly; 0 for none."""
    gradient_clip: float = 1.0
    """Largest global norm of the gradient; above 0."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay; at least 0."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's moment decays; each in [0, 1)."""
    eps: float = 1e-8
    """AdamW's ε; above 0."""
    max_nonfinite: int = 5
    """The run stops after this many updates in a row with a loss or gradient that is not finite; at least 1."""

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"Optimization: learning_rate is above 0, got {self.learning_rate}")
        require(self.warmup_steps >= 0, f"Optimization: warmup_steps is at least 0, got {self.warmup_steps}")
        require(self.gradient_clip > 0, f"Optimization: gradient_clip is above 0, got {self.gradient_clip}")
        require(self.weight_decay >= 0, f"Optimization: weight_decay is at least 0, got {self.weight_decay}")
        require(all(0 <= b < 1 for b in self.betas), f"Optimization: betas are in [0, 1), got {self.betas}")
        require(self.eps > 0, f"Optimization: eps is above 0, got {self.eps}")
        require(self.max_nonfinite >= 1, f"Optimization: max_nonfinite is at least 1, got {self.max_nonfinite}")

    def build(self, module: nn.Module) -> tuple[torch.optim.AdamW, LambdaLR]:
        """The optimizer of the module's trainable parameters and its schedule, which is advanced once a step."""
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters,
            lr=self.learning_rate,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )
        return optimizer, LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, self.warmup_steps)))


@dataclass
class NonFiniteGuard:
    """Counts skipped updates, and stops the run after too many in a row."""

    limit: int
    skipped: int = 0
    in_a_row: int = 0

    def admit(self, gradient_norm: float) -> bool:
        """True if the gradient norm is finite, so that the step may be taken.

        Raises: UserError after `limit` skipped steps in a row.
        """
        if gradient_norm == gradient_norm and abs(gradient_norm) != float("inf"):
            self.in_a_row = 0
            return True
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= self.limit:
            raise UserError(
                f"{self.in_a_row} updates in a row had a loss or gradient that is not finite, so the run stopped; "
                "its last checkpoint is intact. Lower the learning rate, lengthen the warm-up, or check the rewards."
            )
        return False


def as_list(found: Item | list[Item] | None) -> list[Item]:
    """A list of what Lightning returns: None, a single object or a list."""
    if found is None:
        return []
    return list(found) if isinstance(found, list) else [found]


def parameters_of(optimizer: Optimizer | LightningOptimizer) -> list[nn.Parameter]:
    """The parameters of an optimizer."""
    inside = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
    return [parameter for group in inside.param_groups for parameter in group["params"]]


def guarded_step(
    optimizer: Optimizer | LightningOptimizer, *, clip: float, guard: NonFiniteGuard
) -> tuple[float, bool]:
    """Clip the gradient and step, unless the gradient is not finite.

    Args:
        optimizer: of Lightning or torch.
        clip: largest global norm of the gradient.
        guard: counts skipped steps.

    Returns: the gradient norm before clipping, and True if the step was taken.
    """
    norm = torch.nn.utils.clip_grad_norm_(parameters_of(optimizer), clip)
    norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    taken = guard.admit(norm)
    if taken:
        optimizer.step()
    return norm, taken
