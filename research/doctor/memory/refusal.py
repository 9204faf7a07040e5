"""The check of `research fit` before it loads anything: a policy that is too large even without a batch is refused."""

import psutil
import torch

from research.doctor.memory.blank import read_config
from research.doctor.memory.device import Device, device_of
from research.doctor.memory.estimate import state_bytes
from research.errors import UserError
from research.policy import PolicySpec
from research.recipe import Recipe, constructed
from research.training.warm_start.builtin import BUILTIN


def refuse_impossible(recipe: Recipe) -> None:
    """Refuse a recipe whose weights, gradients and AdamW moments alone exceed all memory that the device has.

    Activations, cache and batches do not count, so a recipe that passes may still be too large; `research doctor`
    estimates everything.

    Raises: UserError with the numbers.
    """
    module, _ = constructed(recipe)
    trainer = recipe.config["trainer"]
    memory = _all_memory(device_of(trainer))
    needed = _certain_bytes(module.spec) if _is_whole(trainer["strategy"]) else None
    if memory is not None and needed is not None and needed > memory:
        raise UserError(
            f"{module.spec.path} cannot be trained here: its weights, gradients and AdamW moments are "
            f"{needed / 2**30:.1f} GiB, and there are {memory / 2**30:.1f}; "
            "`research doctor` with the same recipe says what would fit"
        )


def _is_whole(strategy: object) -> bool:
    """True if every device certainly holds all of the policy."""
    return isinstance(strategy, str) and (strategy == "auto" or strategy.startswith("ddp"))


def _certain_bytes(spec: PolicySpec) -> int | None:
    """Bytes that training certainly needs; None if they are unknown, or if the model cannot be loaded anyway."""
    if spec.path in BUILTIN:
        return None
    try:
        quantized = getattr(read_config(spec), "quantization_config", None) is not None
        return None if quantized else state_bytes(spec)
    except UserError:
        return None


def _all_memory(device: Device) -> int | None:
    """All memory of the device, free or not, swap included: an upper bound; None if the device is not here."""
    if not device.cuda:
        return psutil.virtual_memory().total + psutil.swap_memory().total
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
