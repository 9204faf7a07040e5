"""The shapes of a recipe's step on one device: rows, lengths, ranks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from research.doctor.memory.device import Device
from research.doctor.memory.passes import MicroBatch, Sampling
from research.errors import UserError
from research.prompts import PromptData
from research.rollouts import CompactSampler, TransformersSampler
from research.training.module import RLModule


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The shapes of a step on one rank."""

    module: RLModule
    data: PromptData
    prompt: int
    """Tokens of the longest prompt."""
    device: Device
    ranks: int = 1
    """Processes that share the rows of a step."""
    sharded: bool = False
    """True if weights, gradients and moments are sharded over them."""

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return self.prompt + self.module.rollouts.max_completion_tokens

    @property
    def micro_batch(self) -> MicroBatch:
        """The largest micro-batch of the update.

        A policy that can share prompts reads each prompt once, then the completions. The positions of both are counted
        as whole rows, if that gives more rows.
        """
        updates, rollouts = self.module.updates, self.module.rollouts
        prompts = max(1, -(-self.data.prompts_per_step // (updates.minibatches * self.ranks)))
        rows = min(max(1, updates.micro_batch_tokens // self.width), prompts * rollouts.completions_per_prompt)
        if self.module.spec.can_share_prompts and not self.sharded:
            shared = min(updates.micro_batch_tokens // 2, prompts * self.prompt) + rows * rollouts.max_completion_tokens
            rows = max(rows, min(-(-shared // self.width), prompts * rollouts.completions_per_prompt))
        return MicroBatch(rows=rows, width=self.width, completion=rollouts.max_completion_tokens)

    @property
    def samplings(self) -> list[Sampling]:
        """The largest calls of the sampler, in training and in evaluation; empty for a sampler with an engine."""
        rollouts, evaluation = self.module.rollouts, self.module.evaluation
        sampler = rollouts.sampler.engine
        if not isinstance(sampler, TransformersSampler):
            return []
        most, shapes = sampler.max_rows, []
        for prompts, n, tokens in (
            (self.data.prompts_per_step, rollouts.completions_per_prompt, rollouts.max_completion_tokens),
            (
                self.data.evaluation_chunk,
                evaluation.completions_per_prompt,
                evaluation.max_completion_tokens or rollouts.max_completion_tokens,
            ),
        ):
            count = min(max(1, most // n), -(-prompts // self.ranks))
            read = count if isinstance(sampler, CompactSampler) else count * n
            shapes.append(Sampling(prompts=read, rows=count * n, prompt=self.prompt, completion=tokens))
        return shapes


def ranks_of(trainer: Mapping[str, Any]) -> tuple[int, bool]:
    """The number of processes that a recipe's `trainer` section starts; True after it if they shard the weights.

    Example:
        >>> ranks_of({"devices": 4, "num_nodes": 2, "strategy": "ddp"})
        (8, False)
    """
    devices, strategy = trainer["devices"], trainer["strategy"]
    if isinstance(devices, list):
        count = len(devices)
    elif devices in ("auto", -1, "-1"):
        count = max(1, torch.cuda.device_count())
    elif str(devices).isdecimal() and int(devices) >= 1:
        count = int(devices)
    else:
        raise UserError(f"cannot tell from trainer.devices={devices!r} how many devices there are: give a number")
    name = strategy["class_path"] if isinstance(strategy, Mapping) else str(strategy)
    return count * trainer["num_nodes"], any(word in name.lower() for word in ("sharded", "modelparallel", "fsdp"))
