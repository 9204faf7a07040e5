"""The equations again, slowly: plain Python loops over float64 numbers, written from the papers.

Nothing here is shared with the package: tensors come in as nested lists, and every sum is a loop. `SLOW` holds one
function a component, by the component's name; each takes the component's settings and the quantities it reads. The
later families have files of their own, `reference_*.py`, each with its `SLOW` and the `SETTINGS` to compare at.
"""

from math import exp, log, sqrt

Table = list[list[float]]


def mean(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def standard_deviation(values: list[float], ddof: int) -> float:
    centre = mean(values)
    total = 0.0
    for value in values:
        total += (value - centre) ** 2
    return sqrt(total / (len(values) - ddof))


def per_token(per_completion: list[float], mask: list[list[bool]]) -> Table:
    """Each completion's value on its tokens, 0 on padding."""
    table = []
    for value, row in zip(per_completion, mask, strict=True):
        table.append([value if counts else 0.0 for counts in row])
    return table


def flat(groups: Table) -> list[float]:
    values = []
    for group in groups:
        values.extend(group)
    return values


# Advantages ----------------------------------------------------------------------------------------------------------


def group_mean(*, rewards: Table, mask: list[list[bool]]) -> Table:
    """arXiv:2503.20783 §3.2: R_i − mean(R)."""
    advantages = []
    for group in rewards:
        advantages.append([reward - mean(group) for reward in group])
    return per_token(flat(advantages), mask)


def group_z_score(*, rewards: Table, mask: list[list[bool]], ddof: int, eps: float) -> Table:
    """arXiv:2402.03300 §4.1.2: (r_i − mean(r)) / std(r), ε added to the deviation, 0 if all rewards are equal."""
    advantages = []
    for group in rewards:
        if min(group) == max(group):
            advantages.append([0.0 for _ in group])
        else:
            advantages.append([(r - mean(group)) / (standard_deviation(group, ddof) + eps) for r in group])
    return per_token(flat(advantages), mask)


def leave_one_out(*, rewards: Table, mask: list[list[bool]]) -> Table:
    """arXiv:2402.14740: r_i minus the mean of the other rewards, the others listed one by one."""
    advantages = []
    for group in rewards:
        row = []
        for i, reward in enumerate(group):
            others = [other for j, other in enumerate(group) if j != i]
            row.append(reward - mean(others))
        advantages.append(row)
    return per_token(flat(advantages), mask)


# Token weights -------------------------------------------------------------------------------------------------------


def skip_truncated(*, mask: list[list[bool]], truncated: list[bool]) -> Table:
    """arXiv:2503.14476 §3.4: the loss of truncated samples is masked."""
    return per_token([0.0 if cut else 1.0 for cut in truncated], mask)


# Aggregation ---------------------------------------------------------------------------------------------------------


def token_counts(mask: list[list[bool]]) -> list[int]:
    counts = []
    for row in mask:
        count = 0
        for counts_here in row:
            if counts_here:
                count += 1
        counts.append(count)
    return counts


def token_mean(*, mask: list[list[bool]]) -> Table:
    """arXiv:2503.14476 eq. 8: 1 / Σ_k |o_k|."""
    total = 0
    for count in token_counts(mask):
        total += count
    return per_token([1.0 / total if total else 0.0 for _ in mask], mask)


def completions_that_count(mask: list[list[bool]]) -> int:
    counted = 0
    for count in token_counts(mask):
        if count > 0:
            counted += 1
    return counted


def sequence_mean(*, mask: list[list[bool]]) -> Table:
    """arXiv:2402.03300 eq. 3: 1/B · 1/|o_i|, B = the completions that count."""
    completions = completions_that_count(mask)
    shares = []
    for count in token_counts(mask):
        shares.append(1.0 / (completions * count) if count else 0.0)
    return per_token(shares, mask)


def constant_length(*, mask: list[list[bool]], length: int) -> Table:
    """arXiv:2503.20783 §3.2 with the repository's constant: 1/B · 1/L, B = the completions that count."""
    completions = completions_that_count(mask)
    return per_token([1.0 / (completions * length) if completions else 0.0 for _ in mask], mask)


# Objective -----------------------------------------------------------------------------------------------------------


def each(equation, *tables: Table) -> Table:
    """The equation, token by token."""
    result = []
    for rows in zip(*tables, strict=True):
        result.append([equation(*values) for values in zip(*rows, strict=True)])
    return result


def token_ratio(*, logprobs: Table, old_logprobs: Table) -> Table:
    """arXiv:1707.06347 eq. 6: π_θ / π_old."""
    return each(lambda now, old: exp(now) / exp(old), logprobs, old_logprobs)


def clip(*, ratio: Table, advantages: Table, eps_low: float, eps_high: float) -> Table:
    """arXiv:2503.14476 eq. 8, by cases: beyond the bound that the advantage pushes to, the gain is constant."""

    def gain(rho: float, advantage: float) -> float:
        if advantage > 0 and rho > 1 + eps_high:
            return (1 + eps_high) * advantage
        if advantage < 0 and rho < 1 - eps_low:
            return (1 - eps_low) * advantage
        return rho * advantage

    return each(gain, ratio, advantages)


def k3(*, logprobs: Table, ref_logprobs: Table, beta: float, gradient: str) -> Table:
    """arXiv:2402.03300 eq. 4: β (π_ref/π_θ − log π_ref/π_θ − 1), whichever gradient it is given."""

    def penalty(now: float, reference: float) -> float:
        quotient = exp(reference) / exp(now)
        return beta * (quotient - log(quotient) - 1)

    return each(penalty, logprobs, ref_logprobs)


def zero(*, logprobs: Table) -> Table:
    return each(lambda now: 0.0, logprobs)


def one(*, logprobs: Table) -> Table:
    return each(lambda now: 1.0, logprobs)


def unclipped(*, ratio: Table, advantages: Table) -> Table:
    """arXiv:2402.14740 §3: ρ Â."""
    return each(lambda rho, advantage: rho * advantage, ratio, advantages)


def log_likelihood(*, logprobs: Table, advantages: Table) -> Table:
    """arXiv:2402.03300 eqs. 6, 8, 11: GC · log π."""
    return each(lambda now, advantage: now * advantage, logprobs, advantages)


def entropy_bonus(*, entropies: Table, alpha: float) -> Table:
    """arXiv:1707.06347 eq. 9: α H."""
    return each(lambda entropy: alpha * entropy, entropies)


def objective(*, coefficients: Table, weights: Table, gain: Table, kl: Table, bonus: Table) -> float:
    """J = Σ_{i,t} c [ w s − kl + bonus ]."""
    total = 0.0
    for row in each(lambda c, w, s, k, b: c * (w * s - k + b), coefficients, weights, gain, kl, bonus):
        for value in row:
            total += value
    return total


def grpo_gradient(
    *, rewards: Table, mask: list[list[bool]], logprobs: Table, ref_logprobs: Table, beta: float, eps: float
) -> Table:
    """∂J/∂ log π at ρ = 1: GC / (B·|o_i|), GC = Â + β (π_ref/π_θ − 1), arXiv:2402.03300 eqs. 3 and 21."""
    advantages = group_z_score(rewards=rewards, mask=mask, ddof=1, eps=eps)
    coefficient = each(lambda a, now, ref: a + beta * (exp(ref - now) - 1), advantages, logprobs, ref_logprobs)
    return each(lambda share, gc: share * gc, sequence_mean(mask=mask), coefficient)


SLOW = {
    "GroupMean": group_mean,
    "GroupZScore": group_z_score,
    "LeaveOneOut": leave_one_out,
    "SkipTruncated": skip_truncated,
    "TokenMean": token_mean,
    "SequenceMean": sequence_mean,
    "ConstantLength": constant_length,
    "TokenRatio": token_ratio,
    "Clip": clip,
    "K3": k3,
    "NoKL": zero,
    "NoBonus": zero,
    "NoRatio": one,
    "Unclipped": unclipped,
    "LogLikelihood": log_likelihood,
    "EntropyBonus": entropy_bonus,
}
