"""A run's groups as a person reads them: prompts, completions, rewards, and what every token is worth."""

import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from lightning import Callback
from torch.utils.data import DataLoader, IterableDataset

from research.prompts import PromptStream
from research.recipe import Recipe, instantiate
from research.reporting.pages.samples.quantities import ADVANTAGE, Quantity, token_values
from research.reporting.pages.samples.token_texts import token_texts
from research.runs.fit import at_hand_over
from research.runs.train import trainer_settings
from research.seeding import derive_seed
from research.training.inspection import Inspected
from research.types import Prompt


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A completion and what is known about it."""

    right: bool | None
    """Whether every verifier accepted it; None if it could not be judged."""
    fault: str | None
    """What kept a verifier or reward function from judging it."""
    truncated: bool
    """Whether the limit cut it."""
    rewards: tuple[float, ...]
    """By the columns of its `Samples`."""
    reward: float
    """Their sum."""
    advantage: float
    """The mean over its tokens; NaN if its group does not train."""
    texts: tuple[str, ...]
    """Its tokens."""
    own: tuple[bool, ...]
    """Whether the policy wrote each token, and not a tool."""
    values: tuple[tuple[float, ...], ...]
    """For each token, the quantities of its `Samples`; NaN for none, as for all of a tool's tokens."""


@dataclass(frozen=True, kw_only=True)
class SampledGroup:
    """A prompt and its completions."""

    prompt: Prompt
    trains: bool
    """Whether a step would train on it."""
    samples: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Groups of one policy, with credit as one update batch."""

    steps: int
    """Steps that the policy has trained."""
    columns: tuple[str, ...]
    """What rewards completions: verifiers, reward functions, shaping terms."""
    quantities: tuple[Quantity, ...]
    """What is known of every token."""
    components: dict[str, str]
    """The recipe's pieces that made the numbers, by slot."""
    groups: tuple[SampledGroup, ...]


class _Drawn(IterableDataset):
    """Some training prompts of a run, drawn once its policy is loaded."""

    def __init__(self, module: Any, data: Any, prompts: int, seed: int) -> None:
        self.module, self.data, self.prompts, self.seed = module, data, prompts, seed

    def __iter__(self) -> Iterator[tuple[list[Prompt], int]]:
        self.data.setup()
        self.data.attach(self.module.model.tokenizer)
        number = derive_seed(self.seed, "samples")
        yield PromptStream(self.data.train_prompts, number).draw(self.prompts), number


class _Kept(Callback):
    """Takes what the module returns as it is: the trainer would not take a frozen dataclass to the CPU."""

    inspected: Inspected

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Keep the only batch's."""
        self.inspected = outputs


def draw_samples(recipe: Recipe, folder: Path, checkpoint: Path | None, *, prompts: int, seed: int) -> Samples:
    """Sample groups of training prompts with the recipe's own settings, and give credit as a step would.

    Nothing is written, and nothing of the run changes.

    Args:
        recipe: the run's.
        folder: the run's.
        checkpoint: what the policy is loaded from; None for the recipe's start.
        prompts: how many; at least 1.
        seed: of which prompts are drawn and of what is sampled for them.

    Raises: UserError if the run cannot be loaded.
    """
    kept = _Kept()
    settings = {**trainer_settings(recipe.run_settings(), folder, [kept]), "logger": False}
    module, data, trainer = instantiate(recipe if checkpoint is None else at_hand_over(recipe, folder), **settings)
    drawn = DataLoader(_Drawn(module, data, prompts, seed), batch_size=None, collate_fn=tuple)
    path = str(checkpoint) if checkpoint else None
    with closing(module.rollouts.sampler), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.predict(module, drawn, ckpt_path=path, weights_only=False, return_predictions=False)
    return _samples(module, kept.inspected, data.prompts_per_step)


def _samples(module: Any, inspected: Inspected, prompts_per_step: int) -> Samples:
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


def _columns(module: Any) -> tuple[str, ...]:
    judged = module.rewards.names() if module.reward_model is None else ["reward model"]
    return (*judged, *(type(term).__name__ for term in module.rewards.shaping))


def _components(module: Any) -> dict[str, str]:
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
