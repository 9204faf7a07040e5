"""From a row of somebody's data to a prompt: which field is the question, which is the answer, how both are read."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from research.component import require
from research.errors import UserError
from research.types import Prompt

_LISTED = 20
"""How many fields an error message lists."""


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """How the rows of one source become prompts; the one mapping that every source of rows shares."""

    prompt_field: str
    """Field of the question; dots go into nested fields and lists, as in `messages.0.content`."""
    answer_field: str
    """Field of the reference answer, written the same way."""
    template: str = "{prompt}"
    """Prompt text, in which `{prompt}` stands for the question; no other brace has a meaning."""
    answer_pattern: str = ""
    """Regular expression whose first group, where it first matches, is the answer; empty: the whole field is."""
    solution_field: str = ""
    """Field of a reference solution to imitate, written the same way; empty: the rows have none."""

    def __post_init__(self) -> None:
        require("{prompt}" in self.template, f"template must contain {{prompt}}, got {self.template!r}")
        try:
            groups = re.compile(self.answer_pattern).groups
        except re.error as error:
            raise ValueError(f"answer_pattern {self.answer_pattern!r} is no regular expression: {error}") from error
        require(not self.answer_pattern or groups >= 1, f"answer_pattern {self.answer_pattern!r} has no group")

    @classmethod
    def of(cls, source: Any) -> "RowReader":
        """The mapping that the fields of the same names of a source describe."""
        return cls(**{field.name: getattr(source, field.name) for field in fields(cls)})

    def prompt(self, row: Mapping[str, Any], *, id: str, place: str) -> Prompt:
        """The prompt of one row.

        Args:
            row: the fields by name.
            id: of the prompt.
            place: where the row stands, for error messages.

        Returns: the prompt; its meta holds the row's other fields, as far as they are text, numbers, booleans or null,
            and the reference `solution` if there is a field for it.

        Raises: UserError if a field is missing, empty or no text, or if the answer pattern does not match.
        """
        question = _text(row, self.prompt_field, place)
        answer = self._answer(_text(row, self.answer_field, place), place)
        meta = {k: v for k, v in row.items() if k not in (self.prompt_field, self.answer_field) and _is_scalar(v)}
        if self.solution_field:
            meta["solution"] = _text(row, self.solution_field, place)
        return Prompt(id=id, text=self.template.replace("{prompt}", question), answer=answer, meta=meta)

    def _answer(self, text: str, place: str) -> str:
        if not self.answer_pattern:
            return text.strip()
        match = re.search(self.answer_pattern, text)
        if match is None or not (match[1] or "").strip():
            what = f"answer_pattern {self.answer_pattern!r} finds no answer in field {self.answer_field!r}"
            raise UserError(f"{place}: {what}, which ends with {text[-60:]!r}")
        return match[1].strip()


def _text(row: Mapping[str, Any], path: str, place: str) -> str:
    """The field at `path` as text: a whole number without a decimal point, whichever type holds it."""
    try:
        value = _field(row, path)
    except LookupError:
        raise UserError(f"{place}: no field {path!r}; there are: {_listed(row)}") from None
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        inside = f"name a field inside it: {_listed(value, path + '.')}" if value else "and it is empty"
        raise UserError(f"{place}: field {path!r} is a {type(value).__name__}, not text; {inside}")
    if not _is_scalar(value) or value is None:
        raise UserError(f"{place}: field {path!r} is {value!r}, neither text nor a finite number")
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if not text.strip():
        raise UserError(f"{place}: field {path!r} is empty")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"{place}: field {path!r} holds half of a surrogate pair, which is no valid text")
    return text


def _field(value: Any, path: str) -> Any:
    """The value at a dotted path; a name that is itself written with dots comes first.

    Raises: LookupError if there is none.
    """
    if isinstance(value, Mapping):
        if path in value:
            return value[path]
        name, dot, rest = path.partition(".")
        if dot and name in value:
            return _field(value[name], rest)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        name, dot, rest = path.partition(".")
        if name.isdecimal() and int(name) < len(value):
            return _field(value[int(name)], rest) if dot else value[int(name)]
    raise LookupError(path)


def _listed(value: Any, prefix: str = "") -> str:
    """The dotted paths of the scalar fields, for a sentence."""
    names = list(_leaves(value, prefix)) or ["none"]
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")


def _leaves(value: Any, prefix: str = "") -> Iterator[str]:
    """The dotted paths of all scalar fields, in order."""
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        items = enumerate(value)
    else:
        yield prefix.removesuffix(".")
        return
    for name, inner in items:
        yield from _leaves(inner, f"{prefix}{name}.")


def _is_scalar(value: Any) -> bool:
    """Whether JSON can say it in one word: text, boolean, null or a finite number."""
    return value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))
