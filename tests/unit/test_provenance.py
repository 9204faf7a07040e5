"""Provenance is that of the package's checkout, wherever the command runs."""

import json
from pathlib import Path
from subprocess import run

import pytest

import research
from research import provenance
from research.provenance import Code

ROOT = Path(research.__file__).resolve().parents[1]


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    return run(["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a repository of its own."""
    package = tmp_path / "checkout" / "research"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    git(package.parent, "init", "--quiet")
    return package


@pytest.fixture
def found(package: Path, monkeypatch: pytest.MonkeyPatch):
    """The code that is found for that package, asked anew."""
    monkeypatch.setattr(research, "__file__", str(package / "__init__.py"))
    return provenance.code.__wrapped__


def test_the_folder_of_the_command_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "another repository")
    monkeypatch.chdir(tmp_path)
    assert provenance.code.__wrapped__().commit == git(ROOT, "rev-parse", "HEAD")


def test_a_checkout_is_clean_or_dirty(package: Path, found, monkeypatch: pytest.MonkeyPatch) -> None:
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "--message", "first")
    commit = git(package.parent, "rev-parse", "HEAD")
    assert found() == Code(commit=commit, dirty=False)
    (package / "trick.py").touch()
    monkeypatch.chdir(package)  # from a folder below, git speaks of that folder alone unless it is told
    assert found() == Code(commit=commit, dirty=True)
    assert str(found()) == f"{commit}, with changes"


def test_a_repository_that_does_not_track_the_package_says_nothing_of_it(package: Path, found) -> None:
    git(package.parent, "commit", "--quiet", "--allow-empty", "--message", "an environment within it")
    assert found() == Code(commit="unknown", dirty=False)


def test_a_wheel_says_what_it_was_built_from(package: Path, found) -> None:
    (package / provenance.BUILT_FROM).write_text(json.dumps({"commit": "0123abc", "dirty": True}))
    assert found() == Code(commit="0123abc", dirty=True)


def test_the_version_of_the_package_is_among_the_versions() -> None:
    assert provenance.versions()["research"] == research.__version__


def test_the_citation_has_the_version() -> None:
    assert f"\nversion: {research.__version__}\n" in (ROOT / "CITATION.cff").read_text()
