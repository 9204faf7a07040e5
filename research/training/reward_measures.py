"""Metrics of rewards: accuracy, the average of each function, and completions that could not be judged."""

from collections.abc import Sequence
from statistics import fmean

from research.types import Group


def verdict_measures(groups: Sequence[Group]) -> dict[str, float]:
    """Metrics of the completions that could be judged; the others are counted in `reward_measures`.

    Example:
        >>> from research.types import Prompt
        >>> group = Group(prompt=Prompt(id="0", text="", answer=""), prompt_ids=(), completions=(),
        ...     outcomes=(1.0, -1.0, float("nan")), right=(True, False, False))
        >>> verdict_measures([group])["rewards/accuracy"]
        0.5
    """
    known = [group for group in groups if any(group.scored)]
    if not known:
        return {}
    return {
        "rewards/accuracy": fmean(ok for g in known for ok, scored in zip(g.right, g.scored, strict=True) if scored),
        "rewards/outcome_mean": fmean(outcome for group in known for outcome in group.known_outcomes),  # reward units
        "rollouts/zero_variance_groups": fmean(len(set(group.known_outcomes)) == 1 for group in known),  # 0 to 1
        "rollouts/all_right_groups": fmean(sum(group.right) == len(group.known_outcomes) for group in known),  # 0 to 1
        "rollouts/all_wrong_groups": fmean(not any(group.right) for group in known),  # share, 0 to 1
    }


def reward_measures(groups: Sequence[Group], names: Sequence[str]) -> dict[str, float]:
    """The average reward of each function, if there are several, and the number of completions not judged.

    Args:
        groups: at least one verified group.
        names: of the functions, in the order of the groups' columns.
    """
    faults = [fault for group in groups for fault in group.faults if fault is not None]
    scored = [scored for group in groups for scored in group.scored]
    of_each = {
        name: [reward for g in groups for reward, ok in zip(g.columns[k], g.scored, strict=True) if ok]
        for k, name in enumerate(names)
        if len(names) > 1
    }
    return {
        "rewards/timeouts": float(faults.count("timeout")),  # completions
        "rewards/faults": float(len(faults)),  # completions that a function could not judge, timeouts included
        "rewards/unscored": fmean(not known for known in scored),  # share without a reward, 0 to 1
        **{f"rewards/{name}": fmean(rewards) for name, rewards in of_each.items() if rewards},  # reward units
    }
