"""Token weights again, slowly: loops over float64 numbers (see `reference.py`)."""

from math import exp

from reference import Table, each, mean

Mask = list[list[bool]]


def importances(old_logprobs: Table, rollout_logprobs: Table, mask: Mask, level: str) -> Table:
    """π_old / π_rollout of each token, or the product over each completion."""
    table = []
    for old, rollout, counts in zip(old_logprobs, rollout_logprobs, mask, strict=True):
        ratios = [exp(a) / exp(b) for a, b in zip(old, rollout, strict=True)]
        if level == "sequence":
            product = 1.0
            for ratio, here in zip(ratios, counts, strict=True):
                product *= ratio if here else 1.0
            ratios = [product for _ in ratios]
        table.append([ratio if here else 0.0 for ratio, here in zip(ratios, counts, strict=True)])
    return table


def truncated_importance(*, old_logprobs: Table, rollout_logprobs: Table, mask: Mask, cap: float, level: str) -> Table:
    """fengyao.notion.site/off-policy-rl: min(importance, C)."""
    return each(lambda w: cap if w > cap else w, importances(old_logprobs, rollout_logprobs, mask, level))


def masked_importance(
    *, old_logprobs: Table, rollout_logprobs: Table, mask: Mask, low: float, high: float, level: str
) -> Table:
    """IcePop: importance · 1[low ≤ importance ≤ high]."""
    return each(lambda w: w if low <= w <= high else 0.0, importances(old_logprobs, rollout_logprobs, mask, level))


def top_entropy(*, entropies: Table, mask: Mask, fraction: float) -> Table:
    """arXiv:2506.01939: a token trains if fewer than the fraction of all tokens have a higher entropy."""
    every = []
    for row, counts in zip(entropies, mask, strict=True):
        every.extend(value for value, here in zip(row, counts, strict=True) if here)

    def weight(entropy: float, here: bool) -> float:
        higher = 0
        for other in every:
            higher += other > entropy
        return 1.0 if here and higher < fraction * len(every) else 0.0

    return each(weight, entropies, mask)


def covariance_band(*, covariances: Table, uniform: Table, mask: Mask, share: float, low: float, high: float) -> Table:
    """arXiv:2505.22617: the eligible tokens are taken out one by one, the smallest draw first."""
    tokens, eligible = 0, []
    for i, counts in enumerate(mask):
        for t, here in enumerate(counts):
            tokens += here
            if here and low <= covariances[i][t] <= high:
                eligible.append((uniform[i][t], i, t))
    weights = [[1.0 if here else 0.0 for here in counts] for counts in mask]
    wanted = int(share * tokens)
    for _, i, t in sorted(eligible)[: wanted if wanted > 1 else 1]:
        weights[i][t] = 0.0
    return weights


def skip_conflicts(
    *, advantages: Table, token_ids: list[list[int]], lengths: Table, mask: Mask, amplify: float
) -> Table:
    """arXiv:2508.03772: each token against the same position of every other completion of its group."""
    size = len(lengths[0])
    weights = []
    for i, counts in enumerate(mask):
        first = i - i % size
        row = []
        for t, here in enumerate(counts):
            conflict = False
            for j in range(first, first + size):
                if here and mask[j][t] and token_ids[j][t] == token_ids[i][t]:
                    conflict = conflict or advantages[i][t] * advantages[j][t] < 0
            row.append(0.0 if not here else 1.0 if not conflict else amplify if advantages[i][t] > 0 else 0.0)
        weights.append(row)
    return weights


def skip_high_entropy(*, entropies: Table, mask: Mask, limit: float) -> Table:
    """arXiv:2508.03772: δ_i = 1[⟨H⟩_i ≤ ln 2]."""
    weights = []
    for row, counts in zip(entropies, mask, strict=True):
        kept = mean([value for value, here in zip(row, counts, strict=True) if here]) <= limit
        weights.append([1.0 if here and kept else 0.0 for here in counts])
    return weights


SLOW: dict = {
    "TruncatedImportance": truncated_importance,
    "MaskedImportance": masked_importance,
    "TopEntropy": top_entropy,
    "CovarianceBand": covariance_band,
    "SkipConflicts": skip_conflicts,
    "SkipHighEntropy": skip_high_entropy,
}
"""One function a component, by the component's name."""
SETTINGS: dict[str, list[dict]] = {
    "TruncatedImportance": [{"cap": 1.05, "level": "token"}, {"cap": 2.0, "level": "sequence"}],
    "MaskedImportance": [
        {"low": 0.95, "high": 1.05, "level": "token"},
        {"low": 0.9, "high": 1.1, "level": "sequence"},
        {"low": 0.5, "high": 5.0, "level": "token"},
    ],
    "TopEntropy": [{"fraction": 0.2}, {"fraction": 0.5}, {"fraction": 1.0}],
    "CovarianceBand": [{"share": 2e-4, "low": 1.0, "high": 5.0}, {"share": 0.3, "low": -1.0, "high": 2.0}],
    "SkipConflicts": [{"amplify": 1.0}, {"amplify": 2.0}],
    "SkipHighEntropy": [{"limit": 0.6931471805599453}, {"limit": 2.0}],
}
"""The settings to compare at, by the component's name."""
