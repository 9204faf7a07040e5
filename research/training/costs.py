"""What a run has spent since it began: what a budget counts, and what a comparison at equal cost divides by."""

from collections.abc import Mapping, Sequence

from research.rollouts import Collected
from research.types import Group


class Costs:
    """Running totals by name, of the whole run and not of a process of it.

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
        """Count these too."""
        for name, amount in amounts.items():
            self.totals[name] = self.totals.get(name, 0) + amount

    def add_sampling(self, groups: Sequence[Group], *, by_model: bool) -> None:
        """Count what sampling these groups took.

        Args:
            groups: sampled, whether they train or not.
            by_model: whether a model wrote the completions; demonstrations cost no tokens.
        """
        tokens = sum(sum(completion.own) for group in groups for completion in group.completions)
        self.add({"cost/tokens_sampled": tokens * by_model, "cost/prompts_drawn": len(groups)})

    def add_step(self, collected: Collected, measures: dict[str, float]) -> None:
        """Count what a step took beyond its sampling.

        Args:
            collected: the step's.
            measures: the step's, from which the counts of the update are taken out: they are costs.
        """
        self.add(
            {
                "cost/tokens_trained": measures.pop("tokens_trained", 0),
                "cost/groups_dropped": collected.dropped,
                "cost/optimizer_steps": measures.pop("optimizer_steps", 0),
                "cost/nonfinite_updates": measures.pop("nonfinite_updates", 0),
            }
        )
