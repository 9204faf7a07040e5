"""Columns of runs.csv that a report prints, each with its heading, unit and digits."""

from collections.abc import Sequence
from dataclasses import dataclass

from research.reporting.numbers import number

MEBIBYTE = 2.0**20


@dataclass(frozen=True, kw_only=True)
class Column:
    """A measured quantity of a run.

    Example:
        >>> Column(name="memory/peak_bytes", title="Peak memory, MiB", divisor=2.0**20, digits=1).text(3.0 * 2**20)
        '3.0'
    """

    name: str
    """The column of runs.csv."""
    title: str
    """Its heading."""
    digits: int = 0
    """Decimals that are printed."""
    divisor: float = 1.0
    """Printed value = value / divisor."""
    share: bool = False
    """True for a value in [0, 1] that is printed in percent."""
    unit: float = 0.0
    """Amount of this cost that gains are divided by; 0 if gains are not compared by it."""
    per: str = ""
    """The amount in words."""

    @property
    def heading(self) -> str:
        """The title, with the unit of a share."""
        return f"{self.title}, %" if self.share else self.title

    @property
    def words(self) -> str:
        """The title within a sentence."""
        return self.title.lower()

    def text(self, value: float) -> str:
        """A value as it is printed."""
        if self.share:
            return number(value, percent=True)
        return f"{value / self.divisor:,.{self.digits}f}".replace("-", "−")


COSTS: Sequence[Column] = (
    Column(name="cost/tokens_sampled", title="Tokens sampled", unit=1e6, per="10⁶ sampled"),
    Column(name="cost/tokens_trained", title="Tokens trained", unit=1e6, per="10⁶ trained"),
    Column(name="cost/prompts_drawn", title="Prompts drawn"),
    Column(name="cost/groups_dropped", title="Groups dropped"),
    Column(name="cost/optimizer_steps", title="Optimizer steps"),
    Column(name="time/seconds", title="Seconds", digits=1, unit=60.0, per="minute"),
    Column(name="cost/state_bytes", title="Weights, gradients, moments, MiB", digits=1, divisor=MEBIBYTE),
    Column(name="memory/peak_bytes", title="Peak memory, MiB", digits=1, divisor=MEBIBYTE),
)
"""Costs of a run."""
SPENT: Sequence[Column] = tuple(column for column in COSTS if column.unit)
"""Costs by which gains are compared."""
TIMES: Sequence[Column] = (
    Column(name="time/sampling_seconds", title="Sampling", digits=1),
    Column(name="time/updating_seconds", title="Updates", digits=1),
    Column(name="time/verifying_seconds", title="Verifying", digits=1),
    Column(name="time/annotating_seconds", title="Annotating", digits=1),
    Column(name="time/evaluation_seconds", title="Evaluation", digits=1),
)
"""Parts of a run's seconds."""
FINALS: Sequence[Column] = (
    Column(name="evaluation/truncated", title="Truncated, evaluation", share=True),
    Column(name="evaluation/length_mean", title="Length, evaluation", digits=1),
    Column(name="rollouts/truncated", title="Truncated, rollouts", share=True),
    Column(name="rollouts/length_mean", title="Length, rollouts", digits=1),
    Column(name="rollouts/zero_variance_groups", title="Zero-variance groups", share=True),
    Column(name="rollouts/entropy_mean", title="Entropy, nats", digits=3),
    Column(name="evaluation/length_error_mean", title="Off the target length, evaluation, tokens", digits=1),
    Column(name="first/rewards/reward_mean", title="Reward, first step", digits=3),
    Column(name="rewards/reward_mean", title="Reward, last step", digits=3),
)
"""Other quantities at the last step."""
SHARES = frozenset(column.name for column in FINALS if column.share)
