"""Reads each distinct prompt of a batch once for all its completions, with equal values and an equal gradient."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from research.policy.logprobs import completion_positions, micro_batches
from research.types import UpdateBatch, length_mask

WORTH = 0.1
"""Least share of positions that sharing must save to be used."""


class SharedPrompts:
    """The distinct prompts of some rows: keys and values of every layer, and the state that predicts the first token.

    Gradients of the completions accumulate at these tensors until `backward` propagates their sum through the prompts.
    So any number of micro-batches can share one pass over the prompts, and the total gradient is as without sharing.

    Args:
        model: a model that `can_share` accepts.
        batch: the rows. Their prompts are read together with the first completions.
    """

    def __init__(self, model: PreTrainedModel, batch: UpdateBatch) -> None:
        self.model = model
        prompts = {prompt: row for row, prompt in enumerate(_prompts(batch))}
        self.numbers = {prompt: number for number, prompt in enumerate(prompts)}
        rows = torch.tensor(list(prompts.values()), device=batch.input_ids.device)
        self.lengths = batch.prompt_lengths[rows]
        self.ids = batch.input_ids[rows, : int(self.lengths.max())]
        self.read: list[Tensor] = []
        self.leaves: list[Tensor] = []

    def hidden(self, batch: UpdateBatch) -> Float[Tensor, "K H"]:
        """The state that predicts each completion token of the rows, in the order of `completion_positions`."""
        if not self.leaves:
            self._read()
        device, T = batch.input_ids.device, int(batch.lengths.max())
        number = torch.tensor([self.numbers[prompt] for prompt in _prompts(batch)], device=device)
        states = _repeated(self.leaves[0], number)[:, None]
        if T > 1:
            positions = batch.prompt_lengths[:, None] + torch.arange(T - 1, device=device)
            real = length_mask(self.lengths)[number]
            output = self.model.get_decoder()(
                input_ids=batch.input_ids.gather(1, positions.clamp(max=batch.input_ids.shape[1] - 1)),
                attention_mask=torch.cat([real, real.new_ones(len(number), T - 1)], 1).long(),
                position_ids=positions,
                past_key_values=self._cache(number),
                use_cache=True,
            )
            states = torch.cat([states, output.last_hidden_state], 1)
        rows, t, _ = completion_positions(batch.prompt_lengths, batch["mask"])
        return states[rows, t]

    def backward(self) -> None:
        """Propagate the accumulated gradient through the prompts."""
        used = [(read, leaf.grad) for read, leaf in zip(self.read, self.leaves, strict=True) if leaf.grad is not None]
        if used:
            torch.autograd.backward([read for read, _ in used], [gradient for _, gradient in used])

    def _read(self) -> None:
        # No attention mask is needed: under a causal mask no real token attends to the padding on its right.
        cache = DynamicCache(config=self.model.config)
        hidden = self.model.get_decoder()(input_ids=self.ids, past_key_values=cache, use_cache=True).last_hidden_state
        last = hidden[torch.arange(len(self.ids), device=hidden.device), self.lengths - 1]
        self.read = [last, *(tensor for layer in _layers(cache) for tensor in _filled(layer))]
        self.leaves = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in self.read]

    def _cache(self, number: Int[Tensor, " R"]) -> DynamicCache:
        """A key-value cache in which each row has its prompt."""
        cache = DynamicCache(config=self.model.config)
        for layer, keys, values in zip(_layers(cache), self.leaves[1::2], self.leaves[2::2], strict=True):
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = _repeated(keys, number), _repeated(values, number)
        return cache


def _layers(cache: DynamicCache) -> list[DynamicLayer]:
    """The layers of a cache of keys and values alone, which `can_share` has checked."""
    return [layer for layer in cache.layers if isinstance(layer, DynamicLayer)]


def _filled(layer: DynamicLayer) -> tuple[Tensor, Tensor]:
    assert layer.keys is not None, "the model has read the prompts"
    assert layer.values is not None
    return layer.keys, layer.values


def _repeated(values: Float[Tensor, "N ..."], number: Int[Tensor, " R"]) -> Float[Tensor, "R ..."]:
    """values[number], computed as an embedding, because its gradient is summed row by row."""
    return torch.nn.functional.embedding(number, values.flatten(1)).unflatten(1, values.shape[1:])


def _prompts(batch: UpdateBatch) -> Iterator[tuple[int, ...]]:
    lengths = batch.prompt_lengths.tolist()
    ids = batch.input_ids[:, : max(lengths)].tolist()
    return (tuple(row[:length]) for row, length in zip(ids, lengths, strict=True))


def runs(
    model: PreTrainedModel | None, batch: UpdateBatch, tokens: int, apart: Bool[Tensor, " B"] | None = None
) -> Iterator[tuple[Int[Tensor, " R"], SharedPrompts | None]]:
    """Rows in micro-batches of at most `tokens` padded tokens, each with the prompts that it shares with others.

    After the last micro-batch of some prompts, the iterator propagates the gradient through these prompts.

    Args:
        model: reads the prompts; None if they are not shared.
        batch: the rows.
        tokens: of a micro-batch, counted as if each row were read whole. Prompts shared at a time have at most half.
        apart: marks rows that get micro-batches of their own.
    """
    everything = torch.ones_like(batch.lengths, dtype=torch.bool)
    for chosen in (everything,) if apart is None else (~apart, apart):
        rows = chosen.nonzero()[:, 0]
        parts = _parts(batch.rows(rows), tokens // 2) if model is not None and len(rows) > 0 else None
        if model is None or parts is None:
            spans = (batch.prompt_lengths + batch.lengths)[rows]
            yield from ((rows[run], None) for run in micro_batches(spans, tokens))
            continue
        for part in (rows[part] for part in parts):
            prompts = SharedPrompts(model, batch.rows(part))
            # Rows are grouped by the length of their completions, since prompts are not read again.
            spans = batch.lengths[part] + batch.prompt_lengths[part].max()
            yield from ((part[run], prompts) for run in micro_batches(spans, tokens))
            prompts.backward()


def _parts(batch: UpdateBatch, tokens: int) -> list[Int[Tensor, " S"]] | None:
    """The rows in parts whose distinct prompts have at most `tokens` tokens; rows of one prompt stay together.

    None if sharing saves too little.
    """
    prompts = list(_prompts(batch))
    lengths = {prompt: len(prompt) for prompt in prompts}
    saved = sum(map(len, prompts)) - sum(lengths.values())
    if saved < WORTH * int((batch.prompt_lengths + batch.lengths).sum()):
        return None
    count = max(1, tokens // max(lengths.values()))
    part = {prompt: k // count for k, prompt in enumerate(lengths)}
    of_row = torch.tensor([part[prompt] for prompt in prompts], device=batch.lengths.device)
    return [(of_row == k).nonzero()[:, 0] for k in range(max(part.values()) + 1)]


@torch.no_grad()
def can_share(model: PreTrainedModel) -> bool:
    """True if the model gives a completion the same states after a cached prompt as in one pass over both.

    False for models with a sliding window or a recurrent state, and where positions come from the place in the cache.
    """
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=model.config).layers):
        return False
    size = model.config.get_text_config().vocab_size
    lengths = torch.tensor([5, 3], device=model.device)
    batch = UpdateBatch(
        input_ids=torch.arange(14, device=model.device).reshape(2, 7) % size,
        prompt_lengths=torch.tensor([2, 4], device=model.device),
        lengths=lengths,
        quantities={"mask": length_mask(lengths)},
    )
    rows, _, positions = completion_positions(batch.prompt_lengths, batch["mask"])
    model.eval()
    whole = model.get_decoder()(input_ids=batch.input_ids, use_cache=False).last_hidden_state[rows, positions]
    try:
        shared = SharedPrompts(model, batch).hidden(batch)
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    close = max(1e-3, 8 * torch.finfo(whole.dtype).eps)
    return bool((shared - whole).abs().max() < close * whole.abs().max())
