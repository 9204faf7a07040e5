"""The `trainer` section of a recipe: where a run trains. How it trains is said in the other sections."""

from collections.abc import Mapping
from inspect import signature

import torch
from lightning import Trainer

from research.errors import UserError

ALLOWED = ("accelerator", "devices", "strategy", "num_nodes")
"""Arguments of `lightning.Trainer` that a recipe may give: they choose hardware, and no number depends on them but by
rounding."""
INSTEAD: Mapping[str, str] = {
    "precision": "model.policy.precision",
    "max_epochs": "run.steps",
    "min_epochs": "run.steps",
    "max_steps": "run.steps",
    "min_steps": "run.steps",
    "max_time": "run.seconds",
    "fast_dev_run": "run.steps and run.evaluate_every",
    "overfit_batches": "data.train",
    "limit_train_batches": "run.steps",
    "limit_val_batches": "data.evaluation",
    "limit_test_batches": "data.evaluation",
    "limit_predict_batches": "data.evaluation",
    "check_val_every_n_epoch": "run.evaluate_every",
    "val_check_interval": "run.evaluate_every",
    "gradient_clip_val": "model.optimization.gradient_clip",
    "gradient_clip_algorithm": "model.optimization.gradient_clip",
    "accumulate_grad_batches": "model.updates.micro_batch_tokens",
    "default_root_dir": "run.folder",
    "logger": "run.tracking",
    "enable_checkpointing": "run.checkpoint_every",
}
"""Other arguments → the setting of ours that does what they would do."""


def trainer_fault(section: Mapping[str, object]) -> str | None:
    """A sentence on the first argument that a recipe may not give; None if all are allowed.

    An argument at Lightning's own default says nothing, as in the resolved config of a run.

    Example:
        >>> trainer_fault({"accelerator": "cpu", "max_epochs": None})
        >>> print(trainer_fault({"max_epochs": 3}))
        trainer.max_epochs is not a setting here: use run.steps. trainer takes accelerator, devices, strategy, num_nodes
    """
    defaults = {name: parameter.default for name, parameter in signature(Trainer.__init__).parameters.items()}
    for name, value in section.items():
        if name in ALLOWED or (name in defaults and value == defaults[name]):
            continue
        instead = f": use {INSTEAD[name]}" if name in INSTEAD else ""
        return f"trainer.{name} is not a setting here{instead}. trainer takes {', '.join(ALLOWED)}"
    return None


def require_device(section: Mapping[str, object]) -> None:
    """Refuse a recipe for a GPU on a machine without one.

    Raises: UserError if torch finds none.
    """
    if section.get("accelerator") in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UserError(
            "the recipe asks for a GPU (trainer.accelerator), and torch finds none here: run it on a machine that has "
            "one, or lay the overlay experiments/hardware/cpu.yaml over it"
        )
