"""A language model's body with a head of one output at every position, for the critic's values."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from research.policy.loading import load_pretrained
from research.policy.logprobs import completion_positions, micro_batches
from research.policy.policy import Policy
from research.policy.reader import decoder_of
from research.types import UpdateBatch


class ScalarModel(nn.Module):
    """A transformer body with a linear head of one output, which is 0 at the start.

    Args:
        body: a language model without its output layer.
        precision: number format of the body; the head computes in float32.
        shared: True if the body belongs to the policy, which trains and saves it.
    """

    def __init__(self, body: PreTrainedModel, *, precision: str, shared: bool) -> None:
        super().__init__()
        # A plain list hides a shared body from parameters() and state_dict(): the policy has it there already.
        self._shared = [body] if shared else []
        if not shared:
            self.own = body
        self.precision = precision
        self.head = nn.Linear(body.config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def beside(cls, policy: Policy, *, shared: bool) -> "ScalarModel":
        """A model on the policy's own body if shared, else on a copy of the weights that the policy started from."""
        spec = policy.spec
        model = policy.causal_lm if shared else load_pretrained(replace(spec, weights="float32"))[0]
        return cls(decoder_of(model), precision=spec.precision, shared=shared)

    @property
    def body(self) -> PreTrainedModel:
        """The language model below the head."""
        return self._shared[0] if self._shared else self.own

    def before_tokens(self, batch: UpdateBatch) -> Float[Tensor, "B T"]:
        """For each completion token, the output at the position that predicts it; 0 on padding."""
        rows, t, positions = completion_positions(batch.prompt_lengths, batch["mask"])
        values = self._head(self._hidden(batch.input_ids[:, :-1])[rows, positions])
        return torch.zeros(batch["mask"].shape, device=values.device).index_put((rows, t), values)

    def _hidden(self, ids: Tensor) -> Tensor:
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.body(input_ids=ids, use_cache=False).last_hidden_state

    def _head(self, hidden: Tensor) -> Tensor:
        return self.head(hidden.float()).squeeze(-1)

    @torch.no_grad()
    def values(self, batch: UpdateBatch, tokens: int) -> Float[Tensor, "B T"]:
        """`before_tokens` without gradient, in micro-batches of at most `tokens` padded tokens."""
        values = torch.zeros(batch["mask"].shape, device=batch.input_ids.device)
        with self._reading():
            for rows in micro_batches(batch.prompt_lengths + batch.lengths, tokens):
                part = batch.rows(rows)
                values[rows, : part["mask"].shape[1]] = self.before_tokens(part)
        return values

    @contextmanager
    def _reading(self) -> Iterator[None]:
        was = self.training
        self.eval()
        yield
        self.train(was)
