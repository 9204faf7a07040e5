"""The tool slot: what the policy may call in the middle of a completion, and what it is answered."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from research.calculator import CalculationError, evaluate, written
from research.component import require
from research.types import ToolCall


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a tool writes behind a call."""

    text: str
    failed: bool
    """Whether it says that the call has no answer."""


class Tool(ABC):
    """Answers calls: a pure function of the text, which returns soon and raises nothing, whatever the policy wrote."""

    close: str
    """What ends a call."""

    @property
    def texts(self) -> tuple[str, ...]:
        """What the tokenizer must be able to say, besides answers."""
        return (self.close,)

    @abstractmethod
    def __call__(self, text: str) -> Answer:
        """The answer to the last call of a completion.

        Args:
            text: the completion so far; it has a call's end at its own end, or a few characters before.
        """


@dataclass(frozen=True, kw_only=True)
class Calculator(Tool):
    """Evaluates arithmetic: what stands between the last `open` and `close` is answered by its exact value.

    Numbers, `+ - * / // % ** ^` and brackets are arithmetic; a value that is no integer is rounded to 20 digits.
    Anything else, a division by zero, or a value that is too large fails.

    Raises: ValueError if the marks do not tell a call's beginning from its end, or if `longest` is below 1.

    Example:
        >>> calculator = Calculator(open="(", close=")", before="=", after="", failed="?")
        >>> calculator("(47+8)").text, calculator("(47+8)=55;(5/0)").text
        ('=55', '=?')
    """

    open: str
    """What begins a call."""
    close: str
    """What ends it."""
    before: str
    """What the answer begins with."""
    after: str
    """What it ends with."""
    failed: str | None
    """What is said in the place of a value that there is not; null says why, in a few words."""
    longest: int = 24
    """Characters of a value at the most; a longer one fails. At least 1."""

    def __post_init__(self) -> None:
        require(bool(self.open) and bool(self.close), "Calculator: open and close have at least one character")
        require(self.close not in self.open, f"Calculator: open={self.open!r} contains close={self.close!r}")
        require(self.longest >= 1, f"Calculator: longest is at least 1, got {self.longest}")

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.open, self.close, self.before, self.after, self.failed or "", "0123456789")

    def __call__(self, text: str) -> Answer:
        _, opened, expression = text.rpartition(self.close)[0].rpartition(self.open)
        try:
            if not opened:
                raise CalculationError("the call has no beginning")
            value = written(evaluate(expression))
            if len(value) > self.longest:
                raise CalculationError("the value is too long")
        except CalculationError as error:
            reason = f"error: {error}" if self.failed is None else self.failed
            return Answer(text=f"{self.before}{reason}{self.after}", failed=True)
        return Answer(text=f"{self.before}{value}{self.after}", failed=False)


def pieces_of(text: str, tool: Tool) -> list[str | Answer]:
    """A finished text in the pieces that the policy writes and those that the tool does: its answers behind its calls.

    What follows a call and is not the tool's answer is the policy's.

    Example:
        >>> pieces_of("(1+1)=2;#2", Calculator(open="(", close=")", before="=", after="", failed=None))
        ['(1+1)', Answer(text='=2', failed=False), ';#2']
    """
    pieces: list[str | Answer] = []
    start = position = 0
    while (found := text.find(tool.close, position)) >= 0:
        position = found + len(tool.close)
        answer = tool(text[:position])
        if answer.text and text.startswith(answer.text, position):
            pieces += [text[start:position], answer]
            start = position = position + len(answer.text)
    return [*pieces, text[start:]]


def tokenized(pieces: Sequence[str | Answer], tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[ToolCall]]:
    """The tokens of all pieces, each read by itself as when it is sampled, and where the tool's are."""
    ids: list[int] = []
    calls: list[ToolCall] = []
    for piece in pieces:
        said = tokenizer(piece.text if isinstance(piece, Answer) else piece, add_special_tokens=False)["input_ids"]
        if isinstance(piece, Answer):
            calls.append(ToolCall(start=len(ids), tokens=len(said), failed=piece.failed))
        ids += said
    return ids, calls
