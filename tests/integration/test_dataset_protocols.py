"""A dataset's reference answer is right under the verifier that its description asks for, and another one is not."""

from pathlib import Path

import pytest

from research.prompts import NamedDataset
from research.prompts.datasets.catalogue import DATASETS
from research.rewards import AnswerLine, CountdownAnswer, MathVerifyAnswer, NumericAnswer, Verifier
from research.types import Completion, Prompt

DATA = Path(__file__).parents[1] / "data" / "datasets"
BOX = "\\boxed"
VERIFIERS = {
    "number": NumericAnswer(marker=BOX),
    "mathematics": MathVerifyAnswer(marker=BOX, timeout=60.0),
    "answer line": AnswerLine(),
    "equation": CountdownAnswer(marker="<answer>"),
}


def prompts_of(name: str) -> list[Prompt]:
    split = next(iter(DATASETS[name].splits))
    return NamedDataset(name=name, split=split, path=str(DATA / f"{name}.jsonl")).load()


def accepts(verifier: Verifier, prompt: Prompt, text: str) -> object:
    done = Completion(token_ids=(1,), rollout_logprobs=(0.0,), text=text, finish_reason="stop")
    return verifier(prompt=prompt, completion=done)


def written(answer: str, verifier: str) -> str:
    """A completion that ends with the answer, in the form that the template asks for."""
    return f"So\nAnswer: {answer}" if verifier == "answer line" else f"So it is $\\boxed{{{answer}}}$."


@pytest.mark.parametrize("name", [name for name in DATASETS if DATASETS[name].verifier != "equation"])
def test_the_reference_is_right_and_another_number_is_not(name: str) -> None:
    kind = DATASETS[name].verifier
    for prompt in prompts_of(name):
        assert accepts(VERIFIERS[kind], prompt, written(prompt.answer, kind)) is True
        assert accepts(VERIFIERS[kind], prompt, written("123457", kind)) is False


@pytest.mark.parametrize(
    ("name", "verifier"), [("gsm8k", NumericAnswer(marker="####")), ("math", VERIFIERS["mathematics"])]
)
def test_worked_solutions_are_right(name: str, verifier: Verifier) -> None:
    first = prompts_of(name)[0]
    assert accepts(verifier, first, first.meta["solution"]) is True


def test_countdown() -> None:
    first, second = prompts_of("countdown")  # 24 of 3, 8, 1 and 50 of 10, 5, 7, 2
    verifier = VERIFIERS["equation"]
    assert accepts(verifier, first, "<answer> 3 * 8 * 1 </answer>") is True
    assert accepts(verifier, first, "<answer> 3 * 8 </answer>") is False
    assert accepts(verifier, second, "<answer> 10 * (7 - 2) </answer>") is False
    assert accepts(verifier, second, "<answer> 10 * 7 - 5 * 2 </answer>") is False
    assert accepts(verifier, second, "<answer> 10 * 5 / (7 - 2) + 40 </answer>") is False
