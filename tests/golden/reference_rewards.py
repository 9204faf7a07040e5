"""Shaping terms, rewards of tokens, steps, retirement again, slowly: loops over float64 numbers (see `reference.py`).

Per-completion tables are groups of completions; per-token tables are rows, in the groups' order.
"""

from math import cos, exp, pi

Table = list[list[float]]
Flags = list[list[bool]]


def by_completion(groups: Table, equation) -> Table:
    """The equation of every (group number, place in the group)."""
    table = []
    for n, group in enumerate(groups):
        table.append([equation(n, g) for g in range(len(group))])
    return table


# Lengths -------------------------------------------------------------------------------------------------------------


def overlong_penalty(*, lengths: Table, max_length: int, buffer: int) -> Table:
    """arXiv:2503.14476 eq. 13, by cases."""

    def penalty(n: int, g: int) -> float:
        length = lengths[n][g]
        if length <= max_length - buffer:
            return 0.0
        if length <= max_length:
            return ((max_length - buffer) - length) / buffer
        return -1.0

    return by_completion(lengths, penalty)


def length_exact(*, lengths: Table, targets: Table, alpha: float) -> Table:
    """arXiv:2503.04697: −α |n_gold − n_y|."""

    def term(n: int, g: int) -> float:
        distance = targets[n][g] - lengths[n][g]
        return -alpha * distance if distance > 0 else alpha * distance

    return by_completion(lengths, term)


def length_max(*, outcomes: Table, lengths: Table, targets: Table, alpha: float, delta: float) -> Table:
    """arXiv:2503.04697: I · clip(α (n_gold − n_y) + δ, 0, 1), less the outcome I that it replaces."""

    def term(n: int, g: int) -> float:
        kept = alpha * (targets[n][g] - lengths[n][g]) + delta
        if kept < 0:
            kept = 0.0
        if kept > 1:
            kept = 1.0
        return outcomes[n][g] * kept - outcomes[n][g]

    return by_completion(lengths, term)


def kimi_length(*, right: Flags, lengths: Table, weight: float) -> Table:
    """arXiv:2501.12599: λ = 0.5 − (len − min) / (max − min); λ if right, min(0, λ) if wrong; 0 if all are equal."""

    def term(n: int, g: int) -> float:
        shortest, longest = lengths[n][0], lengths[n][0]
        for length in lengths[n]:
            if length < shortest:
                shortest = length
            if length > longest:
                longest = length
        if shortest == longest:
            return 0.0
        gain = 0.5 - (lengths[n][g] - shortest) / (longest - shortest)
        return weight * gain if right[n][g] or gain < 0 else 0.0

    return by_completion(lengths, term)


def cosine_length(
    *,
    right: Flags,
    outcomes: Table,
    lengths: Table,
    max_length: int,
    right_at_zero: float = 2.0,
    right_at_max: float = 1.0,
    wrong_at_zero: float = -10.0,
    wrong_at_max: float = 0.0,
    exceed: float = -10.0,
) -> Table:
    """arXiv:2502.03373: η_min + ½ (η_max − η_min)(1 + cos(tπ/T)), η_max where t = 0; less the outcome it replaces."""

    def schedule(length: float, at_zero: float, at_max: float) -> float:
        return at_max + 0.5 * (at_zero - at_max) * (1 + cos(length * pi / max_length))

    def term(n: int, g: int) -> float:
        length = lengths[n][g]
        if length >= max_length:
            value = exceed
        elif right[n][g]:
            value = schedule(length, right_at_zero, right_at_max)
        else:
            value = schedule(length, wrong_at_zero, wrong_at_max)
        return value - outcomes[n][g]

    return by_completion(lengths, term)


def two_pieces(length: float, limit: float) -> float:
    if length < limit:
        return 0.0
    return -0.5 * (length - limit) / limit if length < 2 * limit else -0.5


def group_relative_overlong(
    *, right: Flags, outcomes: Table, lengths: Table, gamma1: float, hard: dict | None, medium_minority: str
) -> Table:
    """arXiv:2508.04349 appendix D, group by group; an outcome of NaN is none."""

    def judged(n: int) -> list[int]:
        return [g for g, outcome in enumerate(outcomes[n]) if outcome == outcome]

    def difficulty(n: int) -> str:
        share = sum(right[n]) / max(1, len(judged(n)))
        if share >= gamma1:
            return "easy"
        return "hard" if share <= 1 - gamma1 else "medium"

    def threshold(counted: list[float]) -> float:
        half_way, total = (min(counted) + max(counted)) / 2, 0.0
        for length in counted:
            total += length
        return max(half_way, total / len(counted))

    def term(n: int, g: int) -> float:
        kind = difficulty(n)
        if kind == "hard":
            return overlong_penalty(lengths=lengths, **hard)[n][g] if hard else 0.0
        if kind == "easy":
            chosen = [length for length, ok in zip(lengths[n], right[n], strict=True) if ok]
            return two_pieces(lengths[n][g], threshold(chosen)) if right[n][g] else 0.0
        more_are_right = 2 * sum(right[n]) > len(judged(n))
        wrong = g in judged(n) and not right[n][g]
        pays = right[n][g] if more_are_right else medium_minority == "wrong" and wrong
        return two_pieces(lengths[n][g], threshold([lengths[n][k] for k in judged(n)])) if pays else 0.0

    return by_completion(lengths, term)


# Repetition ----------------------------------------------------------------------------------------------------------


def repetition_penalty(*, token_ids: list[list[int]], mask: Flags, lengths: Table, ngram: int, penalty: float) -> Table:
    """p · (1 − distinct/total) over the n-grams of tokens, as arXiv:2502.03373's penalty is in TRL."""
    G = len(lengths[0])

    def term(n: int, g: int) -> float:
        row = n * G + g
        tokens = [token for token, counts in zip(token_ids[row], mask[row], strict=True) if counts]
        seen, total = [], 0
        for start in range(len(tokens) - ngram + 1):
            total += 1
            if tokens[start : start + ngram] not in seen:
                seen.append(tokens[start : start + ngram])
        return penalty * (1 - len(seen) / total) if total else 0.0

    return by_completion(lengths, term)


# KL in the reward ----------------------------------------------------------------------------------------------------


def divergence(estimator: str, old: float, reference: float) -> float:
    """k1, k2, k3 at x = log π − log π_ref."""
    x = old - reference
    if estimator == "k1":
        return x
    return 0.5 * x * x if estimator == "k2" else exp(reference) / exp(old) - 1 + x


def token_kl(*, old_logprobs: Table, ref_logprobs: Table, mask: Flags, beta: float, estimator: str) -> Table:
    """arXiv:2402.03300 eq. 2: −β log(π/π_ref) on every token, and its other estimators."""
    table = []
    for olds, references, counts in zip(old_logprobs, ref_logprobs, mask, strict=True):
        row = []
        for old, reference, counted in zip(olds, references, counts, strict=True):
            row.append(-beta * divergence(estimator, old, reference) if counted else 0.0)
        table.append(row)
    return table


def reference_kl(
    *, old_logprobs: Table, ref_logprobs: Table, mask: Flags, lengths: Table, beta: float, estimator: str
) -> Table:
    """arXiv:2402.14740: r − β log(π/π_ref) of the whole completion, the tokens added up one by one."""
    G = len(lengths[0])

    def term(n: int, g: int) -> float:
        row, total = n * G + g, 0.0
        for old, reference, counted in zip(old_logprobs[row], ref_logprobs[row], mask[row], strict=True):
            if counted:
                total += divergence(estimator, old, reference)
        return -beta * total

    return by_completion(lengths, term)


# Steps and retirement ------------------------------------------------------------------------------------------------


def arithmetic_steps(*, prompt: str, completion: str) -> list[tuple[int, bool]]:
    """Character by character: a step ends at each `;` before the first `#`; it must be the next sum of the prompt."""
    numbers, operators, digits = [], [], ""
    for character in prompt:
        if character.isdigit():
            digits += character
        else:
            numbers.append(int(digits))
            operators.append(character)
            digits = ""
    steps, total, step = [], numbers[0], ""
    for position, character in enumerate(completion):
        if character == "#":
            break
        if character != ";":
            step += character
            continue
        k = len(steps)
        if k >= len(numbers) - 1:
            steps.append((position + 1, False))
        else:
            number, before = numbers[k + 1], total
            total = before + number if operators[k] == "+" else before - number
            inverse = "-" if operators[k] == "+" else "+"
            plain = f"{before}{operators[k]}{number}={total}"
            steps.append((position + 1, step == plain or step == plain + f"({total}{inverse}{number}={before})"))
        step = ""
    return steps


def no_steps(*, prompt: str, completion: str) -> list[tuple[int, bool]]:
    return []


def retire_none(*, right: list[bool]) -> bool:
    return False


def retire_solved(*, right: list[bool], pass_rate: float) -> bool:
    """arXiv:2510.13786: a prompt whose pass rate is at least 0.9 is left out of later epochs."""
    solved = 0
    for one in right:
        if one:
            solved += 1
    return solved / len(right) >= pass_rate


SLOW: dict = {
    "OverlongPenalty": overlong_penalty,
    "LengthExact": length_exact,
    "LengthMax": length_max,
    "KimiLength": kimi_length,
    "CosineLength": cosine_length,
    "GroupRelativeOverlong": group_relative_overlong,
    "RepetitionPenalty": repetition_penalty,
    "TokenKL": token_kl,
    "ReferenceKL": reference_kl,
}
"""One function a component, by the component's name."""
SETTINGS: dict[str, list[dict]] = {
    "OverlongPenalty": [{"max_length": 8, "buffer": 5}, {"max_length": 4, "buffer": 1}],
    "LengthExact": [{"alpha": 3e-4}, {"alpha": 0.25}],
    "LengthMax": [{"alpha": 0.1, "delta": 0.5}, {"alpha": 3e-4, "delta": 1.0}],
    "KimiLength": [{"weight": 1.0}, {"weight": 0.25}],
    "CosineLength": [
        {"max_length": 9},
        {
            "max_length": 7,
            "right_at_zero": 1.0,
            "right_at_max": 0.5,
            "wrong_at_zero": -1.0,
            "wrong_at_max": -0.5,
            "exceed": -3.0,
        },
    ],
    "GroupRelativeOverlong": [
        {"gamma1": 0.75, "hard": None, "medium_minority": "none"},
        {"gamma1": 0.75, "hard": {"max_length": 8, "buffer": 5}, "medium_minority": "wrong"},
        {"gamma1": 0.9, "hard": {"max_length": 6, "buffer": 2}, "medium_minority": "none"},
    ],
    "RepetitionPenalty": [{"ngram": 3, "penalty": -1.0}, {"ngram": 1, "penalty": -0.5}, {"ngram": 8, "penalty": -1.0}],
    "TokenKL": [{"beta": 0.01, "estimator": k} for k in ("k1", "k2", "k3")],
    "ReferenceKL": [{"beta": 0.03, "estimator": k} for k in ("k1", "k2", "k3")],
}
"""The settings to compare at, by the component's name."""
