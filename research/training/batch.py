"""Groups → the tensors of an update batch, and per-token tensors back to groups."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from research.types import Group, UpdateBatch

Number = TypeVar("Number", bool, int, float)


def assemble(groups: Sequence[Group], *, pad: int, device: torch.device) -> UpdateBatch:
    """The update batch of some groups, one row for each completion in order, with all quantities known so far.

    Args:
        groups: at least one, all of the same size G.
        pad: padding token on the right of each row.
        device: of the tensors.
    """
    completions = [completion for group in groups for completion in group.completions]
    prompts = [group.prompt_ids for group in groups for _ in group.completions]
    lengths = torch.tensor([len(completion.token_ids) for completion in completions])
    mask = _filled([completion.own for completion in completions], False)
    G = len(groups[0].completions)
    rows = [[*prompt, *completion.token_ids] for prompt, completion in zip(prompts, completions, strict=True)]
    quantities = {
        "mask": mask,
        "lengths": lengths.reshape(-1, G),
        "truncated": torch.tensor([completion.truncated for completion in completions]),
        "token_ids": _filled([completion.token_ids for completion in completions], 0),
        "right": torch.tensor([group.right for group in groups]),
        "outcomes": torch.tensor([group.outcomes for group in groups], dtype=torch.float32),
        "columns": torch.tensor([group.columns for group in groups], dtype=torch.float32).transpose(0, 1),
        "rollout_logprobs": _filled([completion.rollout_logprobs for completion in completions], 0.0),
    }
    targets = [group.prompt.meta["target"] for group in groups if group.prompt.meta.get("target") is not None]
    if len(targets) == len(groups):
        quantities["targets"] = torch.tensor([[float(target)] * G for target in targets])
    if groups[0].step_rewards:
        steps = [step for group in groups for step in group.step_rewards]
        quantities["step_ends"] = _filled([[r is not None for r in row] for row in steps], False)
        quantities["step_rewards"] = _filled([[r or 0.0 for r in row] for row in steps], 0.0)
    for name in groups[0].annotations:
        quantities[name] = _padded([values for group in groups for values in group.annotations[name]], mask)
    return UpdateBatch(
        input_ids=_filled(rows, pad).to(device),
        prompt_lengths=torch.tensor([len(prompt) for prompt in prompts], device=device),
        lengths=lengths.to(device),
        quantities={name: value.to(device) for name, value in quantities.items()},
    )


def annotated(groups: Sequence[Group], tokens: Mapping[str, Tensor]) -> list[Group]:
    """The groups with per-token values of their completions as annotations.

    Args:
        groups: the groups that `assemble` was given.
        tokens: name → values on the rows of their batch [B T].
    """
    done, row = [], 0
    for group in groups:
        lengths = [len(completion.token_ids) for completion in group.completions]
        cut = {
            name: tuple(values[row + g, :length].clone() for g, length in enumerate(lengths))
            for name, values in tokens.items()
        }
        done.append(replace(group, annotations=cut))
        row += len(lengths)
    return done


def _filled(rows: Sequence[Sequence[Number]], value: Number) -> Tensor:
    """The rows as one tensor, padded with `value` on the right; built from one flat list, for speed."""
    width = max(map(len, rows))
    flat: list[Number] = []
    for row in rows:
        flat += row
        flat += [value] * (width - len(row))
    made = torch.from_numpy(np.array(flat)).reshape(len(rows), width)
    return made.float() if made.is_floating_point() else made


def _padded(values: list[Tensor], mask: Tensor) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(values, batch_first=True).reshape(mask.shape)
