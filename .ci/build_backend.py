"""Builds the package with setuptools, and puts into it what lies beside it in a checkout.

A wheel holds the recipes, studies and papers' tables as `research/experiments`, and the commit that it was built from
as `research/built_from.json`. An editable installation has neither: it reads the checkout.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import run

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401 - the hooks that need nothing more
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

ROOT = Path(__file__).resolve().parents[1]
COPY, COMMIT = ROOT / "research" / "experiments", ROOT / "research" / "built_from.json"


def build_wheel(directory, config_settings=None, metadata_directory=None) -> str:
    """A wheel with the experiments and its commit."""
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # setuptools would ship what an earlier build left there
    with _completed():
        return build_meta.build_wheel(directory, config_settings, metadata_directory)


def build_sdist(directory, config_settings=None) -> str:
    """A source distribution from which the same wheel can be built."""
    with _completed():
        return build_meta.build_sdist(directory, config_settings)


@contextmanager
def _completed() -> Iterator[None]:
    """The package with what it lacks; as it was, afterwards."""
    made = []
    try:
        if (ROOT / "experiments").is_dir() and not COPY.exists():
            made.append(COPY)
            shutil.copytree(ROOT / "experiments", COPY)
        if not COMMIT.exists() and (commit := _git("rev-parse", "HEAD")):
            made.append(COMMIT)
            changes = _git(
                "status", "--porcelain", "--", "research", "experiments", "pyproject.toml", "constraints.txt"
            )
            changed = [line for line in changes.splitlines() if "research/experiments/" not in line]
            COMMIT.write_text(json.dumps({"commit": commit, "dirty": bool(changed)}))
        yield
    finally:
        for path in made:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _git(*words: str) -> str:
    try:
        done = run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
