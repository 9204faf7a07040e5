"""The policy's weights as an engine takes them over: whole, by the names that a checkpoint has, or adapters alone."""

import os
import shutil
from collections.abc import Iterable, Iterator
from copy import deepcopy
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from research.errors import UserError

SHARED_MEMORY = Path("/dev/shm")
"""A folder that is memory, where the system has one."""


def is_adapted(model: nn.Module) -> bool:
    """Whether this is a PEFT model: a frozen model and its adapters."""
    return hasattr(model, "peft_config")


def base_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model: the model itself, or the one inside a PEFT model, adapters and all."""
    inside = model.get_submodule("base_model.model") if is_adapted(model) else model
    assert isinstance(inside, PreTrainedModel), "a policy is a transformers model"
    return inside


def adapter_rank(model: nn.Module) -> int:
    """The highest rank of a PEFT model's adapters."""
    from peft import LoraConfig, PeftModel

    assert isinstance(model, PeftModel)
    return max(adapter.r for adapter in model.peft_config.values() if isinstance(adapter, LoraConfig))


def device_of(model: nn.Module) -> torch.device:
    """The device of a transformers or PEFT model."""
    device = model.device
    assert isinstance(device, torch.device)
    return device


@torch.no_grad()
def full_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight of a transformers model, or of the one inside a PEFT model, by its name in a checkpoint.

    Sharded weights are gathered one at a time, so every rank has to go through them all. A tied output layer is there
    under its own name too: an engine that keeps a copy of it would otherwise keep the old one. What transformers fuses
    while it loads a checkpoint (the experts of a mixture) is taken apart again, one block of the model at a time.

    Raises: UserError if the weights are quantized, which no engine reads as a checkpoint.
    """
    adapted, base = is_adapted(model), base_model(model)
    named = [(name, value) for name, value in base.state_dict().items() if not (adapted and "lora_" in name)]
    for _, block in groupby(named, key=lambda item: _block(item[0])):
        gathered = {name.replace(".base_layer.", "."): _whole(name, value) for name, value in block}
        yield from revert_weight_conversion(base, gathered).items()


def _block(name: str) -> str:
    """What is before the first number of a parameter's name, and the number: `model.layers.3`."""
    parts = name.split(".")
    number = next((k for k, part in enumerate(parts) if part.isdigit()), 0)
    return ".".join(parts[: number + 1])


def _whole(name: str, value: Tensor) -> Tensor:
    if isinstance(value, DTensor):
        value = value.full_tensor()
    if value.dtype in (torch.uint8, torch.int8):
        raise UserError(
            f"{name} is quantized, and an engine takes over plain weights only: load the policy unquantized, or take "
            "CompactSampler or TransformersSampler"
        )
    return value.detach()


def save_shape(model: nn.Module, folder: Path) -> None:
    """Write the config of a transformers model, or of the one inside a PEFT model, with the name of its class."""
    base = base_model(model)
    config = deepcopy(base.config)
    config.architectures = [type(base).__name__]
    config.save_pretrained(folder)


@torch.no_grad()
def save_adapter(model: nn.Module, folder: Path) -> int:
    """Write a PEFT model's adapters as PEFT reads them, gathered if they are sharded.

    Returns: the bytes of their weights.
    """
    from peft import PeftModel

    assert isinstance(model, PeftModel)
    state = {name: _whole(name, value) for name, value in model.state_dict().items() if "lora_" in name}
    model.save_pretrained(str(folder), state_dict=state, save_embedding_layers=False)
    return size(state.values())


def size(weights: Iterable[Tensor]) -> int:
    """How many bytes these weights have."""
    return sum(value.numel() * value.element_size() for value in weights)


class Counted:
    """Weights on their way, and how many bytes went by.

    Args:
        weights: names and values.
    """

    def __init__(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        self.weights, self.bytes = weights, 0

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self.weights:
            self.bytes += size([value])
            yield name, value


class AdapterFolder:
    """The newest adapters of a model in a folder of their own, in memory where the system has room; gone at the end."""

    def __init__(self) -> None:
        self._root: TemporaryDirectory | None = None
        self.newest: Path | None = None

    def save(self, model: nn.Module, version: int) -> tuple[Path, int]:
        """Write this version; the version before it goes.

        Returns: where it is, and the bytes of its weights.
        """
        if self._root is None:
            needed = size(value for name, value in model.state_dict().items() if "lora_" in name)
            self._root = TemporaryDirectory(prefix="research-adapter-", dir=_memory(needed))
        folder = Path(self._root.name) / f"version-{version}"
        written = save_adapter(model, folder)
        if self.newest is not None and self.newest != folder:
            shutil.rmtree(self.newest)
        self.newest = folder
        return folder, written

    def close(self) -> None:
        """Delete the folder."""
        if self._root is not None:
            self._root.cleanup()
        self._root, self.newest = None, None


def _memory(needed: int) -> Path | None:
    """The memory-backed folder if several versions of this size fit; None for the system's temporary folder."""
    usable = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)
    return SHARED_MEMORY if usable and shutil.disk_usage(SHARED_MEMORY).free > 4 * needed else None
