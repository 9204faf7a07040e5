"""What a policy is loaded from: the model, its tokenizer, its adapters."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from research.component import require
from research.errors import UserError
from research.policy.reader import head_of


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adapters on the policy; the reference is then the policy with its adapters disabled."""

    rank: int
    """Rank of the update; at least 1."""
    alpha: float
    """The update is scaled by alpha / rank; above 0."""
    targets: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    """Names of the linear layers that get an adapter."""

    def __post_init__(self) -> None:
        require(self.rank >= 1 and self.alpha > 0, f"LoRA: rank is at least 1 and alpha above 0, got {self}")


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """Which model the policy starts from, and how it is trained."""

    path: str
    """A folder or a hub id that transformers can load; `builtin` is the built-in model's cached warm start."""
    lora: LoRA | None
    """Train low-rank adapters only; null trains all weights."""
    precision: Literal["float32", "bfloat16"]
    """What forward and backward passes compute in; weights, log-probabilities and optimizer stay float32."""
    trust_remote_code: bool = False
    """Allow the model's own code to run while loading."""


def load_pretrained(path: str, *, trust_remote_code: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model (float32) and tokenizer from a folder or a hub id.

    Raises: UserError if either cannot be loaded; the message names the path and the reason.
    """
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"cannot load the policy from {path!r}: {reason} Give a folder with a saved model, or a hub id."
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def with_adapters(model: PreTrainedModel, lora: LoRA) -> nn.Module:
    """The model with fresh adapters, which alone are trained."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets))  # pyright: ignore


@torch.no_grad()
def check_head(model: PreTrainedModel, path: str) -> None:
    """Refuse a model whose logits are not simply head(hidden): a soft cap or scale would be missed by `Policy`."""
    ids = torch.arange(4)[None, :] % model.config.get_text_config().vocab_size
    model.eval()
    direct = head_of(model)(model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state)
    if not torch.allclose(direct, model(input_ids=ids, use_cache=False).logits, atol=1e-4):
        raise UserError(
            f"{path!r} changes its logits after the output layer (a soft cap or a scale), which is not supported yet"
        )
