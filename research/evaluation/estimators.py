"""Estimators of a policy's accuracy from k completions of each item."""

from collections.abc import Sequence
from math import comb
from statistics import fmean


def avg_at_k(right: Sequence[int], k: int) -> float:
    """Mean share of right completions.

        avg@k = 1/n Σ_i c_i / k

    Args:
        right: c_i, right completions of each of the n items, 0 to k; n ≥ 1.
        k: completions of each item; at least 1.

    Returns: accuracy, 0 to 1.

    Example:
        >>> avg_at_k([4, 0], k=4)
        0.5
    """
    return fmean(c / k for c in right)


def pass_at_k(right: Sequence[int], n: int, k: int) -> float:
    """The unbiased estimate of the probability that at least one of k completions is right.

        pass@k = 1/items Σ_i [ 1 − C(n − c_i, k) / C(n, k) ]

    Args:
        right: c_i, right completions of each item, 0 to n.
        n: completions of each item.
        k: how many tries; 1 to n.

    Returns: probability, 0 to 1.

    Source: Chen et al. 2021, §2.1 (arXiv:2107.03374).

    Example:
        >>> pass_at_k([1], n=4, k=2)
        0.5
    """
    return fmean(1 - comb(n - c, k) / comb(n, k) for c in right)
