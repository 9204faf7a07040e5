"""What is known about a public dataset before any of it is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from research.prompts.extraction import Extraction, WholeField


@dataclass(frozen=True, kw_only=True)
class Fields:
    """In which fields a row has what; dots go into nested fields and lists, as in `messages.0.content`."""

    question: str
    """The question."""
    answer: str
    """What the reference answer is extracted from."""
    solution: str = ""
    """A reference solution to imitate; empty: there is none."""
    context: str = ""
    """What stands before the question in those rows that have something there; empty: no such field."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Further fields by the name under which the template and the prompt's meta have them."""
    extraction: Extraction = field(default_factory=WholeField)
    """How the reference answer is found in its field."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields that a row must have."""
        return tuple(p for p in (self.question, self.answer, self.solution, self.context, *self.named.values()) if p)


@dataclass(frozen=True, kw_only=True)
class Description:
    """One public dataset: where it is, what its rows look like, and what may be done with it."""

    name: str
    """What a recipe calls it."""
    hub: str
    """Its name on the Hugging Face hub."""
    splits: Mapping[str, int]
    """Rows of each split, as published."""
    layouts: tuple[Fields, ...]
    """The shapes in which its rows are found, the hub's first; the first whose fields a copy has is read."""
    template: str
    """The template of `research.prompts.templates` that it is prompted with unless a recipe says otherwise."""
    verifier: str
    """Which kind of verifier its answers need: a number, mathematics, the `Answer:` line, or an equation."""
    licence: str
    """Under which it is published; `not stated` where its card is silent."""
    source: str
    """Paper or authors."""
    config: str | None = None
    """Which configuration on the hub."""
    files: str = ""
    """On the hub, the file of a split, by `{config}` and `{split}`; empty: as the card says."""
    revision: str | None = None
    """On the hub, the branch; None: the main one."""
    wrapped: str = "plain"
    """The template that its question field has around the questions already, and that is taken off."""
    note: str = ""
    """What its users should know."""
