"""Transfer of the policy's weights to the sampler, with a check after each transfer that the sampler has them."""

from collections.abc import Callable, Sequence

from torch import Tensor

from research.errors import UserError
from research.policy import Policy
from research.rollouts import Decoding, Sampler
from research.types import Group, Prompt, UpdateBatch

PROMPTS, TOKENS = 4, 16
"""Number of prompts that a check completes, and most tokens of each completion.

The change of one optimizer step can be too small for half precision. A sampler that misses one step may then pass the
check; one that keeps missing steps fails it."""


class Sync:
    """Keeps a sampler's weights equal to the policy's.

    After every transfer a few tokens are drawn without top-p and top-k, and the policy computes their log-probabilities
    too. With equal weights the two agree within the sampler's `tolerance`. A sampler that shares the policy's
    parameters needs no transfer and no check.

    Args:
        sampler: receives the weights.
        policy: gives the weights.
        assemble: groups → update batch.
        decoding: of the rollouts; a check uses their temperature.
    """

    def __init__(
        self,
        sampler: Sampler,
        policy: Policy,
        *,
        assemble: Callable[[Sequence[Group]], UpdateBatch],
        decoding: Decoding,
    ) -> None:
        self.sampler, self.policy, self.assemble = sampler, policy, assemble
        self.decoding = Decoding(max_tokens=min(TOKENS, decoding.max_tokens), temperature=decoding.temperature)
        self.version: int | None = None
        self.slept = False

    def __call__(self, version: int, prompts: Sequence[Prompt], seed: int) -> dict[str, float]:
        """Transfer the weights of this version, unless the sampler has them, and check the result.

        Returns: metrics of the transfer and of the check; empty if the sampler was up to date.

        Raises: UserError if the sampler's log-probabilities differ from the policy's.
        """
        if version == self.version and not self.slept:
            return {}
        measures = dict(self.sampler.sync(version))
        if self.sampler.tolerance is not None:
            measures |= self.prove(prompts[:PROMPTS], self.sampler.tolerance, seed)
        self.version, self.slept = version, False
        return measures

    def sleep(self) -> None:
        """Put the sampler to sleep; the next call wakes it."""
        if self.sampler.tolerance is not None:
            self.sampler.sleep()
            self.slept = True

    def prove(self, prompts: Sequence[Prompt], tolerance: float, seed: int) -> dict[str, float]:
        """Draw a few tokens, and compare their log-probabilities with the policy's.

        Raises: UserError with the likely cause if a difference is above the tolerance or not a number.
        """
        batch = self.assemble(self.sampler.sample(prompts, n=1, decoding=self.decoding, seed=seed))
        gap = self._gap(batch, self.policy.annotate(batch, batch.input_ids.numel()).logprobs)
        if not gap.max() <= tolerance:
            raise UserError(
                f"{type(self.sampler).__name__} does not have the policy's weights: its log-probabilities of "
                f"{len(gap)} tokens are off by up to {gap.max():.2g} nats, {gap.mean():.2g} on average (at most "
                f"{tolerance:g} is accepted). {self._cause(batch, tolerance)}"
            )
        return {
            "rollouts/sync_gap_mean": float(gap.mean()),  # |policy − sampler| of the tokens of the check, nats
            "rollouts/sync_gap_max": float(gap.max()),  # nats
        }

    def _gap(self, batch: UpdateBatch, logprobs: Tensor) -> Tensor:
        return (logprobs - batch["rollout_logprobs"]).abs()[batch["mask"]]

    def _cause(self, batch: UpdateBatch, tolerance: float) -> str:
        """The likely cause of a difference; some are tested by changing the policy in the same way."""
        tokens = batch.input_ids.numel()
        if self.policy.temperature != 1.0:
            with self.policy.at_temperature(1.0):
                if self._gap(batch, self.policy.annotate(batch, tokens).logprobs).max() <= tolerance:
                    return (
                        "They are right before the temperature: the engine must return processed log-probabilities "
                        "(logprobs_mode=processed_logprobs)."
                    )
        if self.policy.spec.lora is not None:
            if self._gap(batch, self.policy.reference(batch, tokens).logprobs).max() <= tolerance:
                return "They are those of the model without its adapter: the engine has not loaded the adapter."
            return "The likely cause is an old adapter: the engine kept an adapter of an earlier version."
        if self.slept:
            return "The likely cause is that the engine lost its weights while it slept, or woke with old ones."
        if self.policy.tied:
            return (
                "The likely cause is a stale output layer: it is tied to the embedding, and the engine may have taken "
                "over only the embedding."
            )
        return "The likely cause is that the engine kept the weights of an earlier version, all or some of them."
