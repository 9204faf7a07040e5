"""The verifier of DAPO: the last line `Answer: …`, in a normal form, is the reference answer."""

import re
from dataclasses import dataclass

from research.rewards.verifiers import Verifier, Worth
from research.types import Completion, Prompt

TAIL = 300
"""Characters that are read, counted from the end of the completion."""

_LINE = re.compile(r"(?i)Answer\s*:\s*([^\n]+)")
_REPLACED = (
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
)
_WORDS = re.split(
    " ",
    "square ways integers dollars mph inches hours km units \\ldots sue points feet minutes digits cents degrees cm gm "
    "pounds meters meals edges students childrentickets multiples",
)
_REMOVED = (
    *_WORDS,
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    '"',
    "\\dots",
)
_UNWRAPPED = (
    (r"(.*?)(\$)(.*?)(\$)(.*)", r"$\3$"),
    (r"(\\text\{)(.*?)(\})", r"\2"),
    (r"(\\textbf\{)(.*?)(\})", r"\2"),
    (r"(\\overline\{)(.*?)(\})", r"\2"),
    (r"(\\boxed\{)(.*)(\})", r"\2"),
    (r"(frac)([^{])(.)", r"frac{\2}{\3}"),
    (r"(sqrt)([^{])", r"sqrt{\2}"),
)


def normal_form(answer: str) -> str:
    r"""The right side of the answer, without words, units and spacing, and with short LaTeX written out.

    Steps and order follow the appendix of Minerva (arXiv:2206.14858), as in verl's `math_dapo.py`.

    Example:
        >>> normal_form("x = $1,234$ dollars"), normal_form(r"\frac12"), normal_form(r"\boxed{5}")
        ('1234', '\\frac{1}{2}', '5')
    """
    answer = answer.split("=")[-1]
    for before, after in _REPLACED:
        answer = answer.replace(before, after)
    for words in _REMOVED:
        answer = answer.replace(words, "")
    for pattern, replacement in _UNWRAPPED:
        answer = re.sub(pattern, replacement, answer)
    answer = answer.replace("$", "")
    digits = answer.replace(",", "")
    return (digits if digits.isdigit() else answer).strip()


@dataclass(frozen=True, kw_only=True)
class AnswerLine(Worth, Verifier):
    r"""The last `Answer: …` in the last 300 characters is the reference answer, both in normal form.

        r = right if normal(answer(o)) = normal(answer*), else wrong

    The texts are compared letter by letter, so ½ is not 0.5. A truncated completion is read like any other.

    Args:
        prompt: the prompt, with its reference answer.
        completion: one completion of it.

    Returns: whether it is accepted.

    Raises: ValueError if right ≤ wrong.

    Source: Yu et al. 2025, DAPO, eq. 7 (arXiv:2503.14476); verl, math_dapo.py, for the search and the normal form.

    Example:
        >>> prompt = Prompt(id="0", text="How many?", answer="1234")
        >>> done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), text="Answer: $1,234$", finish_reason="stop")
        >>> AnswerLine()(prompt=prompt, completion=done)
        True
    """

    def answer(self, completion: Completion) -> str | None:
        found = _LINE.findall(completion.text[-TAIL:])
        return normal_form(found[-1]) if found else None

    def __call__(self, *, prompt: Prompt, completion: Completion) -> bool:
        found = self.answer(completion)
        return ("[INVALID]" if found is None else found) == normal_form(prompt.answer)
