"""The memory that a run may use: an accelerator's, this machine's, or that of another device to plan for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import psutil
import torch

from research.errors import UserError

UNITS: Mapping[str, int] = {"": 2**30, **{f"{k}i": 2 ** (10 * n) for n, k in enumerate("KMGT", 1)}}
UNITS = {**UNITS, **{k: 10 ** (3 * n) for n, k in enumerate("KMGT", 1)}}
CONTEXT = 0.6 * 2**30
"""Assumed bytes of a process on a CUDA device before its first tensor: kernels, cuBLAS workspaces."""
INTERPRETER = 0.8 * 2**30
"""Measured bytes of a process on the CPU before it loads a model: Python and its libraries."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """The device that holds a rank's tensors."""

    name: str
    """Its name in tables and sentences."""
    memory: int | None
    """Bytes that the run may use; None if there is no such device here."""
    overhead: int
    """Bytes of the process itself."""
    cuda: bool
    """True for an accelerator."""


def read_bytes(text: str) -> int:
    """Bytes of a size such as `24GiB`, `80GB` or `16`; without a unit it is in GiB.

    Raises: UserError if the text is no size.

    Example:
        >>> read_bytes("1.5GiB"), read_bytes("80GB"), read_bytes("2")
        (1610612736, 80000000000, 2147483648)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", text.strip(), re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise UserError(f"cannot read {text!r} as a size: give one such as 24GiB or 80GB")
    unit = (match[2] or "")[:1].upper() + (match[2] or "")[1:].lower()
    return int(float(match[1]) * UNITS[unit])


def device_of(trainer: Mapping[str, object], memory: str | None = None) -> Device:
    """The device that a recipe's `trainer` section asks for.

    Args:
        trainer: the section, parsed.
        memory: size of another device to plan for; None takes the one that is here.

    Raises: UserError if the size cannot be read.
    """
    here = torch.cuda.is_available()
    cuda = trainer["accelerator"] in ("gpu", "cuda") or (trainer["accelerator"] == "auto" and here)
    overhead = int(CONTEXT if cuda else INTERPRETER)
    if memory is not None:
        return Device(name="the device that is planned for", memory=read_bytes(memory), overhead=overhead, cuda=cuda)
    if not cuda:
        free = psutil.virtual_memory().available
        return Device(name="this machine's free memory", memory=free, overhead=overhead, cuda=False)
    if not here:
        return Device(name="an accelerator, and there is none here", memory=None, overhead=overhead, cuda=True)
    properties = torch.cuda.get_device_properties(0)
    return Device(name=properties.name, memory=properties.total_memory, overhead=overhead, cuda=True)
