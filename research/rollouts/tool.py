"""The tool slot: a function that the policy may call in the middle of a completion."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from research.calculator import CalculationError, evaluate, written
from research.component import require
from research.types import ToolCall


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The text that a tool writes after a call."""

    text: str
    failed: bool
    """True if the call failed, so that the text is no result."""


class Tool(ABC):
    """Answers calls. A tool is a pure function of the text that returns quickly and never raises."""

    close: str
    """The string that ends a call."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Strings, besides answers, for which the tokenizer must have ordinary tokens."""
        return (self.close,)

    @abstractmethod
    def __call__(self, text: str) -> Answer:
        """The answer to the last call of a completion.

        Args:
            text: the completion so far, which ends with the end of a call or a few characters after it.
        """


@dataclass(frozen=True, kw_only=True)
class Calculator(Tool):
    """Evaluates arithmetic: the answer is the exact value of the expression between the last `open` and `close`.

    An expression has numbers, `+ - * / // % ** ^` and brackets; a value that is no integer is rounded to 20 digits.
    Any other text, a division by zero and a value that is too large make the call fail.

    Raises: ValueError if `open` contains `close`, if one of them is empty, or if `longest` is below 1.

    Example:
        >>> calculator = Calculator(open="(", close=")", before="=", after="", failed="?")
        >>> calculator("(47+8)").text, calculator("(47+8)=55;(5/0)").text
        ('=55', '=?')
    """

    open: str
    """String that begins a call."""
    close: str
    """String that ends a call."""
    before: str
    """String before the value in an answer."""
    after: str
    """String after the value in an answer."""
    failed: str | None
    """Text in the place of the value when a call fails; null gives the reason, in a few words."""
    longest: int = 24
    """Longest value, in characters, at least 1; a call with a longer value fails."""

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
    """Split a finished text into the policy's pieces and the tool's answers, which follow the calls.

    Text that follows a call and is not the tool's answer belongs to the policy.

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
    """Tokenize each piece by itself, as in sampling: all the tokens, and the places of the tool's answers."""
    ids: list[int] = []
    calls: list[ToolCall] = []
    for piece in pieces:
        said = tokenizer(piece.text if isinstance(piece, Answer) else piece, add_special_tokens=False)["input_ids"]
        if isinstance(piece, Answer):
            calls.append(ToolCall(start=len(ids), tokens=len(said), failed=piece.failed))
        ids += said
    return ids, calls
