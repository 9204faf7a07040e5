"""Finding the answer in a completion, and the verifiers that compare it without computer algebra."""

from fractions import Fraction
from typing import Any

import pytest

from research.errors import UserError
from research.rewards import AnswerLine, ChoiceAnswer, CountdownAnswer, ExactAnswer, NumericAnswer, Verifier
from research.rewards.answer_line import normal_form
from research.rewards.answers import MOST_DIGITS, answer_after, last_number, number
from research.types import Completion, Prompt


def completed(text: str, *, truncated: bool = False) -> Completion:
    reason = "length" if truncated else "stop"
    return Completion(token_ids=(1,), rollout_logprobs=(0.0,), text=text, finish_reason=reason)


def verdict(verifier: Verifier, answer: str, text: str, **meta: Any) -> bool | None:
    return verifier(prompt=Prompt(id="0", text="", answer=answer, meta=meta), completion=completed(text))


@pytest.mark.parametrize(
    ("marker", "text", "answer"),
    [
        ("####", "so\n#### 18\n", "18"),
        ("####", "no marker", None),
        ("Answer:", "Answer: 1\nAnswer:  2 ", "2"),
        ("\\boxed", "first \\boxed{1}, then \\boxed{2}.", "2"),
        ("\\boxed", "\\boxed {\\frac{1}{2}} m", "\\frac{1}{2}"),
        ("\\boxed", "\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed", "\\fbox{7}", "7"),
        ("\\boxed", "\\boxed{cut", None),
        ("\\boxed", "\\boxed{1} and \\boxed{cut", None),
        ("\\boxed", "\\boxed 5", None),
        ("<answer>", "<answer>3</answer> and more", "3"),
        ("<answer>", "<answer>\n3", "3"),
        ("<answer>", "<answer>3</answer><answer>4</answer>", "4"),
        ("答案是", "所以答案是 18。", "18。"),
    ],
)
def test_answer_after(marker: str, text: str, answer: str | None):
    assert answer_after(marker, text) == answer


def test_what_is_too_long_is_not_searched():
    assert answer_after("\\boxed", "\\boxed{" + "1" * 19_999 + "}") == "1" * 19_999
    assert answer_after("\\boxed", "\\boxed{" + "1" * 20_000 + "}") is None
    assert last_number("7" + " so" * 6_666) == "7"
    assert last_number("7" + " so" * 6_667) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        ("-18", -18),
        ("−18", -18),
        ("–18", -18),
        ("- 18", -18),
        ("+18", 18),
        ("018", 18),
        ("1,234", 1234),
        ("1,234,567.5", Fraction(2469135, 2)),
        ("10{,}000", 10000),
        ("11,\\! 111", 11111),
        ("1\\,234", 1234),
        (".5", Fraction(1, 2)),
        ("3.", 3),
        ("3/4", Fraction(3, 4)),
        ("-3 / 4", Fraction(-3, 4)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("-\\dfrac{3}{4}", Fraction(-3, 4)),
        ("\\frac34", Fraction(3, 4)),
        ("$26.00", 26),
        ("\\$26", 26),
        ("$-\\frac{1}{2}$", Fraction(-1, 2)),
        ("\\(5\\)", 5),
        ("**5**", 5),
        ("50%", 50),
        ("50\\%", 50),
        ("90^\\circ", 90),
        ("90°", 90),
        ("12 apples", 12),
        ("12\\text{ cm}", 12),
        ("12 cm^2", 12),
        ("7 m²", 7),
        ("5 km/h", 5),
        ("5 m", 5),
        ("x = 5", 5),
        ("２６", 26),
        ("－２６", -26),
        ("٢٦", 26),
        ("18。", 18),
        ("1e3", 1000),
        ("2.5e-1", Fraction(1, 4)),
    ],
)
def test_number(text: str, value: int | Fraction):
    assert number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "apples",
            "x",
            "5x",
            "5i",
            "5 pi",
            "5 million",
            "3 halves",
            "2 sqrt 3",
            "10²",
            "3½",
            "½",
            "1,2",
            "1,23,456",
        ),
        *("1.2.3", "5 or 6", "3 4/5", "10:30", "1/0", "1//2", "nan", "inf", "0x10", "1_000", "1 234", "²", "(1, 2)"),
        *("1e999999999", "1e-999999999", "9" * (MOST_DIGITS + 1), "9" * 10**6, "1," * 10**5),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_not_a_number_or_could_be_read_in_two_ways(text: str):
    assert number(text) is None


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("16 - 3 = 13, so $26.00 a day.", "26.00"),
        ("所以答案是 18。", "18"),
        ("so 5,000", "5,000"),
        ("so 1, 2, 3,", "3"),
        ("it is 3/4.", "3/4"),
        ("none", None),
        ("共－５个", "-5"),
    ],
)
def test_last_number(text: str, last: str | None):
    assert last_number(text) == last


class TestNumericAnswer:
    @pytest.mark.parametrize(
        ("answer", "text", "right"),
        [
            ("18", "#### 18", True),
            ("18", "#### $18.00", True),
            ("18", "#### 18 dollars a day", True),
            ("1,200", "#### 1200", True),
            ("18", "#### 18.5", False),
            ("18", "18", False),  # no marker
            ("18", "#### ", False),
            ("0.5", "#### 1/2", True),
            ("1/3", "#### 0.3333333333", False),  # exact
            ("0", "#### 0", True),
        ],
    )
    def test_after_a_marker(self, answer: str, text: str, right: bool) -> None:
        assert verdict(NumericAnswer(marker="####"), answer, text) is right

    def test_the_last_number_without_a_marker(self) -> None:
        assert verdict(NumericAnswer(marker=""), "26", "13 × 2 = 26, so she makes $26 a day.") is True
        assert verdict(NumericAnswer(marker=""), "26", "26, or 27") is False
        assert verdict(NumericAnswer(marker=""), "26", "none") is False

    def test_tolerance_is_relative_and_closed(self) -> None:
        near = NumericAnswer(marker="#", tolerance=0.25)
        assert [verdict(near, "8", f"#{x}") for x in ("6", "10", "10.01", "5.99")] == [True, True, False, False]
        assert verdict(near, "-8", "#-10") is True
        assert verdict(near, "0", "#0.001") is False

    def test_says_nothing_where_the_reference_is_no_number(self) -> None:
        assert verdict(NumericAnswer(marker="#"), "x + 1", "#3") is None

    def test_truncated_is_wrong(self) -> None:
        prompt = Prompt(id="0", text="", answer="3")
        assert NumericAnswer(marker="#")(prompt=prompt, completion=completed("#3", truncated=True)) is False

    def test_out_of_range(self) -> None:
        with pytest.raises(ValueError, match=r"^NumericAnswer: tolerance is at least 0"):
            NumericAnswer(marker="#", tolerance=-0.1)


class TestChoiceAnswer:
    @pytest.mark.parametrize(
        ("text", "right"),
        [
            ("Answer: B", True),
            ("Answer: (B)", True),
            ("Answer: **B**", True),
            ("Answer: b.", True),
            ("Answer: B) blue", True),
            ("Answer: $\\text{B}$", True),
            ("Answer: \\textbf{(B)} 12", True),
            ("Answer: B because A is red", True),
            ("Answer: A", False),
            ("Answer: A or B", False),
            ("Answer: B or A", False),
            ("Answer: B, C", False),
            ("Answer: B/C", False),
            ("Answer: blue", False),
            ("Answer: Because", False),
            ("Answer:", False),
            ("B", False),
        ],
    )
    def test_the_letter_that_the_answer_begins_with(self, text: str, right: bool) -> None:
        assert verdict(ChoiceAnswer(marker="Answer:"), "B", text) is right
        assert verdict(ChoiceAnswer(marker="Answer:"), "(b)", text) is right

    def test_says_nothing_where_the_reference_is_no_letter(self) -> None:
        assert verdict(ChoiceAnswer(marker="Answer:"), "12", "Answer: B") is None
        assert verdict(ChoiceAnswer(marker="Answer:", letters="AB"), "C", "Answer: C") is None

    @pytest.mark.parametrize("letters", ["A", "AA", "ab", "A1", ""])
    def test_out_of_range(self, letters: str) -> None:
        with pytest.raises(ValueError, match=r"^ChoiceAnswer: letters are at least two different capitals"):
            ChoiceAnswer(marker="#", letters=letters)


class TestAnswerLine:
    """verl's math_dapo.py, by hand: the last `Answer:` line of the last 300 characters, in normal form."""

    @pytest.mark.parametrize(
        ("answer", "text", "right"),
        [
            ("34", "Answer: 34", True),
            ("34", "answer : 34", True),
            ("34", "ANSWER:\n34", True),  # white space behind the colon may be a line break
            ("34", "Answer: 33\nAnswer: 34", True),
            ("34", "Answer: 34\nAnswer: 33", False),
            ("34", "Answer: 34" + "\n" * 295, False),
            ("34", "Answer: 34" + "\n" * 290, True),
            ("34", "34", False),
            ("34", "Answer: $34$", True),
            ("34", "Answer: \\boxed{34}", True),
            ("34", "Answer: x = 34", True),
            ("34", "Answer: 34 units", True),
            ("34", "Answer: 34.0", False),  # nothing is computed
            ("1234", "Answer: 1,234", True),
            ("\\frac{1}{2}", "Answer: \\frac12", True),
            ("1/2", "Answer: 0.5", False),
            ("INVALID", "none", False),
        ],
    )
    def test_worked_cases(self, answer: str, text: str, right: bool) -> None:
        assert verdict(AnswerLine(), answer, text) is right

    @pytest.mark.parametrize(
        ("answer", "form"),
        [
            ("x = 5", "5"),
            ("a 5", "5"),
            ("$x$ is", "x"),
            ("\\text{5 cm}", "5"),
            ("\\frac12", "\\frac{1}{2}"),
            ("\\frac{a}{b}", "\\frac{a}{b}"),
            ("\\sqrt2", "\\sqrt{2}"),
            ("\\sqrt{2}", "\\sqrt{2}"),
            ("12\\text{m}^2", "12"),
            ("90^\\circ", "90"),
            ("1,000,000", "1000000"),
            ("(1,2)", "(1,2)"),
            ("\\overline{AB}", "AB"),
            ("\\textbf{x}", "x"),
            ("10 meters", "10"),
            ("5.", "5."),
        ],
    )
    def test_normal_form(self, answer: str, form: str) -> None:
        assert normal_form(answer) == form

    def test_worth(self) -> None:
        """Eq. 7 of DAPO."""
        assert (AnswerLine().reward(True), AnswerLine().reward(False)) == (1.0, -1.0)


class TestCountdownAnswer:
    @pytest.mark.parametrize(
        ("text", "right"),
        [
            ("<answer>(4 * 3) * 2</answer>", True),
            ("<answer>4*3*2 = 24</answer>", True),
            ("<answer>2 × 3 × 4</answer>", True),
            ("<answer>2 * 12</answer>", False),  # not the given numbers
            ("<answer>4 * 3 * 2 * 2 / 2</answer>", False),  # one of them thrice
            ("<answer>4 * 6</answer>", False),
            ("<answer>4 + 3 + 2</answer>", False),
            ("<answer>24</answer>", False),
            ("<answer>4 * 3 ** 2</answer>", False),
            ("<answer>__import__('os')</answer>", False),
            ("<answer>9**9**9**9</answer>", False),
            ("<answer>4 * 3 * 2 / 0</answer>", False),
            ("<answer></answer>", False),
            ("4 * 3 * 2", False),
        ],
    )
    def test_uses_each_number_once_and_gets_there(self, text: str, right: bool) -> None:
        assert verdict(CountdownAnswer(marker="<answer>"), "24", text, numbers=[2, 3, 4]) is right

    def test_values_are_exact(self) -> None:
        assert verdict(CountdownAnswer(marker="#"), "1", "#(1/3) * 3", numbers=[1, 3, 3]) is True

    def test_a_prompt_without_numbers(self) -> None:
        with pytest.raises(UserError, match="CountdownAnswer: 0 has no `numbers` in its meta"):
            verdict(CountdownAnswer(marker="#"), "24", "#24")


@pytest.mark.parametrize("verifier", [ExactAnswer, ChoiceAnswer, CountdownAnswer])
def test_a_marker_is_not_empty(verifier: type):
    with pytest.raises(ValueError, match=f"^{verifier.__name__}: marker is at least one character"):
        verifier(marker="")


def test_both_worths_may_be_zero():
    """It judges, for the accuracy, and pays nothing."""
    assert ExactAnswer(marker="#", right=0.0, wrong=0.0).reward(True) == 0.0
    with pytest.raises(ValueError, match="right is above wrong, or both are 0"):
        ExactAnswer(marker="#", right=1.0, wrong=1.0)
