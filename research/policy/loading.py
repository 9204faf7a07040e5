"""Loading of a policy's model and tokenizer, with one clear sentence for each thing that can be wrong with them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from logging import getLogger
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal, Required, TypedDict, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from research.component import require
from research.errors import UserError
from research.policy.adapters import LoRA
from research.policy.reader import head_of

UNREADABLE = (OSError, ValueError, ImportError, RuntimeError, EOFError, SafetensorError, UnpicklingError)
"""Exceptions of transformers for files that it cannot read and models that it cannot build from them."""

EXPERIMENTAL = "weights in 4bit are experimental, and have never run on a GPU: take bfloat16 to be safe"


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """The model that the policy starts from, and the precision and extent of its training."""

    path: str
    """A folder or hub id that transformers can load; `builtin` means the built-in model after its warm start."""
    lora: LoRA | None
    """Low-rank adapters, which are then the only trained weights; null trains all weights."""
    precision: Literal["float32", "bfloat16"]
    """Number format of forward and backward passes. Trained weights, log-probabilities and optimizer are float32."""
    weights: Literal["float32", "bfloat16", "4bit"] = "float32"
    """Number format in which the weights are stored. Formats below float32 need adapters, because the small steps of
    reinforcement learning would be lost by rounding. `4bit` is NF4 with double quantization, by bitsandbytes. It is
    experimental: it has never run on a GPU."""
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None
    """Implementation of attention; null lets transformers choose."""
    gradient_checkpointing: bool = False
    """Recompute the activations of each block in the backward pass, which saves memory. A prompt is then read again for
    each of its completions, because a recomputed block cannot use cached keys and values."""
    trust_remote_code: bool = False
    """Allow the model's own code to run while loading."""

    def __post_init__(self) -> None:
        require(
            self.weights == "float32" or self.lora is not None,
            f"Policy: weights stored in {self.weights} lose small steps: train adapters (lora), or take float32",
        )
        for name, value in (("weights", self.weights), ("attention", self.attention)):
            require(
                value in ("float32", "eager", "sdpa", None) or self.precision == "bfloat16",
                f"Policy: {name} {value} computes in bfloat16: set precision to bfloat16, too",
            )

    @property
    def can_share_prompts(self) -> bool:
        """True if these settings allow reading a prompt once for all its completions."""
        return not self.gradient_checkpointing and self.attention != "flash_attention_2"


class LoadingInfo(TypedDict):
    """Transformers' report on a checkpoint that it has loaded."""

    missing_keys: Iterable[str]


class Storage(TypedDict, total=False):
    """The arguments of `from_pretrained` that say what the weights are stored in."""

    dtype: Required[torch.dtype]
    quantization_config: BitsAndBytesConfig
    device_map: dict[str, int]


def load_pretrained(spec: PolicySpec) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer, without adapters and without dropout.

    Raises: UserError with the path and the reason if they cannot be loaded or cannot serve as a policy.
    """
    transformers_logging.disable_progress_bar()
    path, remote = spec.path, {"trust_remote_code": spec.trust_remote_code}
    if path.startswith(("/", "./", "../", "~")) and not Path(path).is_dir():
        raise UserError(f"cannot load the policy from {path!r}: there is no such folder")
    with _one_sentence(f"cannot load the policy from {path!r}", "Give a folder with a saved model, or a hub id."):
        config = AutoConfig.from_pretrained(path, **remote)
    with _one_sentence(f"cannot load the tokenizer of {path!r}", "Save the model's tokenizer beside it."):
        tokenizer = AutoTokenizer.from_pretrained(path, **remote)
    with _one_sentence(f"cannot load the policy from {path!r}", "Save it or download it again, complete."):
        loaded = AutoModelForCausalLM.from_pretrained(
            path, config=config, output_loading_info=True, **_storage(spec), **remote
        )
    model, found = cast(tuple[PreTrainedModel, LoadingInfo], loaded)
    if missing := sorted(found["missing_keys"]):
        raise UserError(
            f"{path!r} lacks {len(missing)} weights of {type(model).__name__}, such as {missing[0]}: save the whole "
            "causal language model"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise UserError(f"the tokenizer of {path!r} has neither a padding token nor an end token: give it one")
    without_dropout(model)
    check_values(model, path)
    _set_options(model, spec)
    return model, tokenizer


@contextmanager
def _one_sentence(what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0].rstrip(".:") if lines else type(error).__name__
        if "custom code" in reason:
            remedy = "If you trust it, set policy.trust_remote_code to true."
        elif "backend tokenizer" in reason:
            reason = "there is none that transformers can read"
        elif "Unrecognized configuration class" in reason:
            reason, remedy = "it is no causal language model", "Take one that is."
        raise UserError(f"{what}: {reason}. {remedy}") from error


def _storage(spec: PolicySpec) -> Storage:
    """The arguments of `from_pretrained` for the number format of the weights.

    Raises: UserError if bitsandbytes or a CUDA device is missing.
    """
    if spec.weights != "4bit":
        return {"dtype": getattr(torch, spec.weights)}
    if find_spec("bitsandbytes") is None:
        raise UserError("weights in 4bit need bitsandbytes: pip install bitsandbytes, or take bfloat16")
    if not torch.cuda.is_available():
        raise UserError("weights in 4bit need a CUDA device, and there is none: take bfloat16")
    getLogger(__name__).warning(EXPERIMENTAL)
    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"dtype": torch.float32, "quantization_config": quantized, "device_map": {"": torch.cuda.current_device()}}


def without_dropout(model: nn.Module) -> None:
    """Switch dropout off, so that two passes give equal values and the ratio of a policy to itself is 1."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


@torch.no_grad()
def check_values(model: PreTrainedModel, path: str) -> None:
    """Refuse a model whose log-probabilities `Policy` would compute wrongly.

    Raises: UserError if the hidden state of a token depends on later tokens, or if the logits are not head(hidden), for
        example because of a soft cap or a scale.
    """
    ids = torch.arange(4, device=model.device)[None, :] % model.config.get_text_config().vocab_size
    model.eval()
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    other = model.get_decoder()(input_ids=ids[:, [0, 1, 2, 0]], use_cache=False).last_hidden_state
    if not torch.allclose(hidden[:, :3], other[:, :3], atol=1e-3 * float(hidden.abs().max())):
        raise UserError(f"{path!r} lets a token attend to later ones: it is no causal language model")
    if not torch.allclose(head_of(model)(hidden), model(input_ids=ids, use_cache=False).logits, atol=1e-4):
        raise UserError(
            f"{path!r} changes its logits after the output layer (a soft cap or a scale), which is not supported yet"
        )


def _set_options(model: PreTrainedModel, spec: PolicySpec) -> None:
    """Set attention and checkpointing, after the checks, which may run on a device without flash attention."""
    with _one_sentence(f"{spec.path!r} cannot be trained as policy asks", "Leave attention or checkpointing out."):
        if spec.attention is not None:
            model.set_attn_implementation(spec.attention)
            if model.config._attn_implementation != spec.attention:
                raise ValueError(f"{type(model).__name__} has no {spec.attention} attention")
        if spec.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
