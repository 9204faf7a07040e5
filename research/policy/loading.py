"""What a policy is loaded from: the model and its tokenizer, with one sentence for whatever can be wrong with them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
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
"""What transformers raises for files that it cannot read, and for models that it cannot make of them."""


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """Which model the policy starts from, and how it is trained."""

    path: str
    """A folder or a hub id that transformers can load; `builtin` is the built-in model's cached warm start."""
    lora: LoRA | None
    """Train low-rank adapters only; null trains all weights."""
    precision: Literal["float32", "bfloat16"]
    """What forward and backward passes compute in; trained weights, log-probabilities and optimizer stay float32."""
    weights: Literal["float32", "bfloat16", "4bit"] = "float32"
    """What the weights are stored in. Less than float32 is for weights that adapters leave as they are: steps as small
    as those of reinforcement learning would be rounded away. `4bit` is NF4, double quantization, by bitsandbytes."""
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None
    """What computes attention; null is what transformers takes for the model."""
    gradient_checkpointing: bool = False
    """Compute each block again in the backward pass instead of keeping what is inside. Prompts are then read with every
    completion: a block that is computed again cannot read the keys and values of a prompt that was read before."""
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
        """Whether a prompt may be read once for all its completions, as far as the settings go."""
        return not self.gradient_checkpointing and self.attention != "flash_attention_2"


class LoadingInfo(TypedDict):
    """What transformers says about a checkpoint that it has read."""

    missing_keys: Iterable[str]


class Storage(TypedDict, total=False):
    """The arguments of `from_pretrained` that say what the weights are stored in."""

    dtype: Required[torch.dtype]
    quantization_config: BitsAndBytesConfig
    device_map: dict[str, int]


def load_pretrained(spec: PolicySpec) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer, without adapters and without dropout.

    Raises: UserError if they cannot be loaded or cannot serve as a policy; the message names the path and the reason.
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
    """How `from_pretrained` is told what the weights are stored in.

    Raises: UserError if bitsandbytes or a CUDA device is missing.
    """
    if spec.weights != "4bit":
        return {"dtype": getattr(torch, spec.weights)}
    if find_spec("bitsandbytes") is None:
        raise UserError("weights in 4bit need bitsandbytes: pip install bitsandbytes, or take bfloat16")
    if not torch.cuda.is_available():
        raise UserError("weights in 4bit need a CUDA device, and there is none: take bfloat16")
    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"dtype": torch.float32, "quantization_config": quantized, "device_map": {"": torch.cuda.current_device()}}


def without_dropout(model: nn.Module) -> None:
    """Switch dropout off: a policy that is read twice must say the same, so that its ratio to itself is 1."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


@torch.no_grad()
def check_values(model: PreTrainedModel, path: str) -> None:
    """Refuse a model whose log-probabilities `Policy` would get wrong.

    Raises: UserError if a token's hidden state depends on later ones, or the logits are not simply head(hidden): a soft
        cap or a scale would be missed.
    """
    ids = torch.arange(4, device=model.device)[None, :] % model.config.get_text_config().vocab_size
    model.eval()
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    other = model.get_decoder()(input_ids=ids[:, [0, 1, 2, 0]], use_cache=False).last_hidden_state
    if not torch.allclose(hidden[:, :3], other[:, :3], atol=1e-3 * float(hidden.abs().max())):
        raise UserError(f"{path!r} lets a token see the ones after it: it is no causal language model")
    if not torch.allclose(head_of(model)(hidden), model(input_ids=ids, use_cache=False).logits, atol=1e-4):
        raise UserError(
            f"{path!r} changes its logits after the output layer (a soft cap or a scale), which is not supported yet"
        )


def _set_options(model: PreTrainedModel, spec: PolicySpec) -> None:
    """Last of all: the checks above may run where flash attention does not."""
    with _one_sentence(f"{spec.path!r} cannot be trained as policy asks", "Leave attention or checkpointing out."):
        if spec.attention is not None:
            model.set_attn_implementation(spec.attention)
            if model.config._attn_implementation != spec.attention:
                raise ValueError(f"{type(model).__name__} has no {spec.attention} attention")
        if spec.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
