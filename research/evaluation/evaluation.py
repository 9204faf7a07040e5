"""Sampling and scoring of held-out prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from research.component import require
from research.evaluation.estimators import avg_at_k, pass_at_k
from research.types import Group

SAMPLED_PROMPTS, SAMPLED_COMPLETIONS = 8, 2
"""The prompts, and the completions of each, that an evaluation keeps as text."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The protocol: k completions of every evaluation prompt, at a stated temperature and top-p."""

    completions_per_prompt: int
    """k; at least 1."""
    temperature: float = 1.0
    """Above 0."""
    top_p: float = 1.0
    """In (0, 1]. DAPO evaluates at 0.7."""
    top_k: int = 0
    """The number of most probable tokens that are sampled from: 1 is greedy, 0 keeps all."""
    max_completion_tokens: int | None = None
    """A completion is cut here; null takes the rollouts' limit."""

    def __post_init__(self) -> None:
        require(
            self.completions_per_prompt >= 1,
            f"Evaluation: completions_per_prompt is at least 1, got {self.completions_per_prompt}",
        )
        require(
            self.temperature > 0 and 0 < self.top_p <= 1,
            f"Evaluation: temperature is above 0 and top_p in (0, 1], got {self}",
        )
        require(self.top_k >= 0, f"Evaluation: top_k is at least 0, got {self.top_k}")
        require(
            self.max_completion_tokens is None or self.max_completion_tokens >= 1,
            f"Evaluation: max_completion_tokens is at least 1, or null, got {self.max_completion_tokens}",
        )

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """avg@k, pass@k, truncation and lengths, by metric name."""
        k = self.completions_per_prompt
        right = [sum(group.right) for group in groups]
        completions = [(c, ok) for group in groups for c, ok in zip(group.completions, group.right, strict=True)]
        lengths = {verdict: [len(c.token_ids) for c, ok in completions if ok == verdict] for verdict in (True, False)}
        measures = {
            "evaluation/avg_at_k": avg_at_k(right, k),  # 0 to 1
            "evaluation/pass_at_k": pass_at_k(right, k, k),  # 0 to 1
            "evaluation/truncated": fmean(c.truncated for c, _ in completions),  # share, 0 to 1
            "evaluation/length_mean": fmean(len(c.token_ids) for c, _ in completions),  # tokens
        }
        if any(unscored := [not known for group in groups for known in group.scored]):
            measures["evaluation/unscored"] = fmean(unscored)  # share that counts as wrong unjudged, 0 to 1
        if errors := [error for group in groups for error in group.length_errors]:
            measures["evaluation/length_error_mean"] = fmean(errors)  # tokens from what the prompts ask for
        for verdict, name in ((True, "right"), (False, "wrong")):
            if lengths[verdict]:
                measures[f"evaluation/length_{name}_mean"] = fmean(lengths[verdict])  # tokens
        return measures

    def items(self, groups: Sequence[Group]) -> list[dict[str, str | int]]:
        """Each prompt's id, and the numbers of its completions: all, right and truncated ones."""
        return [
            {
                "prompt": group.prompt.id,
                "k": len(group.completions),
                "right": sum(group.right),
                "truncated": sum(completion.truncated for completion in group.completions),
            }
            for group in groups
        ]

    def samples(self, groups: Sequence[Group]) -> list[dict[str, str | int]]:
        """The first completions of the first prompts, for a person to read; the same prompts each time."""
        return [
            {
                "prompt": group.prompt.text,
                "answer": group.prompt.answer,
                "completion": completion.text,
                "right": right,
                "tokens": len(completion.token_ids),
                "truncated": completion.truncated,
            }
            for group in groups[:SAMPLED_PROMPTS]
            for completion, right in list(zip(group.completions, group.right, strict=True))[:SAMPLED_COMPLETIONS]
        ]
