"""Provenance of numbers: the commit, the machine and the versions of packages."""

import platform
from pathlib import Path
from subprocess import run as run_process
from typing import Any

PACKAGES = ("torch", "transformers", "lightning", "peft", "optuna", "mlflow", "numpy")


def git_state() -> dict[str, Any]:
    """The commit that is checked out, and whether the work tree differs from it; `unknown` outside a repository."""
    commit = run_process(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    status = run_process(
        ["git", "status", "--porcelain", "--", "research", "experiments"], capture_output=True, text=True, check=False
    )
    if commit.returncode != 0:
        return {"commit": "unknown", "dirty": False}
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}


def cpu_name() -> str:
    """The processor, as the system calls it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
