"""Peak memory of a run, and memory of its models."""

import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

PROC = Path("/proc/self")


def forget_peak() -> None:
    """Reset the peak, if the system allows it, for a new run in the same process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        (PROC / "clear_refs").write_text("5")


def peak_bytes() -> int:
    """Peak memory since `forget_peak`, in bytes: of the GPU if there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        lines = (PROC / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def state_bytes(modules: Iterable[nn.Module]) -> int:
    """Bytes of weights and, for trained ones, of gradients and AdamW's two moments; shared weights count once.

    Example:
        >>> state_bytes([nn.Linear(1, 1)])  # 2 weights × 4 bytes × (1 + 1 + 2)
        32
    """
    seen: dict[int, int] = {}
    for module in modules:
        for parameter in module.parameters():
            copies = 4 if parameter.requires_grad else 1
            seen[id(parameter)] = copies * parameter.numel() * parameter.element_size()
    return sum(seen.values())
