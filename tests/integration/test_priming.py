"""Priming a format, then reinforcement learning from the primed policy's folder, then the page that compares."""

from collections.abc import Callable
from pathlib import Path
from string import ascii_letters, digits, punctuation
from typing import Any

import pytest
from conftest import EXPERIMENTS

from research.cli import main
from research.policy import character_tokenizer
from research.prompts import AnswerMatches, MaxLength
from research.recipe import parse
from research.recipe_file import read_recipe
from research.rollouts import CompactSampler, Decoding, Demonstrations
from research.runs.fit import fit
from research.types import Prompt

VERIFIERS = read_recipe([EXPERIMENTS / "priming.yaml"])["model"]["rewards"]["verifiers"]
EVALUATION = {"model.rewards.verifiers": VERIFIERS, "model.rollouts.max_completion_tokens": 24}


LETTERS = character_tokenizer(f"{ascii_letters}{digits}{punctuation} ")


class TestDemonstrations:
    def written(self, **settings: Any) -> str:
        source = Demonstrations(**settings)
        source.attach(CompactSampler(max_rows=1), None, LETTERS)
        prompt = Prompt(id="0", text="1+2=", answer="3", meta={"solution": " <think>1+2=3</think> Three. "})
        decoding = Decoding(max_tokens=99, temperature=1.0)
        (group,) = source.sample([prompt], n=1, decoding=decoding, seed=0)
        return group.completions[0].text

    def test_are_the_solutions_as_they_are(self) -> None:
        assert self.written() == " <think>1+2=3</think> Three. "

    def test_have_the_tags_of_a_template(self) -> None:
        remove = ["</?think>", r"^\s+", r"\s+$"]
        assert self.written(template="{solution}</w><s>{answer}</s>", remove=remove) == "1+2=3 Three.</w><s>3</s>"

    def test_refuse_a_template_without_a_solution(self) -> None:
        with pytest.raises(ValueError, match="template has a place"):
            Demonstrations(template="{answer}")
        with pytest.raises(ValueError, match="regular expressions"):
            Demonstrations(remove=["("])


class TestFilters:
    PROMPTS = tuple(
        Prompt(id=answer, text="12345", answer=answer, meta={"solution": "x" * n})
        for n, answer in enumerate(["7", "-1,024.5", "1/6", "x", "3 apples"])
    )

    def test_numeric_answers(self) -> None:
        numbers = AnswerMatches(pattern=r"-?\d[\d,]*(\.\d+)?")
        kept = numbers(prompts=self.PROMPTS, held_out=[], tokenizer=None)
        assert [prompt.answer for prompt in kept] == ["7", "-1,024.5"]
        with pytest.raises(ValueError, match="no regular expression"):
            AnswerMatches(pattern="(")

    @pytest.mark.parametrize(("solution", "kept"), [(True, 3), (False, 5)])
    def test_the_solution_counts_if_asked_for(self, solution: bool, kept: int) -> None:
        limit = MaxLength(unit="characters", longest=7, solution=solution)
        assert len(limit(prompts=self.PROMPTS, held_out=[], tokenizer=None)) == kept


def test_primed_trained_and_compared(small: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    settings = {**EVALUATION, "model.rollouts.completions_per_prompt": 1, "run.save_policy": True}
    priming = parse(small("priming", {**settings, "data.train.init_args.size": 4, "run.steps": 60}))
    primed = fit(priming, tmp_path / "priming")
    assert primed["start"]["evaluation/length_mean"] != primed["last"]["evaluation/length_mean"]
    start = {"model.policy.path": str(tmp_path / "priming" / "policy")}
    trained = fit(parse(small("primed_grpo", {**EVALUATION, **start})), tmp_path / "primed_grpo")
    assert trained["start"]["evaluation/length_mean"] == pytest.approx(
        primed["last"]["evaluation/length_mean"], rel=0.5
    )
    assert trained["last"]["rewards/SolutionFormat"] >= 0
    page = tmp_path / "comparison.html"
    before, after = f"{tmp_path / 'priming'}@start", str(tmp_path / "primed_grpo")
    assert main(["compare", "--before", before, "--after", after, "--output", str(page)]) == 0
    text = page.read_text()
    for measure in ("accuracy", "format", "length"):
        assert measure in text
