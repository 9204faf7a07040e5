"""The summary of an evaluation, with intervals."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from jaxtyping import Float

from research.evaluation.estimators import pass_at_k
from research.evaluation.record import CompletionRow, Record
from research.evaluation.reflection import checks_itself, reflects
from research.statistics import Interval, t_interval

MEASURES: Mapping[str, Callable[[CompletionRow], float]] = {
    "accuracy": lambda completion: float(completion["right"]),
    "format": lambda completion: float(completion["answer"] is not None),
    "truncated": lambda completion: float(completion["truncated"]),
    "length": lambda completion: float(completion["tokens"]),
    "reflection": lambda completion: float(reflects(completion["text"])),
    "self-check": lambda completion: float(checks_itself(completion["text"])),
}
"""Measures of a completion: shares are 0 to 1, the length is in tokens."""
NOTES: Mapping[str, str] = {
    "format": "completions that answer",
    "truncated": "completions that were cut",
    "reflection": "completions with words of doubt",
    "self-check": "completions that check themselves",
    "length": "tokens",
}
"""The measures of a summary beside the accuracy, in its order, and what each counts."""


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """The two sources of an accuracy's standard error."""

    items: float
    """Standard error from the choice of items; it stays however often each is sampled."""
    sampling: float
    """Standard error from the completions drawn; it goes down with k and with seeds."""

    @property
    def total(self) -> float:
        """Standard error of the mean over new items with new completions."""
        return sqrt(self.items**2 + self.sampling**2)


def uncertainty(right: Float[np.ndarray, "n K"]) -> Uncertainty:
    """Split the variance of the mean accuracy into items and sampling.

        sampling² = 1/n² Σ_i p̂_i (1 − p̂_i) / (K − 1)
        items²    = Var_i(p̂_i) / n − sampling²,  at least 0

    Args:
        right: 1.0 or 0.0 for each of K completions of n items; n and K at least 2, else NaN.

    Example:
        >>> from numpy import array
        >>> uncertainty(array([[1.0, 1.0], [0.0, 0.0]]))  # the items differ, their completions do not
        Uncertainty(items=0.5, sampling=0.0)
    """
    n, K = right.shape
    if n < 2 or K < 2:
        return Uncertainty(items=nan, sampling=nan)
    p = right.mean(1)
    sampling = float((p * (1 - p)).sum() / (K - 1) / n**2)
    items = max(0.0, float(p.var(ddof=1)) / n - sampling)
    return Uncertainty(items=sqrt(items), sampling=sqrt(sampling))


def vote(completions: Sequence[CompletionRow]) -> float:
    """cons@k of one item: the probability that the most frequent answer, ties drawn by lot, is right.

    A completion without an answer has no vote; without any vote the item is wrong.

    Source: Wang et al. 2022, self-consistency (arXiv:2203.11171).

    Example:
        >>> vote([{"answer": "3", "right": True}, {"answer": "4", "right": False}])
        0.5
    """
    votes = Counter(completion["answer"] for completion in completions if completion["answer"] is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [answer for answer, count in votes.items() if count == most]
    right = {completion["answer"] for completion in completions if completion["right"]}
    return sum(answer in right for answer in winners) / len(winners)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One line of a summary."""

    name: str
    interval: Interval
    """The value, and its interval over items, where it has one."""
    note: str = ""
    """Unit or origin of the value."""


def summarize(record: Record) -> list[Measured]:
    """avg@k, pass@k, cons@k, format, truncation, lengths, reflection and self-check, with intervals over items."""
    right = record.right()
    S, n, k = right.shape
    pooled = right.transpose(1, 0, 2).reshape(n, S * k)
    lines = [Measured(name=f"avg@{k}", interval=over_items(pooled.mean(1)), note=f"mean of {S} seed{'s' * (S > 1)}")]
    lines += _passes(pooled)
    if k > 1 and any(completion["answer"] is not None for completion in record.completions):
        votes = np.array([vote(item["completions"]) for item in record.items]).reshape(S, n)
        lines.append(Measured(name=f"cons@{k}", interval=over_items(votes.mean(0)), note="the most frequent answer"))
    for name, note in NOTES.items():
        values = record.each(MEASURES[name])
        lines.append(Measured(name=name, interval=over_items(values.mean((0, 2))), note=note))
    for name, verdict in (("length, right", True), ("length, wrong", False)):
        lengths = [float(c["tokens"]) for c in record.completions if c["right"] == verdict]
        if lengths:
            mean = Interval(mean=float(np.mean(lengths)), low=None, high=None, n=len(lengths))
            lines.append(Measured(name=name, interval=mean, note=f"tokens, of {len(lengths)} completions"))
    return lines


def _passes(right: Float[np.ndarray, "n K"]) -> list[Measured]:
    """pass@2, pass@4, pass@8 and so on, as far as the K completions of an item go."""
    K, counts = right.shape[1], right.sum(1).astype(int).tolist()
    lines = []
    for tries in (2**power for power in range(1, 20) if 2**power <= K):
        per_item = np.array([pass_at_k([count], K, tries) for count in counts])
        note = "unbiased, from all seeds' completions"
        lines.append(Measured(name=f"pass@{tries}", interval=over_items(per_item), note=note))
    return lines


def seed_interval(record: Record) -> Interval:
    """Mean accuracy and its Student's t interval over seeds, on these very items."""
    by_seed = record.right().mean((1, 2)).tolist()
    low, high = t_interval(by_seed) if len(by_seed) > 1 else (None, None)
    return Interval(mean=float(np.mean(by_seed)), low=low, high=high, n=len(by_seed))


def over_items(values: Float[np.ndarray, " n"]) -> Interval:
    """Mean and Student's t interval over items; none for a single item.

    The bootstrap (BCa) of the same means covers too rarely where items are few: benchmarks/interval_coverage.md.

    Args:
        values: one value an item.
    """
    mean, n = float(values.mean()), len(values)
    low, high = t_interval(values.tolist()) if n > 1 else (None, None)
    return Interval(mean=mean, low=low, high=high, n=n)
