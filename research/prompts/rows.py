"""The mapping from a row of data to a prompt: the fields of question and answer, and how each is read."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from research.component import require
from research.errors import UserError
from research.prompts.extraction import Extraction, Pattern, WholeField
from research.types import Prompt

Row = Mapping[str, object]
"""A row of data: values by field, mappings and lists among them."""
_LISTED = 20
"""Most fields that an error message lists."""


@runtime_checkable
class RowSource(Protocol):
    """A source whose own settings name the fields of its rows."""

    @property
    def prompt_field(self) -> str: ...
    @property
    def answer_field(self) -> str: ...
    @property
    def template(self) -> str: ...
    @property
    def answer_pattern(self) -> str: ...
    @property
    def solution_field(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """Makes prompts of the rows of one source; every source of rows uses it."""

    prompt_field: str
    """Field of the question; dots go into nested fields and lists, as in `messages.0.content`."""
    answer_field: str
    """Field of the reference answer, written the same way."""
    template: str = "{prompt}"
    """Prompt text, in which `{prompt}` stands for the question; no other brace has a meaning but those of `named`."""
    extraction: Extraction = field(default_factory=WholeField)
    """Finds the answer in its field."""
    solution_field: str = ""
    """Field of a reference solution to imitate, written the same way; empty for none."""
    context_field: str = ""
    """Field of a text before the question, in the rows that have such a text; empty for no such field."""
    wrapped: str = "{prompt}"
    """The template that the questions are published in, which is taken off."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Further fields by name; `{name}` in the template stands for the field, and the meta keeps it."""

    def __post_init__(self) -> None:
        require(
            "{prompt}" in self.template or any(f"{{{name}}}" in self.template for name in self.named),
            f"template must contain {{prompt}}, got {self.template!r}",
        )

    @classmethod
    def of(cls, source: RowSource) -> "RowReader":
        """The reader that the fields of a source describe."""
        return cls(
            prompt_field=source.prompt_field,
            answer_field=source.answer_field,
            template=source.template,
            extraction=Pattern(regex=source.answer_pattern) if source.answer_pattern else WholeField(),
            solution_field=source.solution_field,
        )

    def prompt(self, row: Row, *, id: str, place: str) -> Prompt:
        """The prompt of one row.

        Args:
            row: the fields by name.
            id: of the prompt.
            place: of the row, for error messages.

        Returns: the prompt. Its meta holds the row's other fields that are text, numbers, booleans or null, the
            reference `solution`, if there is a field for it, and the `question`, if the text is more than that.

        Raises: UserError if a field is missing, empty or no text, or if no answer is found.
        """
        question = self._question(row, place)
        answer = self._answer(text_at(row, self.answer_field, place), place)
        named = {name: _at(row, path, place) for name, path in self.named.items()}
        meta = {k: v for k, v in row.items() if k not in (self.prompt_field, self.answer_field) and _is_scalar(v)}
        if self.solution_field:
            meta["solution"] = text_at(row, self.solution_field, place)
        text = self.template
        for name, value in named.items():
            text = text.replace(f"{{{name}}}", str(value))
        text = text.replace("{prompt}", question)
        if named:
            question = ", ".join(f"{name} {value}" for name, value in named.items())
        if text != question or "question" in meta:
            meta["question"] = question
        return Prompt(id=id, text=text, answer=answer, meta={**meta, **named})

    def reads(self, row: Row) -> bool:
        """True if the row has all fields that this reader needs."""
        paths = [self.prompt_field, self.answer_field, self.solution_field, self.context_field, *self.named.values()]
        return all(has_field(row, path) for path in paths if path)

    def _question(self, row: Row, place: str) -> str:
        before, _, after = self.wrapped.partition("{prompt}")
        text = text_at(row, self.prompt_field, place, lists=bool(self.named))
        if not (text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after)):
            raise UserError(f"{place}: field {self.prompt_field!r} is not written with its template {self.wrapped!r}")
        question = text[len(before) : len(text) - len(after)]
        context = _at(row, self.context_field, place) if self.context_field else None
        return f"{context}\n\n{question}" if context and str(context).strip() else question

    def _answer(self, text: str, place: str) -> str:
        answer = self.extraction(text)
        if answer is None:
            what = f"{self.extraction.words} finds no answer in field {self.answer_field!r}"
            raise UserError(f"{place}: {what}, which ends with {text[-60:]!r}")
        return answer


def has_field(row: Row, path: str) -> bool:
    """True if there is a value at a dotted path."""
    try:
        _field(row, path)
    except LookupError:
        return False
    return True


def _at(row: Row, path: str, place: str) -> object:
    """The value at a dotted path.

    Raises: UserError that lists the fields there are.
    """
    try:
        return _field(row, path)
    except LookupError:
        raise UserError(f"{place}: no field {path!r}; there are: {_listed(row)}") from None


def text_at(row: Row, path: str, place: str, *, lists: bool = False) -> str:
    """The field at `path` as text; a whole number, even a float, has no decimal point.

    Args:
        row: the fields by name.
        path: of the field, dotted.
        place: of the row, for error messages.
        lists: True to accept a list of numbers, as Python writes it.

    Raises: UserError if the field is missing, empty or neither text nor a finite number.
    """
    value = _at(row, path, place)
    if lists and isinstance(value, list) and value and all(isinstance(item, (int, float)) for item in value):
        return str(value)
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        inside = f"name a field inside it: {_listed(value, path + '.')}" if value else "and it is empty"
        raise UserError(f"{place}: field {path!r} is a {type(value).__name__}, not text; {inside}")
    if not _is_scalar(value) or value is None:
        raise UserError(f"{place}: field {path!r} is {value!r}, neither text nor a finite number: name another field")
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if not text.strip():
        raise UserError(f"{place}: field {path!r} is empty")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"{place}: field {path!r} holds half of a surrogate pair, which is no valid text")
    return text


def _field(value: object, path: str) -> object:
    """The value at a dotted path; a field whose own name has dots comes first.

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


def _listed(value: object, prefix: str = "") -> str:
    """The dotted paths of the scalar fields, for an error sentence."""
    names = list(_leaves(value, prefix)) or ["none"]
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")


def _leaves(value: object, prefix: str = "") -> Iterator[str]:
    """The dotted paths of all scalar fields, in order."""
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        items = enumerate(value)
    else:
        yield prefix.removesuffix(".")
        return
    for name, inner in items:
        yield from _leaves(inner, f"{prefix}{name}.")


def _is_scalar(value: object) -> bool:
    """True for text, a boolean, null or a finite number."""
    return value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))
