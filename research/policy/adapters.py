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

    They are float32, whatever the weights are stored in, and there is no dropout, so that the ratio of a policy to
    itself is 1.
    """

    rank: int
    """Rank of the update; at least 1."""
    alpha: float
    """The update is scaled by alpha / rank; above 0."""
    targets: list[str] | Literal["all-linear"] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    """Names of the linear layers that get an adapter; `all-linear` is all of them but the output layer."""

    def __post_init__(self) -> None:
        require(self.rank >= 1 and self.alpha > 0, f"LoRA: rank is at least 1 and alpha above 0, got {self}")
        require(
            len(self.targets) > 0,
            "LoRA: targets are at least one name of a layer, or all-linear",
        )


def with_adapters(model: PreTrainedModel, lora: LoRA) -> nn.Module:
    """The model with fresh adapters, which alone are trained.

    Raises: UserError if the model has no such layers, or one of them is also the embedding.
    """
    from peft import LoraConfig, get_peft_model

    _check_targets(model, lora)
    return get_peft_model(model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets))  # pyright: ignore[reportArgumentType]


def merged(model: nn.Module, fresh: nn.Module | None = None) -> PreTrainedModel:
    """A copy of an adapted model, its adapters added to the weights they adapt.

    Args:
        model: has adapters.
        fresh: the same model loaded anew, whose weights are taken for the sum: where the model's own are stored in less
            than float32, most of an update would be lost in rounding.
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
    """A block in which an adapted model computes as the model without its adapters."""
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
