"""What one of two processes does: the gradient of its share of a batch, by every aggregate, plain and sharded."""

import sys
from pathlib import Path

import torch
import yaml
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from research.config import Recipe, instantiate
from research.credit.aggregate import ConstantLength, PromptMean, SequenceMean, TokenMean
from research.credit.credit import Credit
from research.training.measures import UpdateMeasures
from research.training.module import RLModule
from research.training.ranks import Ranks
from research.types import Completion, Group, Prompt

AGGREGATES = {
    "token_mean": TokenMean(),
    "sequence_mean": SequenceMean(),
    "prompt_mean": PromptMean(),
    "constant_length": ConstantLength(length=12),
}
LENGTHS = ((1, 12, 3, 7), (9, 2, 12, 1), (5, 11, 4, 2))
"""Of the completions of three groups: a share of six rows each, of quite different sizes."""


def groups(decode, vocabulary: int) -> list[Group]:
    """Groups of made-up completions; the last one's rewards are all equal, so that it has no gradient."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for n, lengths in enumerate(LENGTHS):
        completions = tuple(
            Completion(
                token_ids=tuple(torch.randint(2, vocabulary, (length,), generator=generator).tolist()),
                rollout_logprobs=(-2.0,) * length,
                text="",
                finish_reason="stop",
            )
            for length in lengths
        )
        outcomes = (1.0, -1.0, 1.0, -1.0) if n < 2 else (1.0,) * 4
        made.append(
            Group(
                prompt=Prompt(id=str(n), text="1+2=", answer="3"),
                prompt_ids=(3, 4, 5, 6)[: 2 + n],
                completions=completions,
                outcomes=outcomes,
                right=tuple(outcome > 0 for outcome in outcomes),
                columns=(outcomes,),
            )
        )
    return made


def gradient(module: RLModule) -> Tensor:
    """The gradient of all parameters, whole."""
    parts = []
    for parameter in module.model.parameters():
        if parameter.requires_grad:
            g = parameter.grad
            assert g is not None
            parts.append((g.full_tensor() if isinstance(g, DTensor) else g).flatten())
    return torch.cat(parts)


def main(folder: Path) -> None:
    """Write what this rank found to `folder`."""
    recipe = Recipe(config=yaml.safe_load((folder / "recipe.yaml").read_text()))
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    ranks = Ranks(rank=rank, size=distributed.get_world_size() if distributed.is_initialized() else 1)
    found: dict[str, Tensor] = {}
    for sharded in (False, True) if ranks.size > 1 else (False,):
        module, _, _ = instantiate(recipe)
        module.setup("fit")
        module.ranks = ranks
        if sharded:
            module.model.shard(init_device_mesh("cpu", (ranks.size,)), most=ranks.most)
        for name, aggregate in AGGREGATES.items():
            credit = module.credit
            module.credit = Credit(
                advantage=credit.advantage, weights=[], aggregate=aggregate, denominator=credit.denominator
            )
            annotated = module.annotate(groups(module.decode, 14))
            batch = module.credit(module.reward(module.assemble(annotated)))
            found["annotated"] = batch["old_logprobs"]
            found["reference"] = batch["ref_logprobs"]
            optimizer = torch.optim.SGD(module.model.parameters(), lr=0.0)
            optimizer.zero_grad()
            measures = UpdateMeasures()
            part = ranks.rows(module.read_rows(batch))
            for rows in module.model.micro_batches(part, 30):
                module.backward_rows(part.rows(rows), measures)
            module.add_gradients(optimizer)
            measures.over(ranks)
            found[f"{name}/{'sharded' if sharded else 'plain'}"] = gradient(module)
            found[f"{name}/loss"] = torch.tensor(measures.sums["loss"])
    torch.save(found, folder / f"{ranks.size}-{rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 2:
        distributed.init_process_group(
            "gloo", init_method=f"file://{sys.argv[1]}/meeting", rank=int(sys.argv[2]), world_size=2
        )
    main(Path(sys.argv[1]))
    if distributed.is_initialized():
        distributed.destroy_process_group()
