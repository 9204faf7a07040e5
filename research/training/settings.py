"""The `run` section of a recipe: how long a run is, how often it evaluates and checkpoints, and where it lives."""

from dataclasses import dataclass

from research.component import require
from research.training.budget import Budget


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How long a run is, and how often it looks up. Of several budgets, the one that is spent first ends it."""

    steps: int | None = None
    """Steps: one collect and its updates each; at least 1, or null."""
    tokens: int | None = None
    """Completion tokens processed: those sampled for training plus those trained on (see `tokens_processed`); the run
    ends after the step that reaches them. At least 1, or null."""
    seconds: float | None = None
    """Seconds of training steps, evaluations left out; how many steps they are depends on the machine. Above 0, or
    null."""
    evaluate_every: int
    """Steps between evaluations; the warm start and the last step are always evaluated. At least 1."""
    checkpoint_every: int
    """Steps between checkpoints: what a kill can lose at most. At least 1."""
    folder: str | None = None
    """Where the run lives; null takes runs/<recipe's name>-s<seed>."""
    tracking: str | None = None
    """MLflow's store; null takes $MLFLOW_TRACKING_URI, or results/mlflow.db."""
    save_policy: bool = True
    """Save the final policy and tokenizer as transformers does, in <folder>/policy."""

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
        """What ends the run."""
        return Budget(steps=self.steps, tokens=self.tokens, seconds=self.seconds)
