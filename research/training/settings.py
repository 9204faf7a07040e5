"""The `run` section of a recipe: budget, evaluations, checkpoints and the run's folder."""

from dataclasses import dataclass

from research.component import require
from research.training.budget import Budget


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Budget and intervals of a run. Of several limits, the one that is reached first ends the run."""

    steps: int | None = None
    """Limit of steps, each a collection of groups with its updates, at least 1; null for none."""
    tokens: int | None = None
    """Limit of completion tokens, sampled for training plus trained on (see `tokens_processed`), at least 1; null for
    none. The run ends after the step that reaches it."""
    seconds: float | None = None
    """Limit of seconds in training steps, without evaluations, above 0; null for none. The number of steps then depends
    on the machine."""
    evaluate_every: int
    """Steps between evaluations, at least 1. The start and the last step are always evaluated."""
    checkpoint_every: int
    """Steps between checkpoints, at least 1, which is the most work that a kill can lose."""
    folder: str | None = None
    """The run's folder; null for runs/<recipe's name>-s<seed>."""
    tracking: str | None = None
    """URI of MLflow's store; null for $MLFLOW_TRACKING_URI, or results/mlflow.db if that is not set."""
    save_policy: bool = True
    """True to save the final policy and its tokenizer in <folder>/policy, in the format of transformers."""

    def __post_init__(self) -> None:
        for name in ("evaluate_every", "checkpoint_every"):
            require(getattr(self, name) >= 1, f"run.{name} is at least 1, got {getattr(self, name)}")
        require(
            (self.budget.whole_steps or 0) % self.evaluate_every == 0,
            "run.steps is a multiple of run.evaluate_every, so that the last step is evaluated; "
            f"got {self.steps} and {self.evaluate_every}",
        )

    @property
    def budget(self) -> Budget:
        """The limits that end the run."""
        return Budget(steps=self.steps, tokens=self.tokens, seconds=self.seconds)
