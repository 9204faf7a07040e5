"""Weights for a sampling engine: the whole policy under the names of a checkpoint, or its adapters alone."""

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
"""A folder in memory, on systems that have it."""


def is_adapted(model: nn.Module) -> bool:
    """True for a PEFT model: a frozen model with adapters."""
    return hasattr(model, "peft_config")


def base_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model: the model itself, or the one inside a PEFT model, with the adapters in its layers."""
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
    """Each weight of a transformers model, or of the one inside a PEFT model, with its name in a checkpoint.

    Sharded weights are gathered one after the other, so every rank has to iterate over all of them. A tied output layer
    is included under its own name, because an engine may keep a separate copy of it. Weights that transformers fuses
    when it loads a checkpoint (the experts of a mixture) are split again, one block of the model at a time.

    Raises: UserError if the weights are quantized, because engines load plain weights only.
    """
    adapted, base = is_adapted(model), base_model(model)
    named = [(name, value) for name, value in base.state_dict().items() if not (adapted and "lora_" in name)]
    for _, block in groupby(named, key=lambda item: _block(item[0])):
        gathered = {name.replace(".base_layer.", "."): _whole(name, value) for name, value in block}
        yield from revert_weight_conversion(base, gathered).items()


def _block(name: str) -> str:
    """The start of a parameter's name up to its first number: `model.layers.3`."""
    parts = name.split(".")
    number = next((k for k, part in enumerate(parts) if part.isdigit()), 0)
    return ".".join(parts[: number + 1])


def _whole(name: str, value: Tensor) -> Tensor:
    if isinstance(value, DTensor):
        value = value.full_tensor()
    if value.dtype in (torch.uint8, torch.int8):
        raise UserError(
            f"{name} is quantized, and sampling engines load plain weights only: load the policy unquantized, or take "
            "CompactSampler or TransformersSampler"
        )
    return value.detach()


def save_shape(model: nn.Module, folder: Path) -> None:
    """Write the config of a transformers model, or of the one inside a PEFT model, with its class name."""
    base = base_model(model)
    config = deepcopy(base.config)
    config.architectures = [type(base).__name__]
    config.save_pretrained(folder)


@torch.no_grad()
def save_adapter(model: nn.Module, folder: Path) -> int:
    """Write the adapters of a PEFT model in the format of PEFT, gathered if they are sharded.

    Returns: the size of their weights in bytes.
    """
    from peft import PeftModel

    assert isinstance(model, PeftModel)
    state = {name: _whole(name, value) for name, value in model.state_dict().items() if "lora_" in name}
    model.save_pretrained(str(folder), state_dict=state, save_embedding_layers=False)
    return size(state.values())


def size(weights: Iterable[Tensor]) -> int:
    """Size of weights in bytes."""
    return sum(value.numel() * value.element_size() for value in weights)


class Counted:
    """An iterator over weights that counts their bytes.

    Args:
        weights: pairs of a name and a value.
    """

    def __init__(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        self.weights, self.bytes = weights, 0

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self.weights:
            self.bytes += size([value])
            yield name, value


class AdapterFolder:
    """A temporary folder with the newest adapters of a model, in memory if there is room."""

    def __init__(self) -> None:
        self._root: TemporaryDirectory | None = None
        self.newest: Path | None = None

    def save(self, model: nn.Module, version: int) -> tuple[Path, int]:
        """Write this version, and delete the version before it.

        Returns: its folder, and the size of its weights in bytes.
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
    """The folder in memory if several versions of this size fit into it; None for the usual temporary folder."""
    usable = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)
    return SHARED_MEMORY if usable and shutil.disk_usage(SHARED_MEMORY).free > 4 * needed else None
