"""Provenance of numbers: the code that ran, the machine, and the versions of packages."""

import json
import platform
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from subprocess import run as run_process

import research

PACKAGES = ("torch", "transformers", "lightning", "peft", "optuna", "mlflow", "numpy")
BUILT_FROM = "built_from.json"
"""The file, within an installed package, of the commit that its wheel was built from."""
UNKNOWN = "unknown"
_CODE = ("research", "experiments", "pyproject.toml", "constraints.txt")


@dataclass(frozen=True, kw_only=True)
class Code:
    """The code of the package: where it is imported from decides, not where the command runs."""

    commit: str
    """The checkout's commit, or the one that the wheel was built from; `unknown` if neither is known."""
    dirty: bool
    """True if the checkout differs from the commit, or did when the wheel was built."""
    version: str = research.__version__
    """Version of the package."""

    def __str__(self) -> str:
        return f"{self.commit}{', with changes' if self.dirty else ''}"


@cache
def code() -> Code:
    """The code that this process has imported."""
    package = Path(research.__file__).resolve().parent
    return _checkout(package) or _wheel(package) or Code(commit=UNKNOWN, dirty=False)


def _checkout(package: Path) -> Code | None:
    """The state of the repository that tracks the package; None if none does, or git is not installed."""
    top = _git(package, "rev-parse", "--show-toplevel")
    if top is None or _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    root = Path(top)
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *(name for name in _CODE if (root / name).exists()))
    return None if commit is None else Code(commit=commit, dirty=changes != "")


def _git(folder: Path, *words: str) -> str | None:
    """The output of git in a folder; None if it fails."""
    try:
        done = run_process(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _wheel(package: Path) -> Code | None:
    """The commit that was written into the wheel; None if none was."""
    path = package / BUILT_FROM
    if not path.exists():
        return None
    built = json.loads(path.read_text())
    return Code(commit=built["commit"], dirty=built["dirty"])


def versions() -> dict[str, str]:
    """Package → version, this one first."""
    return {"research": research.__version__, **{package: _version(package) for package in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def cpu_name() -> str:
    """The processor, as the system calls it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or UNKNOWN
