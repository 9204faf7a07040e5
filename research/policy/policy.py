"""The policy that is trained: asking it (or its reference) for log-probabilities and entropies."""

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
    """A causal language model that is being trained, and its frozen reference where one is asked for.

    Args:
        spec: what to load and how to train it; `spec.path` is loadable here (no `builtin` any more).
        temperature: log-probabilities are of the distribution that completions are sampled from, logits / temperature.
        with_reference: keep a frozen copy of the start (with LoRA nothing is copied).

    Raises: UserError if the model cannot be loaded, or does not read its logits straight off its last hidden state.
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
        # A plain list hides the frozen copy from parameters() and state_dict(): it is loaded again, never saved.
        self._reference = [] if reference is None else [Reader(reference, temperature=temperature, bf16=bf16)]
        self.model.train()

    @property
    def padding(self) -> int:
        """The token that fills rows up."""
        token = self.tokenizer.pad_token_id
        assert isinstance(token, int), "loading gives the tokenizer a padding token"
        return token

    @property
    def sharded(self) -> bool:
        """Whether every rank has a part of the weights only."""
        return self._shards is not None

    def shard(self, mesh: DeviceMesh, *, most: Callable[[int], int]) -> None:
        """Spread the weights over the ranks of a one-dimensional mesh; from now on all ranks read together.

        Args:
            mesh: the ranks.
            most: the largest of the ranks' counts, by a collective call.
        """
        self._shares = False
        self._shards = Shards([self, *self._reference], mesh, most)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All weights on every rank, for sampling."""
        with self._shards.whole(self) if self._shards is not None else nullcontext():
            yield

    def save(self, folder: Path) -> None:
        """Write model and tokenizer as transformers reads them, adapters merged into the weights they adapt.

        Weights that are stored in less than float32 are loaded again for that, in float32. Every rank calls it, and the
        first one writes.
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
        """A model of this kind with these weights."""
        model, _ = load_pretrained(self.spec)
        model = with_adapters(model, self.spec.lora) if self.spec.lora else model
        model.load_state_dict(state)
        return model

    def values(self, batch: UpdateBatch, *, entropy_gradient: bool) -> TokenValues:
        """Log-probabilities and entropies of every completion token of the rows, in one pass, with gradient.

        Args:
            batch: the rows.
            entropy_gradient: whether the entropies carry one too.
        """
        return self(batch, self._prompts, entropy_gradient=entropy_gradient)

    def micro_batches(
        self, batch: UpdateBatch, tokens: int, apart: Bool[Tensor, " B"] | None = None
    ) -> Iterator[Int[Tensor, " R"]]:
        """Rows in runs of at most `tokens` padded tokens; those that `apart` marks share no run with the others.

        Until the next run is asked for, `values` of this one's rows shares prompts with other runs: each is read once.
        The gradient reaches all weights when the iterator is exhausted. Where the policy is sharded, each run takes one
        forward and one backward pass.
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
        """The same without gradient, in micro-batches of at most `tokens` padded tokens."""
        return self._in_micro_batches(self, batch, tokens)

    @torch.no_grad()
    def reference(self, batch: UpdateBatch, tokens: int) -> TokenValues:
        """The same from the frozen reference."""
        if self.spec.lora is None:
            self._reference[0].to(self.causal_lm.device)
            return self._in_micro_batches(self._reference[0], batch, tokens)
        with without_adapters(self.model):
            return self._in_micro_batches(self, batch, tokens)

    @property
    def frozen(self) -> list[Reader]:
        """The reference, where it is a model of its own."""
        return self._reference

    def reset_reference(self) -> None:
        """The reference becomes the policy as it is now."""
        self._reference[0].model.load_state_dict(self.model.state_dict())

    def reference_state(self) -> dict[str, Tensor]:
        """The reference's weights, for a checkpoint."""
        return self._reference[0].model.state_dict()

    def load_reference(self, state: Mapping[str, Tensor]) -> None:
        """Take the reference's weights back from a checkpoint."""
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
