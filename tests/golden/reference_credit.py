"""Advantages, weights and aggregation again, slowly: loops over float64 numbers (see `reference.py`)."""

from math import prod, sqrt

from reference import Table, flat, per_token, standard_deviation, token_counts
from reference import mean as average

SLOW: dict = {}
"""One function a component, by the component's name."""
SETTINGS: dict[str, list[dict]] = {}
"""The settings to compare at, by the component's name."""


# Advantages ----------------------------------------------------------------------------------------------------------

Cell = tuple[int, int, int]
"""Prompt, completion, token."""


def z(value: float, collection: list[float], ddof: int, eps: float) -> float:
    """(x − mean) / (std + ε); 0 in a collection without spread (1e-12: rounding of sums of numbers near 1)."""
    if max(collection) - min(collection) < 1e-12:
        return 0.0
    return (value - average(collection)) / (standard_deviation(collection, ddof) + eps)


def bounded(cells: dict[Cell, float], right: list[list[bool]], **s) -> dict[Cell, float]:
    """The entropies that count, within their bounds."""
    kept = {}
    for (n, i, t), entropy in cells.items():
        if s["dead_groups"] == "skip" and (all(right[n]) or not any(right[n])):
            continue
        if s["entropy_clamp"] is not None:
            entropy = min(max(entropy, s["entropy_clamp"][0]), s["entropy_clamp"][1])
        kept[n, i, t] = max(entropy, s["entropy_floor"])
    return kept


def shaped_by_entropy(cells: dict[Cell, float], right: list[list[bool]], extra: Table, **s) -> dict[Cell, float]:
    """arXiv:2508.04349 eqs. 3 and 5 for the entropies of `cells`; eqs. 9 are those of one token each."""
    shaped = {}
    for (n, i, t), entropy in cells.items():
        power = 1 if right[n][i] else -1
        column = []
        for (other, k, position), entropy_there in cells.items():
            same_scope = other == n or s["entropy_scope"] == "batch"
            if position == t and same_scope and right[other][k] == right[n][i]:
                column.append(entropy_there**power)
        if s["mean"] == "arithmetic":
            bonus = entropy**power / sum(column) * len(column)
        else:
            bonus = entropy**power / prod(column) ** (1 / len(column))
        terms = extra[n][i] * (s["alpha1"] if s["shaping"] == "scaled" else 1.0)
        shaped[n, i, t] = power * s["alpha1"] + terms + power * s["alpha2"] * bonus
    return shaped


def normalized(shaped: dict[Cell, float], right: list[list[bool]], **s) -> dict[Cell, float]:
    """arXiv:2508.04349 eq. 6."""
    advantages = {}
    for (n, i, t), value in shaped.items():
        collection = []
        for (other, k, _), reward in shaped.items():
            if other != n and s["norm_scope"] == "group":
                continue
            if right[other][k] == right[n][i] or s["norm_set"] == "pooled":
                collection.append(reward)
            elif s["norm_set"] == "zero_filled":
                collection.append(0.0)
        advantages[n, i, t] = z(value, collection, s["ddof"], s["eps"])
    return advantages


def entropy_shaped(cells: dict[Cell, float], right: list[list[bool]], extra: Table, **s) -> dict[Cell, float]:
    return normalized(shaped_by_entropy(bounded(cells, right, **s), right, extra, **s), right, **s)


def shaping_terms(rewards: Table, outcomes: Table) -> Table:
    return [[r - o for r, o in zip(*rows, strict=True)] for rows in zip(rewards, outcomes, strict=True)]


def entropy_shaped_tokens(
    *, right: list[list[bool]], outcomes: Table, rewards: Table, entropies: Table, mask: list[list[bool]], **settings
) -> Table:
    G, cells = len(right[0]), {}
    for row, counted in enumerate(mask):
        for t, counts in enumerate(counted):
            if counts:
                cells[row // G, row % G, t] = entropies[row][t]
    advantages = entropy_shaped(cells, right, shaping_terms(rewards, outcomes), **settings)
    return [[advantages.get((i // G, i % G, t), 0.0) for t in range(len(row))] for i, row in enumerate(mask)]


def entropy_shaped_sequences(
    *, right: list[list[bool]], outcomes: Table, rewards: Table, entropies: Table, mask: list[list[bool]], **settings
) -> Table:
    G, cells = len(right[0]), {}
    for row, counted in enumerate(mask):
        cells[row // G, row % G, 0] = average([H for H, counts in zip(entropies[row], counted, strict=True) if counts])
    advantages = entropy_shaped(cells, right, shaping_terms(rewards, outcomes), **settings)
    return per_token([advantages.get((i // G, i % G, 0), 0.0) for i in range(len(mask))], mask)


def batch_scaled(*, rewards: Table, mask: list[list[bool]], ddof: int, eps: float) -> Table:
    """arXiv:2508.08221: (r − mean of the group) / std of the batch."""
    spread = standard_deviation(flat(rewards), ddof) + eps
    return per_token([(r - average(group)) / spread for group in rewards for r in group], mask)


def whitening(collection: list[float]) -> tuple[float, float]:
    """Mean, and √(sample variance + 1e-8)."""
    return average(collection), sqrt(standard_deviation(collection, 1) ** 2 + 1e-8)


def batch_whitened(*, rewards: Table, mask: list[list[bool]], baseline: str, weighting: str) -> Table:
    """arXiv:2501.03262, whitened over completions or over tokens."""
    values = []
    for group in rewards:
        values.extend(r - average(group) if baseline == "group" else r for r in group)
    collection = []
    for value, count in zip(values, token_counts(mask), strict=True):
        collection.extend([value] * (count if weighting == "tokens" else 1))
    centre, spread = whitening(collection)
    return per_token([(value - centre) / spread for value in values], mask)


def counted(table: Table, mask: list[list[bool]]) -> list[float]:
    return [v for row, keep in zip(table, mask, strict=True) for v, counts in zip(row, keep, strict=True) if counts]


def whitened_where_counted(table: Table, mask: list[list[bool]]) -> Table:
    centre, spread = whitening(counted(table, mask))
    return [
        [(v - centre) / spread if counts else 0.0 for v, counts in zip(row, keep, strict=True)]
        for row, keep in zip(table, mask, strict=True)
    ]


def whitened_returns(*, rewards: Table, token_rewards: Table, mask: list[list[bool]]) -> Table:
    """arXiv:2501.03262: everything earned from token t on, the completion's reward with its last token."""
    returns = []
    for reward, earned, count in zip(flat(rewards), token_rewards, token_counts(mask), strict=True):
        earned = [*earned[: count - 1], earned[count - 1] + reward]
        returns.append([sum(earned[t:]) for t in range(len(mask[0]))])
    return whitened_where_counted(returns, mask)


def each_z_score(
    *, columns: list[Table], mask: list[list[bool]], ddof: int, eps: float, column_weights: tuple[float, ...] | None
) -> Table:
    """arXiv:2601.05242: each reward's z-score in the group, summed, normalized over the batch."""
    total = [0.0] * len(mask)
    for k, column in enumerate(columns):
        parts = [z(r, group, ddof, eps) for group in column for r in group]
        for i, part in enumerate(parts):
            total[i] += part * (column_weights[k] if column_weights else 1.0)
    return per_token([z(value, total, ddof, eps) for value in total], mask)


def process_z_score(
    *, step_rewards: Table, step_ends: list[list[bool]], lengths: Table, mask: list[list[bool]], ddof: int, eps: float
) -> Table:
    """arXiv:2402.03300 §4.1.3: for every token, the sum over the steps that end there or later."""
    G = len(lengths[0])
    advantages = []
    for i, row in enumerate(mask):
        n = i // G
        collection = counted(step_rewards[n * G : n * G + G], step_ends[n * G : n * G + G])
        advantages.append([0.0] * len(row))
        for t, counts in enumerate(row):
            for later in range(t, len(row)):
                if counts and step_ends[i][later]:
                    advantages[i][t] += z(step_rewards[i][later], collection, ddof, eps)
    return advantages


def gae(
    *,
    rewards: Table,
    token_rewards: Table,
    values: Table,
    mask: list[list[bool]],
    gamma: float,
    lam: float,
    whiten: bool,
) -> Table:
    """arXiv:1506.02438 eq. 16, the sum written out."""
    advantages = []
    for i, (reward, count) in enumerate(zip(flat(rewards), token_counts(mask), strict=True)):
        deltas = []
        for t in range(count):
            ends = t == count - 1
            earned = token_rewards[i][t] + (reward if ends else 0.0)
            deltas.append(earned + (0.0 if ends else gamma * values[i][t + 1]) - values[i][t])
        row = [0.0] * len(mask[i])
        for t in range(count):
            for later in range(t, count):
                row[t] += (gamma * lam) ** (later - t) * deltas[later]
        advantages.append(row)
    return whitened_where_counted(advantages, mask) if whiten else advantages


def correct_only(*, right: list[list[bool]], mask: list[list[bool]]) -> Table:
    """arXiv:2402.03300 eq. 10: I(o)."""
    return per_token([1.0 if accepted else 0.0 for group in right for accepted in group], mask)


def imitate(*, mask: list[list[bool]]) -> Table:
    """arXiv:2402.03300 appendix A.1: 1."""
    return per_token([1.0] * len(mask), mask)


READING = {
    "alpha1": 1.0,
    "alpha2": 0.1,
    "ddof": 1,
    "eps": 1e-6,
    "entropy_floor": 1e-6,
    "entropy_clamp": None,
    "entropy_scope": "group",
    "norm_scope": "group",
    "norm_set": "zero_filled",
    "mean": "arithmetic",
    "shaping": "scaled",
    "dead_groups": "skip",
}
READINGS = [
    READING | changes
    for changes in (
        {},
        {"norm_set": "polarity", "alpha1": 0.9},
        {"norm_set": "pooled", "shaping": "added", "alpha1": 0.9, "ddof": 0},
        {"norm_scope": "batch", "entropy_scope": "batch"},
        {"norm_scope": "batch", "dead_groups": "keep", "mean": "geometric", "eps": 1e-4},
        {"entropy_scope": "batch", "dead_groups": "keep", "norm_set": "polarity", "shaping": "added"},
        {"entropy_clamp": (0.2, 0.28), "mean": "geometric", "norm_set": "pooled", "norm_scope": "batch"},
        {"entropy_floor": 1.5, "alpha1": 0.5, "alpha2": 0.5, "eps": 0.0},
    )
]
DEVIATIONS = [{"ddof": 1, "eps": 1e-6}, {"ddof": 0, "eps": 1e-4}]

SLOW.update(
    {
        "EntropyShapedTokens": entropy_shaped_tokens,
        "EntropyShapedSequences": entropy_shaped_sequences,
        "BatchScaled": batch_scaled,
        "BatchWhitened": batch_whitened,
        "WhitenedReturns": whitened_returns,
        "EachZScore": each_z_score,
        "ProcessZScore": process_z_score,
        "GAE": gae,
        "CorrectOnly": correct_only,
        "Imitate": imitate,
    }
)
SETTINGS.update(
    {
        "EntropyShapedTokens": READINGS,
        "EntropyShapedSequences": READINGS,
        "BatchScaled": DEVIATIONS,
        "BatchWhitened": [
            {"baseline": baseline, "weighting": weighting}
            for baseline in ("none", "group")
            for weighting in ("completions", "tokens")
        ],
        "EachZScore": [
            {"ddof": 1, "eps": 1e-6, "column_weights": None},
            {"ddof": 0, "eps": 1e-4, "column_weights": (1.0, -0.25)},
        ],
        "ProcessZScore": DEVIATIONS,
        "GAE": [
            {"gamma": 1.0, "lam": 1.0, "whiten": True},
            {"gamma": 0.99, "lam": 0.95, "whiten": False},
            {"gamma": 0.9, "lam": 0.0, "whiten": True},
        ],
    }
)


# Aggregation ---------------------------------------------------------------------------------------------------------


def prompt_mean(*, mask: list[list[bool]], lengths: Table) -> Table:
    """arXiv:2510.13786: the mean over prompts of the mean over a prompt's tokens."""
    G, counts = len(lengths[0]), token_counts(mask)
    by_prompt = [sum(counts[n * G : n * G + G]) for n in range(len(lengths))]
    prompts = len([tokens for tokens in by_prompt if tokens])
    return per_token([1 / prompts / by_prompt[i // G] if by_prompt[i // G] else 0.0 for i in range(len(mask))], mask)


SLOW.update({"PromptMean": prompt_mean})
