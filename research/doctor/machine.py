"""The machine: versions, processor, memory, accelerators."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch
from rich.table import Table

from research.provenance import cpu_name

PACKAGES = ("torch", "lightning", "transformers", "peft", "datasets", "optuna", "mlflow", "jsonargparse", "vllm", "trl")


def machine_table() -> Table:
    """Versions, processor, memory, disk, accelerators."""
    table = Table(title="this machine", show_header=False)
    disk, memory = shutil.disk_usage(Path.cwd()), psutil.virtual_memory()
    devices = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    rows = {
        "python": platform.python_version(),
        "processor": f"{cpu_name()}, {os.cpu_count()} cores, torch uses {torch.get_num_threads()}",
        "native bfloat16 matrices": "yes" if _has_amx() else "no: keep precision float32 on the CPU",
        "memory": f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
        "disk": f"{disk.free / 2**30:.0f} GiB free here",
        "accelerators": ", ".join(devices) or "none: use the built-in model",
        **{package: _version(package) for package in PACKAGES},
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _has_amx() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
