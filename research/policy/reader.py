"""Log-probability and entropy of each completion token by a causal language model."""

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
    """A model's values of each completion token; 0 on padding and on the tokens of a tool."""

    logprobs: Float[Tensor, "B T"]
    entropies: Float[Tensor, "B T"]


class Reader(nn.Module):
    """A model that is asked for log-probabilities. A call is one forward pass.

    Args:
        model: a transformers model, or a PEFT model around one.
        temperature: divides the logits.
        bf16: True to compute in bfloat16.
    """

    def __init__(self, model: nn.Module, *, temperature: float, bf16: bool) -> None:
        super().__init__()
        self.model, self.temperature, self.bf16 = model, temperature, bf16

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The transformers model, with the adapters in its layers."""
        return causal_lm_of(self.model)

    @property
    def head(self) -> nn.Module:
        """The output layer."""
        return head_of(self.causal_lm)

    @property
    def tied(self) -> bool:
        """True if the output layer shares its weights with the embedding."""
        return self.head.weight is self.causal_lm.get_input_embeddings().weight

    @contextmanager
    def at_temperature(self, temperature: float) -> Iterator[None]:
        """A block in which log-probabilities are computed at another temperature."""
        own, self.temperature = self.temperature, temperature
        try:
            yield
        finally:
            self.temperature = own

    def forward(
        self, batch: UpdateBatch, prompts: SharedPrompts | None = None, *, entropy_gradient: bool = False
    ) -> TokenValues:
        """Log-probabilities and entropies of the completion tokens of the rows, in one pass.

        Args:
            batch: the rows.
            prompts: prompts that are read once for several rows; None to read each row whole.
            entropy_gradient: True if the entropies carry a gradient too.
        """
        rows, t, positions = completion_positions(batch.prompt_lengths, batch["mask"])
        with torch.autocast(batch.input_ids.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            if prompts is not None:
                hidden = prompts.hidden(batch)
            else:
                # No attention mask is needed: under a causal mask no real token attends to the padding on its right.
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
    """The transformers model: the model itself, or the one inside a PEFT model."""
    inside = model.get_submodule("base_model.model") if hasattr(model, "peft_config") else model
    assert isinstance(inside, PreTrainedModel)
    return inside


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The body of a causal language model, without its output layer."""
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
