"""Groups sampled with a run's policy, for a person to read: prompts, completions, rewards and each token's credit."""

import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, IterableDataset

from research.prompts import PromptData, PromptStream
from research.recipe import Recipe, instantiate
from research.reporting.pages.samples.quantities import ADVANTAGE, Quantity, token_values
from research.reporting.pages.samples.token_texts import token_texts
from research.runs.fit import at_hand_over
from research.runs.train import trainer_settings
from research.seeding import derive_seed
from research.training.inspection import Inspected
from research.training.module import RLModule
from research.types import Prompt


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A completion with its verdict, its rewards and its tokens."""

    right: bool | None
    """True if every verifier accepted it; None if it could not be judged."""
    fault: str | None
    """The reason why a verifier or reward function could not judge it."""
    truncated: bool
    """True if it was cut at the limit of tokens."""
    rewards: tuple[float, ...]
    """One for each column of its `Samples`."""
    reward: float
    """Their sum."""
    advantage: float
    """The mean over its tokens; NaN if its group does not train."""
    texts: tuple[str, ...]
    """Its tokens."""
    own: tuple[bool, ...]
    """For each token, True if the policy wrote it, False if a tool did."""
    values: tuple[tuple[float, ...], ...]
    """For each token, the quantities of its `Samples`; NaN where it has none, as every token of a tool."""


@dataclass(frozen=True, kw_only=True)
class SampledGroup:
    """A prompt and its completions."""

    prompt: Prompt
    trains: bool
    """True if a training step would use it."""
    samples: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Groups of one policy, given credit together as one update batch."""

    steps: int
    """Steps that the policy was trained for."""
    columns: tuple[str, ...]
    """Names of all that rewards completions: verifiers, reward functions, shaping terms."""
    quantities: tuple[Quantity, ...]
    """Quantities of each token."""
    components: dict[str, str]
    """Slot or setting to the recipe's value of it, as text."""
    groups: tuple[SampledGroup, ...]


class _Drawn(IterableDataset):
    """Training prompts of a run, drawn after its policy is loaded: the tokenizer is known only then."""

    def __init__(self, module: RLModule, data: PromptData, prompts: int, seed: int) -> None:
        self.module, self.data, self.prompts, self.seed = module, data, prompts, seed

    def __iter__(self) -> Iterator[tuple[list[Prompt], int]]:
        self.data.setup()
        self.data.attach(self.module.model.tokenizer)
        number = derive_seed(self.seed, "samples")
        yield PromptStream(self.data.train_prompts, number).draw(self.prompts), number


class _Kept(Callback):
    """Keeps the module's own result: the trainer cannot move a frozen dataclass to the CPU to return it."""

    inspected: Inspected

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: object) -> None:
        """Keep the result of the only batch."""
        self.inspected = outputs


def draw_samples(recipe: Recipe, folder: Path, checkpoint: Path | None, *, prompts: int, seed: int) -> Samples:
    """Sample groups of training prompts with the recipe's settings, and give credit as a training step would.

    Nothing is written, and the run stays as it is.

    Args:
        recipe: the run's recipe.
        folder: the run's folder.
        checkpoint: the checkpoint to load the policy from; None for the recipe's start.
        prompts: number of prompts, at least 1.
        seed: decides which prompts are drawn, and what is sampled for them.

    Raises: UserError if the run cannot be loaded.
    """
    kept = _Kept()
    settings = {**trainer_settings(recipe.run_settings(), folder, [kept]), "logger": False}
    module, data, trainer = instantiate(recipe if checkpoint is None else at_hand_over(recipe, folder), **settings)
    drawn = DataLoader(_Drawn(module, data, prompts, seed), batch_size=None, collate_fn=tuple)
    path = str(checkpoint) if checkpoint else None
    with closing(module.rollouts.sampler), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.predict(module, drawn, ckpt_path=path, weights_only=True, return_predictions=False)
    return _samples(module, kept.inspected, data.prompts_per_step)


def _samples(module: RLModule, inspected: Inspected, prompts_per_step: int) -> Samples:
    values = token_values(inspected, token_rewards=bool(module.rewards.tokens))
    batch, size = inspected.rewarded, len(inspected.groups[0].completions)
    advantages = values.get(ADVANTAGE)
    groups = []
    for n, (group, trains) in enumerate(zip(inspected.groups, inspected.trains, strict=True)):
        samples = []
        for g, completion in enumerate(group.completions):
            row, length = n * size + g, len(completion.token_ids)
            samples.append(
                Sample(
                    right=None if isnan(group.outcomes[g]) else group.right[g],
                    fault=group.faults[g] if group.faults else None,
                    truncated=completion.truncated,
                    rewards=tuple(batch["columns"][:, n, g].tolist()),
                    reward=float(batch["rewards"][n, g]),
                    advantage=float("nan") if advantages is None else float(advantages[row, :length].nanmean()),
                    texts=token_texts(module.model.tokenizer, completion.token_ids),
                    own=completion.own,
                    values=tuple(zip(*(value[row, :length].tolist() for value in values.values()), strict=True)),
                )
            )
        groups.append(SampledGroup(prompt=group.prompt, trains=trains, samples=tuple(samples)))
    return Samples(
        steps=module.steps_done,
        columns=_columns(module),
        quantities=tuple(values),
        components={
            **_components(module),
            "update batch": f"{sum(inspected.trains)} groups; a step of the recipe draws {prompts_per_step} prompts",
        },
        groups=tuple(groups),
    )


def _columns(module: RLModule) -> tuple[str, ...]:
    judged = module.rewards.names() if module.reward_model is None else ["reward model"]
    return (*judged, *(type(term).__name__ for term in module.rewards.shaping))


def _components(module: RLModule) -> dict[str, str]:
    credit, rollouts = module.credit, module.rollouts
    sampling = f"temperature {rollouts.temperature:g}, at most {rollouts.max_completion_tokens} tokens"
    return {
        "model": module.spec.path,
        "sampling": f"{rollouts.completions_per_prompt} completions a prompt, {sampling}",
        "source": type(rollouts.source).__name__,
        "groups that train": type(rollouts.collect.keep).__name__,
        "advantage": str(credit.advantage),
        "weights": ", ".join(map(str, credit.weights)) or "none: 1 everywhere",
    }
