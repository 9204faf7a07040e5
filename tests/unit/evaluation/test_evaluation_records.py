"""What an evaluation says of its completions, and how sure it is."""

from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from research.errors import UserError
from research.evaluation.comparison import compare
from research.evaluation.protocol import PROTOCOLS
from research.evaluation.record import Record, item_of
from research.evaluation.reflection import checks_itself, reflects
from research.evaluation.summary import over_items, seed_interval, summarize, uncertainty, vote
from research.reporting.pages.comparison import comparison_page
from research.statistics import t_interval
from research.types import Completion, Group, Prompt


def completion(answer: str | None, *, right: bool = False, tokens: int = 3, truncated: bool = False) -> dict[str, Any]:
    text = f"#{answer}" if answer is not None else "…"
    return {"text": text, "tokens": tokens, "truncated": truncated, "right": right, "answer": answer}


def record(*seeds: list[list[dict[str, Any]]], **settings: Any) -> Record:
    """The completions of each item, for each seed."""
    items = [
        {"seed": seed, "prompt": str(i), "text": "", "reference": "3", "completions": completions}
        for seed, of_seed in enumerate(seeds)
        for i, completions in enumerate(of_seed)
    ]
    decoding = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_completion_tokens": 8, "prompts": "hash"}
    own = {"completions_per_prompt": len(seeds[0][0]), "seeds": list(range(len(seeds)))}
    return Record(settings={**decoding, **own, **settings}, items=items)


def graded(*rows: str) -> Record:
    """`101` is an item whose second completion is wrong; one seed."""
    return record([[completion("3" if c == "1" else "4", right=c == "1") for c in row] for row in rows])


def values(of: Record) -> dict[str, float]:
    return {line.name: line.interval.mean for line in summarize(of)}


class TestRecord:
    def test_is_what_was_written(self, tmp_path: Path) -> None:
        whole = graded("10", "11")
        whole.write(tmp_path / "a" / "b")
        assert Record.read(tmp_path / "a" / "b") == whole

    def test_of_a_group(self) -> None:
        done = Completion(token_ids=(1, 2), rollout_logprobs=(0.0, 0.0), text="#3", finish_reason="stop")
        group = Group(
            prompt=Prompt(id="p", text="1+2=", answer="3"),
            prompt_ids=(1,),
            completions=(done,),
            outcomes=(1.0,),
            right=(True,),
        )
        item = item_of(group, 5, lambda c: c.text[1:])
        assert item["seed"] == 5
        assert item["completions"] == [completion("3", right=True, tokens=2)]

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="holds no evaluation"):
            Record.read(tmp_path)

    @pytest.mark.parametrize("cut", [10, -40])
    def test_damaged(self, cut: int, tmp_path: Path) -> None:
        graded("10", "11").write(tmp_path)
        path = tmp_path / "items.jsonl"
        path.write_text(path.read_text()[:cut])
        with pytest.raises(UserError, match="is damaged"):
            Record.read(tmp_path)


class TestSummary:
    def test_by_hand(self) -> None:
        found = values(graded("1100", "1111", "0000"))
        assert found["avg@4"] == pytest.approx(0.5)
        assert found["pass@2"] == pytest.approx((5 / 6 + 1 + 0) / 3)
        assert found["pass@4"] == pytest.approx(2 / 3)
        assert found["cons@4"] == pytest.approx((0.5 + 1 + 0) / 3)
        assert "pass@8" not in found

    def test_pass_at_k_counts_subsets_of_all_seeds_completions(self) -> None:
        two = record(*[[[completion("3", right=r) for r in row]] for row in ((True, False), (False, False))])
        draws = [True, False, False, False]
        assert values(two)["pass@2"] == pytest.approx(fmean(any(pair) for pair in combinations(draws, 2)))

    def test_lengths_and_shares(self) -> None:
        one = record(
            [
                [completion("3", right=True, tokens=2), completion(None, tokens=8, truncated=True)],
                [completion("4", tokens=4), completion("3", right=True, tokens=6)],
            ]
        )
        found = values(one)
        assert found["length"] == 5
        assert found["length, right"] == 4
        assert found["length, wrong"] == 6
        assert found["truncated"] == 0.25
        assert found["format"] == 0.75

    def test_intervals_are_over_items(self) -> None:
        of = graded("10", "11", "00", "01")
        line = summarize(of)[0]
        assert line.interval.mean == 0.5
        assert (line.interval.low, line.interval.high) == t_interval([0.5, 1.0, 0.0, 0.5])

    def test_seeds_are_apart(self) -> None:
        two = record(*[[[completion("3", right=r)] for r in row] for row in ((True, True), (True, False))])
        interval = seed_interval(two)
        assert interval.mean == 0.75
        assert interval.n == 2
        assert interval.low is not None
        assert interval.low < 0.5


class TestVote:
    def test_majority(self) -> None:
        assert vote([completion("3", right=True), completion("3", right=True), completion("4")]) == 1.0
        assert vote([completion("3", right=True), completion("4"), completion("4")]) == 0.0

    def test_silence_has_no_vote(self) -> None:
        assert vote([completion("3", right=True), completion(None), completion(None)]) == 1.0
        assert vote([completion(None), completion(None)]) == 0.0


class TestUncertainty:
    def test_of_a_population(self) -> None:
        """Accuracies of many items drawn from a known distribution: both parts are found."""
        generator = np.random.default_rng(0)
        n, K = 20_000, 4
        p = generator.beta(2.0, 2.0, size=n)
        right = (generator.random((n, K)) < p[:, None]).astype(float)
        parts = uncertainty(right)
        assert parts.sampling**2 * n == pytest.approx(float((p * (1 - p)).mean()) / K, rel=0.05)  # 1/√n is 0.7 %
        assert parts.items**2 * n == pytest.approx(float(p.var()), rel=0.05)

    def test_one_completion_has_no_parts(self) -> None:
        assert np.isnan(uncertainty(np.ones((3, 1))).total)

    def test_interval_coverage(self) -> None:
        """A nominal 95 % interval over 64 items × 4 completions; benchmarks/interval_coverage.py has more."""
        generator = np.random.default_rng(1)
        covered = []
        for _ in range(1000):
            p = generator.beta(0.6, 0.9, size=64)
            interval = over_items((generator.random((64, 4)) < p[:, None]).mean(1))
            assert interval.low is not None
            assert interval.high is not None
            covered.append(interval.low <= 0.4 <= interval.high)
        assert 0.93 <= fmean(covered) <= 0.97


class TestComparison:
    def test_pairs_by_item(self) -> None:
        found = compare(graded("10", "00", "11"), graded("11", "11", "10"))
        accuracy = found.changes[0]
        assert (accuracy.name, accuracy.before, accuracy.after) == ("accuracy", 0.5, pytest.approx(5 / 6))
        assert (accuracy.difference.low, accuracy.difference.high) == t_interval([0.5, 1.0, -0.5])
        assert found.gained == ["0", "1"]
        assert found.lost == ["2"]
        assert found.test == "sign flips by item"

    def test_one_completion_each_is_mcnemars(self) -> None:
        before, after = "1100000000", "1011111100"
        found = compare(graded(*before), graded(*after))
        assert found.test == "McNemar's exact test"
        assert found.p == pytest.approx(float(mcnemar([[1, 1], [6, 2]], exact=True).pvalue))

    def test_no_difference(self) -> None:
        assert compare(graded("10", "01"), graded("10", "01")).p == 1.0

    @pytest.mark.parametrize("setting", [{"temperature": 0.5}, {"prompts": "other"}, {"top_k": 1}])
    def test_refuses_what_cannot_be_paired(self, setting: dict[str, Any]) -> None:
        one = [[completion("3", right=True)]]
        with pytest.raises(UserError, match=f"differ in {next(iter(setting))}"):
            compare(record(one), record(one, **setting))


class TestWords:
    @pytest.mark.parametrize("text", ["Wait, no.", "Hmm, so", "let me reconsider", "I'll re-examine it", "等等，不对"])
    def test_reflects(self, text: str) -> None:
        assert reflects(text)

    @pytest.mark.parametrize("text", ["The waiter has 3 plates.", "3+4=7;#7", "awaited", "A second thought: 7"])
    def test_does_not_reflect(self, text: str) -> None:
        assert not reflects(text)

    @pytest.mark.parametrize("text", ["Let's verify: 3", "double-check", "47+8=55(55-8=47);#55", "plugging it back"])
    def test_checks_itself(self, text: str) -> None:
        assert checks_itself(text)

    @pytest.mark.parametrize("text", ["47+8=55;#55", "A check for $5", "f(3)=7"])
    def test_does_not_check_itself(self, text: str) -> None:
        assert not checks_itself(text)


def test_protocols_are_the_papers() -> None:
    dapo, greedy, sober = (PROTOCOLS[name] for name in ("dapo", "dr_grpo", "sober_look"))
    assert (dapo.completions_per_prompt, dapo.temperature, dapo.top_p) == (32, 1.0, 0.7)
    assert (greedy.completions_per_prompt, greedy.top_k, greedy.max_completion_tokens) == (1, 1, 3000)
    assert (sober.temperature, sober.top_p, sober.max_completion_tokens, sober.seeds) == (0.8, 0.9, 32768, 10)


class TestPage:
    def test_shows_pairs_of_every_kind_and_escapes_them(self) -> None:
        hostile = "<script>alert(1)</script>"
        before, after = graded("00", "11", "01"), graded("01", "10", "10")
        for of in (before, after):
            of.items[0]["completions"][0]["text"] = hostile  # pyright: ignore[reportIndexIssue]
            of.settings.update(target="a run", policy="p", step=3, config="c")  # pyright: ignore
        page = comparison_page(before, after, compare(before, after), command="research compare")
        assert hostile not in page
        assert "&lt;script&gt;" in page
        for words in (
            "1 gained, 1 lost",
            "right 0/2 → 1/2",
            "right 2/2 → 1/2",
            "unchanged: 1 of 3 items",
            "before: wrong",
        ):
            assert words in page
        assert page.count('class="side"') == 6
        assert "http" not in page.partition("</style>")[2].replace("http-equiv", "")
