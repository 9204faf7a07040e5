"""Evaluation of the policy on held-out prompts during a run."""

from collections.abc import Sequence
from time import perf_counter

from lightning.fabric.loggers.logger import Logger

from research.evaluation import Evaluation
from research.rollouts import Decoding, Rollouts
from research.tracking import RunLogger
from research.training.measures import tool_measures
from research.types import Group, Prompt


class HeldOut:
    """Samples completions of held-out prompts by the evaluation's protocol, and logs the results.

    Args:
        evaluation: the protocol.
        rollouts: give the sampler, the stop strings, and the limit unless the protocol has its own.
        seed: of sampling; may be changed between evaluations.
    """

    def __init__(self, evaluation: Evaluation, rollouts: Rollouts, seed: int) -> None:
        self.evaluation, self.rollouts, self.seed = evaluation, rollouts, seed
        self.groups: list[Group] = []
        """Verified groups of the current evaluation, or of the last one."""

    def begin(self) -> None:
        """Start an evaluation: drop the old groups and start the clock."""
        self.groups = []
        self._began = perf_counter()

    @property
    def decoding(self) -> Decoding:
        """Decoding settings of evaluations, with the rollouts' stop strings and, unless it is set, their limit."""
        return Decoding(
            max_tokens=self.evaluation.max_completion_tokens or self.rollouts.max_completion_tokens,
            temperature=self.evaluation.temperature,
            top_p=self.evaluation.top_p,
            top_k=self.evaluation.top_k,
            stop=tuple(self.rollouts.stop),
        )

    def sample(self, prompts: Sequence[Prompt], seed: int) -> list[Group]:
        """Draw the protocol's number of completions of each prompt, not verified yet."""
        n = self.evaluation.completions_per_prompt
        return self.rollouts.sampler.sample(prompts, n=n, decoding=self.decoding, seed=seed)

    def metrics(self) -> dict[str, float]:
        """Metrics of the policy on the groups."""
        return self.evaluation.metrics(self.groups) | tool_measures(self.groups, "evaluation")

    def log(self, logger: Logger, step: int) -> None:
        """Log the metrics, and with a `RunLogger` also the items and some completions.

        Args:
            logger: of the trainer.
            step: number of steps that the policy has learned from.
        """
        metrics = self.metrics()
        metrics["time/evaluation_seconds"] = perf_counter() - self._began
        logger.log_metrics(metrics, step=step)
        if isinstance(logger, RunLogger):
            logger.log_items(self.evaluation.items(self.groups), step=step)
            logger.log_samples(self.evaluation.samples(self.groups), step=step)
