"""avg@k and pass@k against hand values and against every subset counted out."""

from itertools import combinations
from typing import Any

import pytest

from research.evaluation import Evaluation, avg_at_k, pass_at_k
from research.types import Completion, Group, Prompt


def by_counting(n: int, c: int, k: int) -> float:
    """The share of the k-subsets of n completions that hold one of the c right ones."""
    subsets = list(combinations([1] * c + [0] * (n - c), k))
    return sum(any(subset) for subset in subsets) / len(subsets)


class TestEstimators:
    @pytest.mark.parametrize("n", [1, 2, 5, 7])
    def test_pass_at_k_is_the_share_of_subsets(self, n: int) -> None:
        for k in range(1, n + 1):
            for c in range(n + 1):
                assert pass_at_k([c], n=n, k=k) == pytest.approx(by_counting(n, c, k), abs=1e-12)

    def test_pass_at_k_by_hand(self) -> None:
        assert pass_at_k([0, 1, 4], n=4, k=2) == pytest.approx((0 + 1 / 2 + 1) / 3)
        assert pass_at_k([1], n=200, k=100) == pytest.approx(0.5)  # large binomials
        assert pass_at_k([3, 0, 1], n=4, k=4) == pytest.approx(2 / 3)

    def test_pass_at_1_is_avg_at_n(self) -> None:
        assert pass_at_k([0, 1, 3, 8], n=8, k=1) == pytest.approx(avg_at_k([0, 1, 3, 8], k=8))

    def test_avg_at_k_by_hand(self) -> None:
        assert avg_at_k([1, 2, 0], k=2) == 0.5
        assert avg_at_k([0], k=3) == 0.0
        assert avg_at_k([3, 3], k=3) == 1.0


def group(name: str, *completions: tuple[int, bool, bool]) -> Group:
    """Completions as (tokens, right, truncated)."""
    return Group(
        prompt=Prompt(id=name, text="", answer=""),
        prompt_ids=(1,),
        completions=tuple(
            Completion(
                token_ids=(1,) * n, rollout_logprobs=(0.0,) * n, text="", finish_reason="length" if cut else "stop"
            )
            for n, _, cut in completions
        ),
        outcomes=tuple(float(ok) for _, ok, _ in completions),
        right=tuple(ok for _, ok, _ in completions),
    )


class TestEvaluation:
    GROUPS = (
        group("a", (2, True, False), (8, False, True)),
        group("b", (4, True, False), (6, True, False)),
        group("c", (8, False, True), (8, False, True)),
    )

    def test_metrics_by_hand(self) -> None:
        assert Evaluation(completions_per_prompt=2).metrics(self.GROUPS) == pytest.approx(
            {
                "evaluation/avg_at_k": 3 / 6,
                "evaluation/pass_at_k": 2 / 3,
                "evaluation/truncated": 3 / 6,
                "evaluation/length_mean": 36 / 6,
                "evaluation/length_right_mean": 12 / 3,
                "evaluation/length_wrong_mean": 24 / 3,
            }
        )

    def test_a_mean_over_nothing_is_left_out(self) -> None:
        metrics = Evaluation(completions_per_prompt=2).metrics(self.GROUPS[1:2])
        assert "evaluation/length_wrong_mean" not in metrics
        assert metrics["evaluation/length_right_mean"] == 5
        metrics = Evaluation(completions_per_prompt=2).metrics(self.GROUPS[2:])
        assert "evaluation/length_right_mean" not in metrics

    def test_items(self) -> None:
        assert Evaluation(completions_per_prompt=2).items(self.GROUPS) == [
            {"prompt": "a", "k": 2, "right": 1, "truncated": 1},
            {"prompt": "b", "k": 2, "right": 2, "truncated": 0},
            {"prompt": "c", "k": 2, "right": 0, "truncated": 2},
        ]

    @pytest.mark.parametrize(
        "fields",
        [
            {"completions_per_prompt": 0},
            {"temperature": 0.0},
            {"top_p": 0.0},
            {"top_p": 1.01},
            {"max_completion_tokens": 0},
        ],
    )
    def test_out_of_range(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="Evaluation"):
            Evaluation(**{"completions_per_prompt": 1, **fields})
