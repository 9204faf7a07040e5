"""The budget of a run in steps, tokens or seconds, and the callback that ends the run when it is spent."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, runtime_checkable

from lightning import Callback, Trainer

from research.component import require
from research.training.costs import Costs


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a run, which ends after the first step that reaches one of them.

    Example:
        >>> budget = Budget(tokens=4000)
        >>> budget.share(steps=7, tokens=3000, seconds=60.0)
        0.75
        >>> print(budget)
        4,000 tokens
    """

    steps: int | None = None
    """Steps, at least 1; null for no limit."""
    tokens: int | None = None
    """Completion tokens, sampled and trained ones together, at least 1; null for no limit."""
    seconds: float | None = None
    """Seconds spent in training steps, above 0; null for no limit."""

    def __post_init__(self) -> None:
        amounts = {name: amount for name, amount in vars(self).items() if amount is not None}
        require(bool(amounts), "a run needs a budget: give run.steps, run.tokens or run.seconds")
        for name, amount in amounts.items():
            least = "above 0" if name == "seconds" else "at least 1"
            require(amount > 0, f"run.{name} is {least}, got {amount}")

    def share(self, *, steps: int, tokens: int, seconds: float) -> float:
        """The spent share of the budget: the largest one over its limits. At 1 or more the budget is spent."""
        spent = {"steps": steps, "tokens": tokens, "seconds": seconds}
        return max(spent[name] / amount for name, amount in vars(self).items() if amount is not None)

    @property
    def whole_steps(self) -> int | None:
        """The number of steps if it is the only limit; else None."""
        return self.steps if self.tokens is None and self.seconds is None else None

    def __str__(self) -> str:
        return " or ".join(f"{amount:,} {name}" for name, amount in vars(self).items() if amount is not None)


def tokens_processed(metrics: Mapping[str, int | float]) -> int:
    """Completion tokens sampled for training, plus completion tokens trained on, counted each time.

    A token that is sampled and then trained on in two epochs counts three times; a token of a demonstration is not
    sampled. Prompts, evaluations and passes that only compute log-probabilities do not count.

    Args:
        metrics: of a step, with the running totals of costs.
    """
    return int(metrics.get("cost/tokens_sampled", 0) + metrics.get("cost/tokens_trained", 0))


def share_in(budget: Budget, steps: Mapping[int, Mapping[str, int | float]]) -> float:
    """The spent share of a run's budget, from its metrics by step."""
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
    """Ends the run after the step that spends its budget, and has the policy evaluated after that step.

    Seconds are those of training steps, without evaluations, summed over all processes of a resumed run. The number of
    steps in a budget of seconds depends on the machine.

    Args:
        budget: of the run.
        seconds: training time of an earlier run that this one continues.
    """

    def __init__(self, budget: Budget, seconds: float = 0.0) -> None:
        self.budget, self.seconds = budget, seconds

    def share(self, module: Spends) -> float:
        """The spent share of the budget."""
        tokens = tokens_processed(module.costs.totals)
        return self.budget.share(steps=module.steps_done, tokens=tokens, seconds=self.seconds)

    def on_train_start(self, trainer: Trainer, pl_module: Spends) -> None:
        """Stop at once if a resumed run has spent its budget already."""
        self._stop_if_spent(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Spends) -> None:
        """Start the step's clock."""
        self._began = perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Spends, *_: object) -> None:
        """Stop if the step has spent the budget, before Lightning decides whether to evaluate."""
        self.seconds += perf_counter() - self._began
        self._stop_if_spent(trainer, pl_module)

    def _stop_if_spent(self, trainer: Trainer, module: Spends) -> None:
        if trainer.strategy.broadcast(self.share(module) >= 1):
            trainer.check_val_every_n_epoch = 1
            trainer.should_stop = True

    def state_dict(self) -> dict[str, float]:
        """The state that a checkpoint keeps."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Restore the state from a checkpoint."""
        self.seconds = state_dict["seconds"]


def watch_of(trainer: Trainer) -> BudgetWatch:
    """The callback that watches the trainer's budget."""
    callbacks: list[Callback] = getattr(trainer, "callbacks", [])
    return next(callback for callback in callbacks if isinstance(callback, BudgetWatch))
