"""The description of a public dataset: everything that is known before a row is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from research.prompts.extraction import Extraction, WholeField


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The fields of a row and their roles; dots go into nested fields and lists, as in `messages.0.content`."""

    question: str
    """The question."""
    answer: str
    """The field that the reference answer is extracted from."""
    solution: str = ""
    """A reference solution to imitate; empty for none."""
    context: str = ""
    """Text before the question, in the rows that have such text; empty for no such field."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Further fields by the name under which the template and the prompt's meta have them."""
    extraction: Extraction = field(default_factory=WholeField)
    """Finds the reference answer in its field."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields that a row must have."""
        return tuple(p for p in (self.question, self.answer, self.solution, self.context, *self.named.values()) if p)


@dataclass(frozen=True, kw_only=True)
class Description:
    """One public dataset: its place, the shape of its rows, its licence."""

    name: str
    """Its name in a recipe."""
    hub: str
    """Its name on the Hugging Face hub."""
    splits: Mapping[str, int]
    """Rows of each split, as published."""
    layouts: tuple[Fields, ...]
    """The shapes of its rows, the hub's first, then other copies'; the first whose fields are there is read."""
    template: str
    """Its template, of `research.prompts.templates`, unless a recipe gives another."""
    verifier: str
    """The kind of verifier that its answers need: a number, mathematics, the `Answer:` line, or an equation."""
    licence: str
    """The licence it is published under; `not stated` if its card names none."""
    source: str
    """Paper or authors."""
    config: str | None = None
    """The configuration on the hub; None if there is only one."""
    files: str = ""
    """On the hub, the file of a split, with `{config}` and `{split}` in its name; empty leaves it to the card."""
    revision: str | None = None
    """On the hub, the branch; None for the main one."""
    wrapped: str = "plain"
    """The template that its questions are published in, which is taken off."""
    note: str = ""
    """A warning to its users."""
