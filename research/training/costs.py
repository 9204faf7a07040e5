"""Costs of a run since its start, for budgets and for comparisons at equal cost."""

from collections.abc import Mapping, Sequence

from research.rollouts import Collected
from research.types import Group


class Costs:
    """Running totals by name, over all processes of a resumed run.

    Example:
        >>> costs = Costs()
        >>> costs.add({"cost/optimizer_steps": 2})
        >>> costs.add({"cost/optimizer_steps": 1})
        >>> costs.totals
        {'cost/optimizer_steps': 3}
    """

    def __init__(self) -> None:
        self.totals: dict[str, int | float] = {}

    def add(self, amounts: Mapping[str, int | float]) -> None:
        """Add amounts to the totals."""
        for name, amount in amounts.items():
            self.totals[name] = self.totals.get(name, 0) + amount

    def add_sampling(self, groups: Sequence[Group], *, by_model: bool) -> None:
        """Add the costs of sampling.

        Args:
            groups: all sampled groups, whether they train or not.
            by_model: False for demonstrations, which cost no sampled tokens.
        """
        tokens = sum(sum(completion.own) for group in groups for completion in group.completions)
        self.add({"cost/tokens_sampled": tokens * by_model, "cost/prompts_drawn": len(groups)})

    def add_step(self, collected: Collected, measures: dict[str, float]) -> None:
        """Add the costs of a step beyond its sampling.

        Args:
            collected: the groups of the step.
            measures: metrics of the step; the counts of the update are removed from them.
        """
        self.add(
            {
                "cost/tokens_trained": measures.pop("tokens_trained", 0),
                "cost/groups_dropped": collected.dropped,
                "cost/optimizer_steps": measures.pop("optimizer_steps", 0),
                "cost/nonfinite_updates": measures.pop("nonfinite_updates", 0),
            }
        )
