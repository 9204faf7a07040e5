"""Ways to find a reference answer in the field that holds it."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

from research.errors import require


class Extraction(ABC):
    """Finds the reference answer in the text of the answer field."""

    @abstractmethod
    def __call__(self, text: str) -> str | None:
        """The answer, stripped; None if the text holds none."""

    @property
    @abstractmethod
    def words(self) -> str:
        """The thing that is looked for, in the words of an error message."""


@dataclass(frozen=True, kw_only=True)
class WholeField(Extraction):
    """The field is the answer."""

    @property
    def words(self) -> str:
        return "the whole field"

    def __call__(self, text: str) -> str | None:
        return text.strip() or None


@dataclass(frozen=True, kw_only=True)
class Pattern(Extraction):
    r"""The first group of a regular expression, where it first matches.

    Example:
        >>> Pattern(regex="#### (.*)")("12 - 5 = 7 pens.\\n#### 7")
        '7'
    """

    regex: str
    """A regular expression with a group."""

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.regex).groups
        except re.error as error:
            raise ValueError(f"answer_pattern {self.regex!r} is no regular expression: {error}") from error
        require(groups >= 1, f"answer_pattern {self.regex!r} has no group: put the answer in brackets")

    @property
    def words(self) -> str:
        return f"answer_pattern {self.regex!r}"

    def __call__(self, text: str) -> str | None:
        match = re.search(self.regex, text)
        return (match[1] or "").strip() or None if match else None


@dataclass(frozen=True, kw_only=True)
class Formula(Extraction):
    """The field, without the dollar signs that enclose it if it is one formula.

    Example:
        >>> Formula()("$2n+1$"), Formula()("$1$ or $2$")
        ('2n+1', '$1$ or $2$')
    """

    @property
    def words(self) -> str:
        return "a formula"

    def __call__(self, text: str) -> str | None:
        stripped = text.strip()
        match = re.fullmatch(r"\$([^$]+)\$", stripped)
        return (match[1].strip() if match else stripped) or None


@dataclass(frozen=True, kw_only=True)
class WholeNumber(Extraction):
    """The field is a whole number, whose leading zeros mean nothing: AIME's answer sheet has three digits.

    Example:
        >>> WholeNumber()("025"), WholeNumber()("25.5")
        ('25', None)
    """

    @property
    def words(self) -> str:
        return "a whole number"

    def __call__(self, text: str) -> str | None:
        return str(int(text)) if re.fullmatch(r"\s*[+-]?\d+\s*", text) else None


@dataclass(frozen=True, kw_only=True)
class LastBoxed(Extraction):
    r"""The content of the last LaTeX box, whose braces may hold braces; a box without braces holds one word.

    Example:
        >>> LastBoxed()(r"so $\boxed{x}$ is $\boxed{\frac{1}{2}}$.")
        '\\frac{1}{2}'
        >>> LastBoxed()(r"that is $\boxed 5$.")
        '5'
    """

    @property
    def words(self) -> str:
        return r"the last \boxed{…}"

    def __call__(self, text: str) -> str | None:
        boxes = list(re.finditer(r"\\(?:boxed|fbox)(?![A-Za-z])\s*", text))
        if not boxes:
            return None
        rest = text[boxes[-1].end() :]
        inside = _balanced(rest) if rest.startswith("{") else re.split(r"[\s$.,]", rest, maxsplit=1)[0]
        return (inside or "").strip() or None


def _balanced(text: str) -> str | None:
    """The text between the brace at the beginning and the one that closes it; None if none does."""
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[1 : brace.start()]
    return None
