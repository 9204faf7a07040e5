"""The evaluations of a run: the policy's completions of held-out prompts, one evaluation at a time."""

from collections.abc import Sequence
from time import perf_counter

from lightning.fabric.loggers.logger import Logger

from research.evaluation import Evaluation
from research.rollouts import Decoding, Rollouts
from research.tracking import RunLogger
from research.training.measures import tool_measures
from research.types import Group, Prompt


class HeldOut:
    """Samples held-out prompts by the evaluation's protocol, and logs what came of it.

    Args:
        evaluation: the protocol.
        rollouts: whose sampler completes; the limit and the stop texts are theirs too.
        seed: of what is sampled; it may be set anew between evaluations.
    """

    def __init__(self, evaluation: Evaluation, rollouts: Rollouts, seed: int) -> None:
        self.evaluation, self.rollouts, self.seed = evaluation, rollouts, seed
        self.groups: list[Group] = []
        """Sampled and verified in this evaluation, or the last."""

    def begin(self) -> None:
        """Start the clock, with no groups."""
        self.groups = []
        self._began = perf_counter()

    @property
    def decoding(self) -> Decoding:
        """How held-out prompts are completed: the limit and the stop texts are the rollouts' unless it has its own."""
        return Decoding(
            max_tokens=self.evaluation.max_completion_tokens or self.rollouts.max_completion_tokens,
            temperature=self.evaluation.temperature,
            top_p=self.evaluation.top_p,
            top_k=self.evaluation.top_k,
            stop=tuple(self.rollouts.stop),
        )

    def sample(self, prompts: Sequence[Prompt], seed: int) -> list[Group]:
        """The protocol's number of completions of each prompt, not verified yet."""
        n = self.evaluation.completions_per_prompt
        return self.rollouts.sampler.sample(prompts, n=n, decoding=self.decoding, seed=seed)

    def metrics(self) -> dict[str, float]:
        """What the groups say of the policy."""
        return self.evaluation.metrics(self.groups) | tool_measures(self.groups, "evaluation")

    def log(self, logger: Logger, step: int) -> None:
        """Log the metrics, and where the logger keeps them also the items and some completions.

        Args:
            logger: Lightning's.
            step: how many steps the policy has learned from.
        """
        metrics = self.metrics()
        metrics["time/evaluation_seconds"] = perf_counter() - self._began
        logger.log_metrics(metrics, step=step)
        if isinstance(logger, RunLogger):
            logger.log_items(self.evaluation.items(self.groups), step=step)
            logger.log_samples(self.evaluation.samples(self.groups), step=step)
