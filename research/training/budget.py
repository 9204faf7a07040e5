"""How long a run is: in steps, in tokens, in seconds, or in whichever is spent first."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, runtime_checkable

from lightning import Callback, Trainer

from research.component import require
from research.training.costs import Costs


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run may spend; it ends after the first step at which one of the amounts is spent.

    Example:
        >>> budget = Budget(tokens=4000)
        >>> budget.share(steps=7, tokens=3000, seconds=60.0)
        0.75
        >>> print(budget)
        4,000 tokens
    """

    steps: int | None = None
    """Steps, or null; at least 1."""
    tokens: int | None = None
    """Completion tokens processed, sampled and trained ones together, or null; at least 1."""
    seconds: float | None = None
    """Seconds spent in training steps, or null; above 0."""

    def __post_init__(self) -> None:
        amounts = {name: amount for name, amount in vars(self).items() if amount is not None}
        require(bool(amounts), "a run needs a budget: give run.steps, run.tokens or run.seconds")
        for name, amount in amounts.items():
            least = "above 0" if name == "seconds" else "at least 1"
            require(amount > 0, f"run.{name} is {least}, got {amount}")

    def share(self, *, steps: int, tokens: int, seconds: float) -> float:
        """The share that is spent, of the amount that is spent most; 1 and more is all of it."""
        spent = {"steps": steps, "tokens": tokens, "seconds": seconds}
        return max(spent[name] / amount for name, amount in vars(self).items() if amount is not None)

    @property
    def whole_steps(self) -> int | None:
        """How many steps it is, if nothing but their number ends it."""
        return self.steps if self.tokens is None and self.seconds is None else None

    def __str__(self) -> str:
        return " or ".join(f"{amount:,} {name}" for name, amount in vars(self).items() if amount is not None)


def tokens_processed(metrics: Mapping[str, int | float]) -> int:
    """Completion tokens that a model wrote for training, and those that the policy was trained on, each time it was.

    A token that is sampled, then trained on in two epochs, counts three times; a demonstration's is trained on and not
    sampled. Prompts, evaluations, and passes that only read log-probabilities do not count.

    Args:
        metrics: a step's, with its running totals.
    """
    return int(metrics.get("cost/tokens_sampled", 0) + metrics.get("cost/tokens_trained", 0))


def share_in(budget: Budget, steps: Mapping[int, Mapping[str, int | float]]) -> float:
    """The share of its budget that a run has spent, as its metrics by step say."""
    trained = [metrics for metrics in steps.values() if "time/step_seconds" in metrics]
    return budget.share(
        steps=max(steps, default=0),
        tokens=max(map(tokens_processed, trained), default=0),
        seconds=sum((metrics["time/step_seconds"] for metrics in trained), 0.0),
    )


@runtime_checkable
class Spends(Protocol):
    """A module that counts its steps and their costs."""

    steps_done: int
    costs: Costs


class BudgetWatch(Callback):
    """Ends the run after the step that spends its budget, evaluated whatever its number.

    Seconds are those of training steps, without evaluations, over all the processes that a resumed run had. They say
    how many steps a machine takes in that time, so a run that is measured by them is not the same on another one.

    Args:
        budget: the run's.
        seconds: spent before it began.
    """

    def __init__(self, budget: Budget, seconds: float = 0.0) -> None:
        self.budget, self.seconds = budget, seconds

    def share(self, module: Spends) -> float:
        """The share of the budget that is spent."""
        tokens = tokens_processed(module.costs.totals)
        return self.budget.share(steps=module.steps_done, tokens=tokens, seconds=self.seconds)

    def on_train_start(self, trainer: Trainer, pl_module: Spends) -> None:
        """Train no further if a run that resumes has spent it."""
        self._stop_if_spent(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Spends) -> None:
        """Start the step's clock."""
        self._began = perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Spends, *_: object) -> None:
        """Look whether the step has spent it, in time for Lightning to evaluate."""
        self.seconds += perf_counter() - self._began
        self._stop_if_spent(trainer, pl_module)

    def _stop_if_spent(self, trainer: Trainer, module: Spends) -> None:
        if trainer.strategy.broadcast(self.share(module) >= 1):
            trainer.check_val_every_n_epoch = 1
            trainer.should_stop = True

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps of it."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Take it back."""
        self.seconds = state_dict["seconds"]


def watch_of(trainer: Trainer) -> BudgetWatch:
    """What watches over a trainer's budget."""
    callbacks: list[Callback] = getattr(trainer, "callbacks", [])
    return next(callback for callback in callbacks if isinstance(callback, BudgetWatch))
