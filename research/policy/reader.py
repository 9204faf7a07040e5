"""A causal language model that reads completions: the log-probability and the entropy of each of their tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from research.policy.logprobs import LOGITS, completion_positions, values_from_hidden
from research.policy.shared import SharedPrompts
from research.types import UpdateBatch


class TokenValues(NamedTuple):
    """What a model says of each completion token that counts; 0 on padding and on a tool's tokens."""

    logprobs: Float[Tensor, "B T"]
    entropies: Float[Tensor, "B T"]


class Reader(nn.Module):
    """A model and how its log-probabilities are taken. Calling it is one forward pass.

    Args:
        model: a transformers model, or one with adapters.
        temperature: log-probabilities are of logits / temperature.
        bf16: compute in bfloat16.
    """

    def __init__(self, model: nn.Module, *, temperature: float, bf16: bool) -> None:
        super().__init__()
        self.model, self.temperature, self.bf16 = model, temperature, bf16

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The transformers model inside, adapters and all."""
        return causal_lm_of(self.model)

    @property
    def head(self) -> nn.Module:
        """The output layer."""
        return head_of(self.causal_lm)

    @property
    def tied(self) -> bool:
        """Whether the output layer is the embedding."""
        return self.head.weight is self.causal_lm.get_input_embeddings().weight

    @contextmanager
    def at_temperature(self, temperature: float) -> Iterator[None]:
        """Values of the distribution at another temperature."""
        own, self.temperature = self.temperature, temperature
        try:
            yield
        finally:
            self.temperature = own

    def forward(
        self, batch: UpdateBatch, prompts: SharedPrompts | None = None, *, entropy_gradient: bool = False
    ) -> TokenValues:
        """Log-probabilities and entropies of every completion token of the rows that counts, in one pass.

        Args:
            batch: the rows.
            prompts: the rows' prompts, where they are shared.
            entropy_gradient: whether the entropies carry one too.
        """
        rows, t, positions = completion_positions(batch.prompt_lengths, batch["mask"])
        with torch.autocast(batch.input_ids.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            if prompts is not None:
                hidden = prompts.hidden(batch)
            else:
                # Right padding under a causal mask is never attended to by a real token: no attention mask is needed.
                # A row's last token predicts nothing, so the last column is never read.
                decoder = self.causal_lm.get_decoder()
                whole = decoder(input_ids=batch.input_ids[:, :-1], use_cache=False).last_hidden_state
                hidden = whole[rows, positions]
            logprobs, entropies = values_from_hidden(
                self.head,
                hidden,
                batch.input_ids[rows, positions + 1],
                temperature=self.temperature,
                entropy_gradient=entropy_gradient,
                chunk=max(1, LOGITS // self.causal_lm.config.get_text_config().vocab_size),
            )
        shape = batch["mask"].shape
        return TokenValues(logprobs=_scatter(logprobs, rows, t, shape), entropies=_scatter(entropies, rows, t, shape))


def causal_lm_of(model: nn.Module) -> PreTrainedModel:
    """The transformers model: the model itself, or the one inside a model with adapters."""
    inside = model.get_submodule("base_model.model") if hasattr(model, "peft_config") else model
    assert isinstance(inside, PreTrainedModel)
    return inside


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The body of a causal language model: all but its output layer."""
    decoder = model.get_decoder()
    assert isinstance(decoder, PreTrainedModel)
    return decoder


def head_of(model: PreTrainedModel) -> nn.Module:
    """The output layer of a causal language model."""
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has an output layer"
    return head


def _scatter(values: Float[Tensor, " K"], rows: Tensor, t: Tensor, shape: torch.Size) -> Float[Tensor, "B T"]:
    return torch.zeros(shape, dtype=values.dtype, device=values.device).index_put((rows, t), values)
