"""Recipes, studies, overlays and papers' tables that come with the package, found by name from any folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import research
from research.errors import UserError

_SENTENCE_END = re.compile(r"(?<=\.)(?<!\bal\.)(?<!\bDr\.)(?<!\beq\.) (?=[A-Z])")
_FOLDERS = {
    "recipe": (".", "models"),
    "overlay": ("hardware",),
    "study": ("ablations",),
    "scale": ("ablations/scales",),
}
"""Kind → folders of experiments/ that hold it."""


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A file that comes with the package."""

    kind: str
    """`recipe`, `overlay`, `study` or `scale`."""
    path: Path

    @property
    def name(self) -> str:
        """The name that commands take: the file's, without its ending; below a folder of recipes, with the folder."""
        return f"{self.path.parent.name}/{self.path.stem}" if self.path.parent.name == "models" else self.path.stem

    @property
    def summary(self) -> str:
        """The first sentence of the file's header."""
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if not line.removeprefix("#").strip() or not line.startswith("#"):
                break
            lines.append(line.removeprefix("#").strip())
        return _SENTENCE_END.split(" ".join(lines), maxsplit=1)[0]


def experiments() -> Path:
    """The folder of all of them: in a wheel below the package, in a checkout beside it."""
    package = Path(research.__file__).resolve().parent
    below = package / "experiments"
    return below if below.is_dir() else package.parent / "experiments"


def shipped(*kinds: str) -> Sequence[Shipped]:
    """The files of these kinds, by kind and name.

    Args:
        kinds: of `recipe`, `overlay`, `study` and `scale`; none for all.
    """
    return [
        Shipped(kind=kind, path=path)
        for kind in kinds or _FOLDERS
        for folder in _FOLDERS[kind]
        for path in sorted((experiments() / folder).glob("*.yaml"))
    ]


def shipped_file(relative: str) -> Path | None:
    """The file of the package that a path written in a study or a recipe means; None if there is none.

    Args:
        relative: such as `../grpo.yaml` or `../papers/dapo_table1.yaml`.
    """
    path = experiments() / relative.lstrip("./")
    return path if path.is_file() else None


def find(name: Path, *kinds: str) -> Path:
    """The file that a command means: the path itself if it exists, else the shipped one of this name.

    Args:
        name: as it was typed.
        kinds: that the command takes.

    Raises: UserError if there is neither, with the nearest names.
    """
    if name.exists():
        return name
    typed = name.as_posix().removeprefix("experiments/").removesuffix(".yaml")
    known = {name: one.path for one in shipped(*kinds) for name in (one.path.stem, one.name)}
    for folder in ("ablations/scales/", "ablations/", "hardware/"):
        typed = typed.removeprefix(folder)
    if typed in known:
        return known[typed]
    near = get_close_matches(Path(typed).name, known, n=1)
    kind = " or ".join(kinds)
    hint = f"did you mean {near[0]}?" if near else "`research recipes` lists what comes with the package."
    raise UserError(f"there is no file {name}, and no {kind} of that name: {hint}")
