"""Models without weights: they have the right shapes, to be counted and to be run on tensors without data."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from research.errors import UserError
from research.policy import PolicySpec, TinyModel, character_tokenizer, tiny_model
from research.policy.adapters import with_adapters
from research.prompts.arithmetic import ALPHABET
from research.training.warm_start.builtin import BUILTIN

QUANTIZED = 0.5 + (1 + 4 / 256) / 64
"""Bytes of a weight in NF4: half a byte, and a one-byte scale of each 64, with a float32 scale for 256 of those."""


def read_config(spec: PolicySpec) -> PretrainedConfig:
    """The model's configuration, from a folder, the hub or its cache. Nothing else of the model is read.

    Raises: UserError if it cannot be read.
    """
    if spec.path in BUILTIN:
        return tiny_model(TinyModel(), character_tokenizer(ALPHABET), seed=0).config
    try:
        return AutoConfig.from_pretrained(spec.path, trust_remote_code=spec.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        raise UserError(
            f"cannot read the configuration of {spec.path!r}: {reason}. "
            "Give a folder with a config.json, or a hub id once while the hub can be reached."
        ) from error


def blank_model(spec: PolicySpec, dtype: torch.dtype) -> PreTrainedModel:
    """A causal language model whose parameters have shapes and no memory.

    Raises: UserError if its configuration cannot be read, or names no causal language model.
    """
    config = read_config(spec)
    options = {"attn_implementation": "eager"} if spec.attention == "eager" else {}  # other attentions keep no scores
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(
                config, dtype=dtype, trust_remote_code=spec.trust_remote_code, **options
            )
    except (ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        raise UserError(f"{spec.path!r} is no causal language model that can be built: {reason}") from error


def parameter_bytes(parameters: Iterable[Tensor]) -> int:
    """Bytes of these tensors; a tensor in two places, such as a tied output layer, counts once.

    Example:
        >>> layer = nn.Linear(2, 1)  # 3 weights of 4 bytes
        >>> parameter_bytes([*layer.parameters(), layer.weight])
        12
    """
    return sum({id(tensor): tensor.numel() * tensor.element_size() for tensor in parameters}.values())


def put_stand_ins(model: nn.Module) -> None:
    """Replace every parameter and buffer by an empty tensor of its shape.

    Called under a FakeTensorMode, the model then runs there, and nothing is allocated or computed.
    """
    made: dict[int, Tensor] = {}

    def stand_in(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            is_parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_parameter else empty
        return made[id(tensor)]

    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            setattr(module, name, stand_in(parameter))
        for name, buffer in list(module.named_buffers(recurse=False, remove_duplicate=False)):
            setattr(module, name, stand_in(buffer))


def blank_policy(spec: PolicySpec) -> PreTrainedModel:
    """The transformers model of the policy with its adapters, without memory; it runs inside `stand_ins`.

    The quantized layers of a 4-bit base have the dtype in which they compute, bfloat16.

    Raises: UserError if its configuration cannot be read, names no causal language model, or has no such layers.
    """
    model = blank_model(spec, torch.float32 if spec.weights == "float32" else torch.bfloat16)
    if spec.lora is not None:
        with torch.device("meta"):
            with_adapters(model, spec.lora)
    if spec.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def stored_bytes(model: PreTrainedModel, spec: PolicySpec) -> int:
    """Bytes of the policy's stored weights, adapters included."""
    if spec.weights != "4bit":
        return parameter_bytes(model.parameters())
    decoder = model.get_decoder()
    linear = [module.weight for module in decoder.modules() if isinstance(module, nn.Linear)]
    quantized = {id(weight): weight.numel() for weight in linear if not weight.requires_grad}
    kept = {id(p): p.numel() for p in model.parameters() if id(p) not in quantized}
    return int(sum(quantized.values()) * QUANTIZED + sum(kept.values()) * 4)


def body_bytes(spec: PolicySpec) -> int:
    """Bytes of the model without its output layer, in float32: the body of a separate critic."""
    model = blank_model(spec, torch.float32)
    return parameter_bytes(model.get_decoder().parameters())
