"""Low-rank adapters on a policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from research.component import require
from research.errors import UserError
from research.policy.reader import head_of


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adapters on the policy; the reference is then the policy with its adapters disabled.

    The adapters are float32, whatever format the weights are stored in. They have no dropout, so that the ratio of a
    policy to itself is 1.
    """

    rank: int
    """Rank of the update matrix; at least 1."""
    alpha: float
    """Scale of the update, which is multiplied by alpha / rank; above 0."""
    targets: list[str] | Literal["all-linear"] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    """Names of the linear layers that get an adapter; `all-linear` means all of them except the output layer."""

    def __post_init__(self) -> None:
        require(self.rank >= 1 and self.alpha > 0, f"LoRA: rank is at least 1 and alpha above 0, got {self}")
        require(
            len(self.targets) > 0,
            "LoRA: targets are at least one name of a layer, or all-linear",
        )


def with_adapters(model: PreTrainedModel, lora: LoRA) -> nn.Module:
    """The model with new adapters, and all other weights frozen.

    Raises: UserError if the model lacks one of the layers, or one of them is also the embedding.
    """
    from peft import LoraConfig, get_peft_model

    _check_targets(model, lora)
    return get_peft_model(model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets))  # pyright: ignore[reportArgumentType]


def merged(model: nn.Module, fresh: nn.Module | None = None) -> PreTrainedModel:
    """A copy of a model with adapters in which the adapters are added to the weights.

    Args:
        model: a model with adapters.
        fresh: the same model, loaded again in float32, to whose weights the adapters are added. In a lower precision
            most of an update would be lost by rounding. None adds them to a copy of `model`.
    """
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    if fresh is None:
        fresh = deepcopy(model)
    else:
        set_peft_model_state_dict(fresh, get_peft_model_state_dict(model))
    assert isinstance(fresh, PeftModel)
    return fresh.merge_and_unload()


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """A block in which the adapters of a model are switched off."""
    from peft import PeftModel

    assert isinstance(model, PeftModel)
    with model.disable_adapter():
        yield


def _check_targets(model: PreTrainedModel, lora: LoRA) -> None:
    if lora.targets == "all-linear":
        return
    linear = {name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))}
    for target in lora.targets:
        found = [name for name in linear if name == target or name.endswith(f".{target}")]
        if not found:
            known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise UserError(f"LoRA: the model has no linear layer called {target}: its linear layers are {known}")
        head = head_of(model)
        tied = head.weight is model.get_input_embeddings().weight
        if tied and any(model.get_submodule(name) is head for name in found):
            raise UserError(f"LoRA: {target} is also the model's embedding, so it cannot have an adapter: leave it out")
