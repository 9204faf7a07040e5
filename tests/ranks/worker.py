"""What one of two processes does: the gradient of its share of a batch, by every aggregate, plain and sharded."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from research.credit.aggregate import ConstantLength, PromptMean, SequenceMean, TokenMean
from research.recipe import Recipe, instantiate
from research.training.measures import UpdateMeasures
from research.training.module import RLModule
from research.training.ranks import Ranks
from research.types import Completion, Group, Prompt, ToolCall

AGGREGATES = {
    "token_mean": TokenMean(),
    "sequence_mean": SequenceMean(),
    "prompt_mean": PromptMean(),
    "constant_length": ConstantLength(length=12),
}
LENGTHS = ((1, 12, 3, 7), (9, 2, 12, 1), (5, 11, 4, 2))
"""Of the completions of three groups: a share of six rows each, of quite different sizes. In the longer ones a tool
wrote all but four tokens."""


def groups() -> list[Group]:
    """Completions that are made up; the last one's rewards are all equal, so that it has no gradient."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for n, lengths in enumerate(LENGTHS):
        completions = tuple(
            Completion(
                token_ids=tuple(torch.randint(2, 14, (length,), generator=generator).tolist()),
                rollout_logprobs=(-2.0,) * length,
                text="",
                finish_reason="stop",
                tool_calls=(ToolCall(start=3, tokens=length - 4, failed=False),) if length > 4 else (),
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


def found(recipe: Recipe, ranks: Ranks, *, sharded: bool) -> dict[str, Tensor]:
    """Gradients by aggregate, annotations and losses, of a batch that these ranks share."""
    module, _, _ = instantiate(recipe)
    module.setup("fit")
    module.ranks = ranks
    if sharded:
        module.model.shard(init_device_mesh("cpu", (ranks.size,)), most=ranks.most)
    values: dict[str, Tensor] = {}
    for name, aggregate in AGGREGATES.items():
        module.credit = replace(module.credit, aggregate=aggregate)
        batch = module.credit(module.reward(module.assemble(module.annotate(groups()))))
        values |= {"annotated": batch["old_logprobs"], "reference": batch["ref_logprobs"]}
        optimizer = torch.optim.SGD(module.model.parameters(), lr=0.0)
        optimizer.zero_grad()
        measures = UpdateMeasures()
        part = ranks.rows(module.read_rows(batch))
        for rows in module.model.micro_batches(part, 30):
            module.backward_rows(part.rows(rows), measures)
        module.add_gradients(optimizer)
        measures.over(ranks)
        values[f"{name}"] = gradient(module)
        values[f"{name} tokens"] = torch.tensor(measures.sums["tokens"])
    return values


def main(folder: Path, rank: int) -> None:
    """Write what this rank of two found, for every recipe in `folder`, plain and sharded."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    ranks = Ranks(rank=rank, size=2)
    for path in sorted(folder.glob("*.yaml")):
        recipe = Recipe(config=yaml.safe_load(path.read_text()))
        values = {kind: found(recipe, ranks, sharded=kind == "sharded") for kind in ("plain", "sharded")}
        torch.save(values, folder / f"{path.stem}-{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
