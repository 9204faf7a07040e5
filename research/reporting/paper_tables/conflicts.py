"""Known conflicts between and within the sources, and which of them concern a study."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.ablation.folder.study_file import Study
from research.errors import UserError
from research.yaml_file import read_yaml, required

FILE = "experiments/papers/conflicts.yaml"
MARKS = ("conflict", "unconfirmed", "analysis")
"""Two sources differ; no source says it; a source's numbers do not fit together."""


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Something on which sources disagree, or which none of them settles."""

    about: str
    mark: str
    """One of `MARKS`."""
    says: str
    """Statement of one source, with its name."""
    against: str
    """Statement of another source, or the open question."""
    here: str
    """Choice of this harness; empty if it makes none."""
    components: frozenset[str]
    recipes: frozenset[str]
    papers: frozenset[str]


def read_conflicts(path: Path) -> tuple[Conflict, ...]:
    """Read the file of conflicts.

    Raises: UserError if it is missing or malformed.
    """
    try:
        return tuple(_conflict(node, path) for node in required(read_yaml(path), "conflicts", path))
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is malformed: {error}.") from None


def _conflict(node: Mapping[str, Any], path: Path) -> Conflict:
    about, mark = str(required(node, "about", path)), str(required(node, "mark", path))
    concerns = required(node, "concerns", path)
    if mark not in MARKS:
        raise UserError(f"{path}: the mark of '{about}' is one of {', '.join(MARKS)}, not '{mark}'.")
    named = {key: frozenset(map(str, concerns.get(key) or [])) for key in ("components", "recipes", "papers")}
    says, against, here = (str(node.get(key, "")).strip() for key in ("says", "against", "here"))
    return Conflict(about=about, mark=mark, says=says, against=against, here=here, **named)


def concerning(conflicts: tuple[Conflict, ...], study: Study) -> list[Conflict]:
    """The conflicts about a component, a recipe or a paper that the study names."""
    components = set(_class_names({"hold": study.hold, "factors": study.factors}))
    levels = [node for factor in study.factors.values() if isinstance(factor, Mapping) for node in factor.values()]
    recipes = {Path(node).stem for node in (study.base, *levels) if isinstance(node, str) and node}
    papers = {Path(paper.partition("#")[0]).stem for paper in study.papers}
    return [c for c in conflicts if c.components & components or c.recipes & recipes or c.papers & papers]


def _class_names(node: object) -> Iterator[str]:
    """The class of every component in nested config nodes, without its module."""
    if isinstance(node, Mapping):
        if isinstance(node.get("class_path"), str):
            yield node["class_path"].rpartition(".")[2]
        for child in node.values():
            yield from _class_names(child)
    elif isinstance(node, list):
        for child in node:
            yield from _class_names(child)
