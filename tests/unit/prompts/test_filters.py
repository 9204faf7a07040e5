"""Filters and decontamination, on prompts that a reader counts by hand; what the data module counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from research.errors import UserError
from research.policy import character_tokenizer
from research.prompts import (
    Chat,
    ChatTemplate,
    DistinctQuestions,
    DropLongest,
    FieldRange,
    Filter,
    LengthTarget,
    LocalJsonl,
    MaxLength,
    NoOverlap,
    NoTarget,
    PlainText,
    PromptData,
    PromptSource,
    Targets,
)
from research.types import Prompt


def prompts_of(*texts: str, **meta: Any) -> list[Prompt]:
    return [Prompt(id=f"{n}", text=text, answer="", meta=meta) for n, text in enumerate(texts)]


def kept(chosen: Filter, prompts: Sequence[Prompt], held_out: Sequence[Prompt] = (), tokenizer: Any = None) -> str:
    """The ids of the prompts that are kept."""
    return "".join(prompt.id for prompt in chosen(prompts=prompts, held_out=held_out, tokenizer=tokenizer))


@dataclass(frozen=True, kw_only=True)
class Fixed(PromptSource):
    """The prompts it is given."""

    prompts: tuple[Prompt, ...]

    def load(self) -> Sequence[Prompt]:
        return self.prompts


class TestLengths:
    TEN = prompts_of(*("x" * n for n in (5, 1, 9, 2, 8, 3, 7, 4, 6, 10)))

    def test_the_longest_decile_goes(self) -> None:
        assert kept(DropLongest(unit="characters"), self.TEN) == "012345678"
        assert kept(DropLongest(unit="characters", share=0.5), self.TEN) == "01357"  # quantile 5.5

    def test_prompts_as_long_as_the_limit_stay(self) -> None:
        assert kept(DropLongest(unit="characters"), prompts_of("aa", "bb", "cc")) == "012"
        assert kept(DropLongest(unit="characters"), []) == ""

    def test_at_most(self) -> None:
        assert kept(MaxLength(unit="characters", longest=4), self.TEN) == "1357"
        assert kept(MaxLength(unit="characters", longest=4), []) == ""

    def test_tokens_are_the_policys(self) -> None:
        tokenizer = character_tokenizer("ab")
        tokenizer.add_tokens(["aaa"])
        prompts = prompts_of("aaa", "ab", "aaab", "abb")  # 1, 2, 2 and 3 tokens
        assert kept(MaxLength(unit="tokens", longest=2), prompts, tokenizer=tokenizer) == "012"
        assert kept(MaxLength(unit="characters", longest=2), prompts, tokenizer=tokenizer) == "1"
        assert kept(MaxLength(unit="tokens", longest=2), [], tokenizer=tokenizer) == ""

    def test_who_reads_the_tokenizer(self) -> None:
        readers = [DropLongest(unit="tokens"), MaxLength(unit="tokens", longest=1)]
        others = [DropLongest(unit="characters"), NoOverlap(), DistinctQuestions()]
        assert [chosen.reads_tokenizer for chosen in readers + others] == [True, True, False, False, False]


class TestFieldRange:
    @pytest.mark.parametrize(
        ("value", "is_kept"),
        [
            (3, True),
            (5.0, True),
            (2.9, False),
            (6, False),
            ("Level 4", True),
            ("Level 6", False),
            ("0.5", False),
            ("4e0", True),
            ("-4", False),
            ("4 of 5", False),
            ("n/a", False),
            (None, False),
            ([4], False),
            (float("nan"), False),
        ],
    )
    def test_numbers_and_texts(self, value: Any, is_kept: bool) -> None:
        prompts = prompts_of("q", level=value)
        assert kept(FieldRange(field="level", low=3.0, high=5.0, missing="drop"), prompts) == ("0" if is_kept else "")

    def test_truth_is_no_number(self) -> None:
        assert kept(FieldRange(field="level", low=0.0, high=2.0, missing="drop"), prompts_of("q", level=True)) == ""

    def test_prompts_without_a_number(self) -> None:
        prompts = [*prompts_of("q", level="n/a"), *prompts_of("q", level=float("nan")), *prompts_of("q")]
        assert kept(FieldRange(field="level", low=3.0, high=5.0, missing="keep"), prompts) == "000"
        assert kept(FieldRange(field="level", low=3.0, high=5.0, missing="drop"), prompts) == ""


class TestDistinct:
    def test_the_first_of_each_question_stays(self) -> None:
        same = [Prompt(id="9", text="in other words, b", answer="", meta={"question": "b"})]
        assert kept(DistinctQuestions(), [*prompts_of("a", "b", "a"), *same]) == "01"


class TestNoOverlap:
    EVALUATION = prompts_of("a b c d e f", "one, two three")

    @pytest.mark.parametrize(
        ("text", "is_kept"),
        [
            ("x a b c d y", False),
            ("x A (b) c-d? y", False),  # without case and punctuation
            ("c d e f", False),
            ("a b c x d e f", True),
            ("a b c", True),
            ("zero one two three four", False),  # shorter than n, so as a whole
            ("one two four", True),
            ("", True),
        ],
    )
    def test_by_hand(self, text: str, is_kept: bool) -> None:
        chosen = NoOverlap(n=4, shortest=3)
        assert kept(chosen, prompts_of(text), self.EVALUATION) == ("0" if is_kept else "")

    def test_evaluation_questions_that_are_too_short_are_not_looked_for(self) -> None:
        assert kept(NoOverlap(n=4, shortest=4), prompts_of("zero one two three four"), self.EVALUATION) == "0"

    def test_chinese_characters_are_words(self) -> None:
        asked = prompts_of("小明有3个苹果")
        chosen = NoOverlap(n=4, shortest=4)
        assert kept(chosen, prompts_of("请问，小明有3本书", "小明有很多书"), asked) == "1"

    def test_the_words_of_a_template_are_no_overlap(self) -> None:
        words = "Solve this problem step by step and put the answer in a box: "
        train = [Prompt(id="0", text=words + "p", answer="", meta={"question": "p"})]
        asked = [Prompt(id="e", text=words + "q", answer="", meta={"question": "q"})]
        assert kept(NoOverlap(n=5, shortest=1), train, asked) == "0"
        assert kept(NoOverlap(n=5, shortest=1), prompts_of(words), asked) == "0"  # words of their template alone
        assert kept(NoOverlap(n=5, shortest=1), train, prompts_of(words)) == "0"  # and of ours
        assert kept(NoOverlap(n=5, shortest=1), prompts_of(words), prompts_of(words)) == ""

    def test_further_evaluation_sets(self) -> None:
        further = Fixed(prompts=tuple(prompts_of("u v w x")))
        assert kept(NoOverlap(n=4, shortest=3), prompts_of("t u v w x y"), self.EVALUATION) == "0"
        assert kept(NoOverlap(n=4, shortest=3, against=[further]), prompts_of("t u v w x y"), self.EVALUATION) == ""


class TestRefusals:
    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (lambda: DropLongest(unit="tokens", share=0.0), r"share is in \(0, 1\), got 0.0"),
            (lambda: DropLongest(unit="tokens", share=1.0), r"share is in \(0, 1\), got 1.0"),
            (lambda: MaxLength(unit="tokens", longest=0), "longest is at least 1, got 0"),
            (lambda: FieldRange(field="a", low=2.0, high=1.0, missing="drop"), "low is at most high, got 2.0 and 1.0"),
            (lambda: NoOverlap(n=3, shortest=4), "1 ≤ shortest ≤ n, got 4 and 3"),
            (lambda: NoOverlap(n=3, shortest=0), "1 ≤ shortest ≤ n, got 0 and 3"),
        ],
    )
    def test_out_of_range(self, make: Any, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            make()


def data_of(
    train: Sequence[Prompt],
    evaluation: Sequence[Prompt],
    *filters: Filter,
    chat: Chat | None = None,
    targets: Targets | None = None,
) -> PromptData:
    return PromptData(
        train=Fixed(prompts=tuple(train)),
        evaluation=Fixed(prompts=tuple(evaluation)),
        targets=targets or NoTarget(),
        chat=chat or PlainText(),
        filters=list(filters),
        prompts_per_step=1,
    )


class TestData:
    TRAIN = prompts_of("aaaa", "b", "b", "cc", "e")

    def test_filters_act_in_order_and_are_counted(self) -> None:
        data = data_of(self.TRAIN, prompts_of("e"), MaxLength(unit="characters", longest=2), DistinctQuestions())
        data.setup()
        assert [prompt.text for prompt in data.train_prompts] == ["b", "cc"]
        assert data.counts["train"] == {
            "loaded": 5,
            "evaluation questions": 1,
            "1. MaxLength": 1,
            "2. DistinctQuestions": 1,
            "kept": 2,
        }
        assert [prompt.text for prompt in data.evaluation_prompts] == ["e"]

    def test_evaluation_prompts_are_not_filtered(self) -> None:
        data = data_of(self.TRAIN, prompts_of("eeeeeee"), MaxLength(unit="characters", longest=2))
        data.setup()
        assert [prompt.text for prompt in data.evaluation_prompts] == ["eeeeeee"]

    def test_nothing_left_says_what_became_of_the_prompts(self) -> None:
        data = data_of(self.TRAIN, prompts_of("e"), FieldRange(field="level", low=0.0, high=1.0, missing="drop"))
        with pytest.raises(UserError) as caught:
            data.setup()
        counted = "loaded 5, evaluation questions 1, 1. FieldRange 4, kept 0"
        assert str(caught.value) == f"no training prompt is left, change data.train or data.filters: {counted}"

    def test_the_tokenizer_comes_with_the_policy(self) -> None:
        tokenizer = character_tokenizer("abce<>")
        tokenizer.chat_template = "<{{ messages[0].content }}>"
        data = data_of(self.TRAIN, prompts_of("e"), MaxLength(unit="tokens", longest=4), chat=ChatTemplate())
        data.setup()
        assert data.stream is None
        with pytest.raises(AssertionError, match="attach if a part reads the tokenizer"):
            data.train_dataloader()
        data.load_state_dict({"position": 3, "retired": []})
        data.attach(tokenizer)
        data.attach(None)  # a second time changes nothing
        assert [prompt.text for prompt in data.train_prompts] == ["<b>", "<b>", "<cc>"]
        assert [prompt.question for prompt in data.train_prompts] == ["b", "b", "cc"]
        assert [prompt.text for prompt in data.evaluation_prompts] == ["<e>"]
        assert data.counts["train"]["evaluation questions"] == 1
        assert data.stream is not None
        assert data.stream.position == 3

    def test_a_question_under_another_template_is_still_an_evaluation_question(self) -> None:
        asked = [Prompt(id="x", text="Answer: cc", answer="", meta={"question": "cc"})]
        data = data_of(self.TRAIN, asked)
        data.setup()
        assert [prompt.text for prompt in data.train_prompts] == ["aaaa", "b", "b", "e"]
        data = data_of([*asked, *self.TRAIN[:2]], prompts_of("cc"))
        data.setup()
        assert [prompt.text for prompt in data.train_prompts] == ["aaaa", "b"]

    def test_the_length_asked_for_is_no_part_of_the_question(self) -> None:
        asks = LengthTarget(template="{text} in {target}", low=5, high=5, seed=0)
        data = data_of(self.TRAIN, prompts_of("e"), NoOverlap(n=2, shortest=2), targets=asks)
        data.setup()
        assert [prompt.text for prompt in data.train_prompts] == ["aaaa in 5", "b in 5", "b in 5", "cc in 5"]
        assert [prompt.question for prompt in data.train_prompts] == ["aaaa", "b", "b", "cc"]

    def test_what_a_source_leaves_out_is_counted(self) -> None:
        @dataclass(frozen=True, kw_only=True)
        class Skipping(Fixed):
            def counted(self) -> tuple[Sequence[Prompt], dict[str, int]]:
                return self.prompts[1:], {"rows": len(self.prompts), "unreadable": 1}

        data = data_of([], prompts_of("e"))
        data.sources["train"] = Skipping(prompts=tuple(prompts_of("a", "b")))
        data.setup()
        counts = {"rows": 2, "unreadable": 1, "loaded": 1, "evaluation questions": 0, "kept": 1}
        assert data.counts == {"train": counts, "evaluation": {"loaded": 1}}

    def test_ids_that_come_twice(self) -> None:
        data = data_of([*prompts_of("a"), *prompts_of("b")], prompts_of("e"))
        with pytest.raises(UserError, match="two prompts have the id '0'"):
            data.setup()


def test_a_template_leaves_the_question_in_the_meta(tmp_path: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "why", "a": "so", "question": "another field"}\n')
    source = {"path": str(path), "prompt_field": "q", "answer_field": "a"}
    (plain,) = LocalJsonl(**source).load()
    (asked,) = LocalJsonl(**source, template="{prompt}?").load()
    assert (plain.text, plain.question) == ("why", "why")
    assert (asked.text, asked.question) == ("why?", "why")
