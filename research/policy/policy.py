"""The trained policy: log-probabilities and entropies of completions by it and by its reference."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from research.policy.adapters import merged, with_adapters, without_adapters
from research.policy.loading import PolicySpec, load_pretrained
from research.policy.reader import Reader, TokenValues, causal_lm_of
from research.policy.sharding import Shards, first_rank, whole
from research.policy.shared import SharedPrompts, can_share, runs
from research.types import UpdateBatch


class Policy(Reader):
    """A causal language model that is being trained, with a frozen reference if one is needed.

    Args:
        spec: model and precision; `spec.path` is a folder or hub id here, and no name of a built-in model.
        temperature: divides the logits, so that log-probabilities are of the distribution that is sampled from.
        with_reference: True to keep a frozen copy of the start. With LoRA the reference is the policy without adapters.

    Raises: UserError if the model cannot be loaded or used.
    """

    def __init__(self, spec: PolicySpec, *, temperature: float, with_reference: bool) -> None:
        model, tokenizer = load_pretrained(spec)
        bf16 = spec.precision == "bfloat16"
        reference = deepcopy(model).requires_grad_(False).eval() if with_reference and spec.lora is None else None
        shares = spec.can_share_prompts and can_share(model)
        super().__init__(with_adapters(model, spec.lora) if spec.lora else model, temperature=temperature, bf16=bf16)
        self.spec, self.tokenizer = spec, tokenizer
        self._shares = shares
        self._prompts: SharedPrompts | None = None
        self._shards: Shards | None = None
        # A plain list hides the frozen copy from parameters() and state_dict(): it is loaded again and never saved.
        self._reference = [] if reference is None else [Reader(reference, temperature=temperature, bf16=bf16)]
        self.model.train()

    @property
    def padding(self) -> int:
        """The id of the padding token."""
        token = self.tokenizer.pad_token_id
        assert isinstance(token, int), "loading gives the tokenizer a padding token"
        return token

    @property
    def sharded(self) -> bool:
        """True if each rank holds only a part of the weights."""
        return self._shards is not None

    def shard(self, mesh: DeviceMesh, *, most: Callable[[int], int]) -> None:
        """Shard the weights over the ranks of a one-dimensional mesh; all ranks must compute together from now on.

        Args:
            mesh: the ranks.
            most: a collective call that gives the largest of the ranks' counts.
        """
        self._shares = False
        self._shards = Shards([self, *self._reference], mesh, most)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A block in which every rank holds all weights, for sampling."""
        with self._shards.whole(self) if self._shards is not None else nullcontext():
            yield

    def save(self, folder: Path) -> None:
        """Write model and tokenizer in the format of transformers, with adapters merged into the weights.

        For merging, weights stored below float32 are loaded again in float32. Every rank calls it, and the first one
        writes.
        """
        state = {name: whole(value) for name, value in self.model.state_dict().items()} if self.sharded else None
        if not first_rank():
            return
        model = self.model if state is None else self._with_state(state)
        if self.spec.lora is not None:
            exact = replace(self.spec, weights="float32")
            fresh = with_adapters(load_pretrained(exact)[0], self.spec.lora) if exact != self.spec else None
            model = merged(model, fresh)
        causal_lm_of(model).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _with_state(self, state: Mapping[str, Tensor]) -> nn.Module:
        """A new model like this one with the given weights."""
        model, _ = load_pretrained(self.spec)
        model = with_adapters(model, self.spec.lora) if self.spec.lora else model
        model.load_state_dict(state)
        return model

    def values(self, batch: UpdateBatch, *, entropy_gradient: bool) -> TokenValues:
        """Log-probabilities and entropies of every completion token of the rows, in one pass, with gradient.

        Args:
            batch: the rows.
            entropy_gradient: True if the entropies carry a gradient too.
        """
        return self(batch, self._prompts, entropy_gradient=entropy_gradient)

    def micro_batches(
        self, batch: UpdateBatch, tokens: int, apart: Bool[Tensor, " B"] | None = None
    ) -> Iterator[Int[Tensor, " R"]]:
        """Rows in micro-batches of at most `tokens` padded tokens; rows marked by `apart` get some of their own.

        Within an iteration, `values` of its rows reuses prompts that other micro-batches have read. Gradients through
        prompts are complete once the iterator is exhausted. With a sharded policy each micro-batch must take exactly
        one forward and one backward pass.
        """
        found = runs(self.causal_lm if self._shares else None, batch, tokens, apart)
        try:
            for rows, prompts in found if self._shards is None else self._shards.even(self, list(found), backward=True):
                self._prompts = prompts
                yield rows
        finally:
            self._prompts = None

    @torch.no_grad()
    def annotate(self, batch: UpdateBatch, tokens: int) -> TokenValues:
        """Log-probabilities and entropies without gradient, in micro-batches of at most `tokens` padded tokens."""
        return self._in_micro_batches(self, batch, tokens)

    @torch.no_grad()
    def reference(self, batch: UpdateBatch, tokens: int) -> TokenValues:
        """Log-probabilities and entropies by the frozen reference, in the same way."""
        if self.spec.lora is None:
            self._reference[0].to(self.causal_lm.device)
            return self._in_micro_batches(self._reference[0], batch, tokens)
        with without_adapters(self.model):
            return self._in_micro_batches(self, batch, tokens)

    @property
    def frozen(self) -> list[Reader]:
        """The reference, if it is a model of its own."""
        return self._reference

    def reset_reference(self) -> None:
        """Set the reference to the current policy."""
        self._reference[0].model.load_state_dict(self.model.state_dict())

    def reference_state(self) -> dict[str, Tensor]:
        """The reference's weights, for a checkpoint."""
        return self._reference[0].model.state_dict()

    def load_reference(self, state: Mapping[str, Tensor]) -> None:
        """Restore the reference's weights from a checkpoint."""
        self._reference[0].model.load_state_dict(state)

    def _in_micro_batches(self, reader: Reader, batch: UpdateBatch, tokens: int) -> TokenValues:
        logprobs = torch.zeros(batch["mask"].shape, device=batch.input_ids.device)
        entropies = torch.zeros_like(logprobs)
        found = runs(reader.causal_lm if self._shares else None, batch, tokens)
        for rows, prompts in found if self._shards is None else self._shards.even(reader, list(found)):
            part = batch.rows(rows)
            values = reader(part, prompts)
            width = part["mask"].shape[1]
            logprobs[rows, :width], entropies[rows, :width] = values.logprobs, values.entropies
        return TokenValues(logprobs=logprobs, entropies=entropies)
