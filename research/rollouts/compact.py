"""A sampler with a decoding loop of its own: it reads each prompt once and drops completions that have ended."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from research.rollouts.sampler import Decoding
from research.rollouts.transformers import StopStrings, TransformersSampler, end_tokens, warpers
from research.rollouts.weights import base_model

ROOM = 16
"""Positions by which the key-value cache grows. Few, because a closely packed cache is read twice as fast."""
COMPACT = 0.9
"""Rows that have ended are removed once at most this share of the batch is still running."""


class _RoomyLayer(DynamicLayer):
    """A layer of the key-value cache with spare room to grow; transformers' own is copied at every token."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the new positions, and return the filled part of the cache."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._keys, self._values = key_states[:, :, :0], value_states[:, :, :0]
        start, self.length = self.length, self.length + key_states.shape[-2]
        if self.length > self._keys.shape[-2]:
            self._keys, self._values = self._roomier(self._keys), self._roomier(self._values)
        self._keys[:, :, start : self.length] = key_states
        self._values[:, :, start : self.length] = value_states
        return self._filled()

    def _roomier(self, full: Tensor) -> Tensor:
        rows, heads, old, width = full.shape
        new = full.new_empty(rows, heads, -(-self.length // ROOM) * ROOM, width)
        new[:, :, :old] = full
        return new

    def batch_select_indices(self, indices: Tensor) -> None:
        """Replace row k by the former row indices[k]. When rows are dropped, only those that move are copied."""
        for name in ("_keys", "_values"):
            full = getattr(self, name)
            if len(indices) > len(full):
                kept = full.new_empty(len(indices), *full.shape[1:])
                kept[:, :, : self.length] = full[indices, :, : self.length]
            else:
                moved = (indices != torch.arange(len(indices), device=indices.device)).nonzero()[:, 0]
                kept = full[: len(indices)]
                kept[moved, :, : self.length] = full[indices[moved], :, : self.length]
            setattr(self, name, kept)
        self._filled()

    def _filled(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = self._keys[:, :, : self.length], self._values[:, :, : self.length]
        return self.keys, self.values


def _closed_up(running: Tensor) -> Tensor:
    """The rows that still run, the last of them moved to the places of rows that have ended."""
    left = int(running.sum())
    rows = torch.arange(left, device=running.device)
    rows[~running[:left]] = left + running[left:].nonzero()[:, 0]
    return rows


class CompactSampler(TransformersSampler):
    """Samples token by token from a compact key-value cache; about twice as fast as `generate` on the CPU.

    A prompt is read once for all its completions, the cache has spare room instead of being copied at every token, and
    completions that have ended leave the batch. It needs a model whose cache holds keys and values.

    Args:
        max_rows: completions sampled at once, at least 1; bounds memory. It decides which completions share a batch,
            so another value draws other tokens.
    """

    @torch.no_grad()
    def generate(
        self, input_ids: Int[Tensor, "N P"], mask: Int[Tensor, "N P"], n: int, decoding: Decoding
    ) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Draw n completions for each prompt: their tokens and log-probabilities, of no meaning after the end token."""
        N, P = input_ids.shape
        T, device = decoding.max_tokens, input_ids.device
        end = torch.tensor(sorted(end_tokens(self.model)), device=device)
        tokens = torch.full((N * n, T), int(end[0]), device=device)
        logprobs = torch.zeros(N * n, T, device=device)
        live = torch.arange(N * n, device=device)
        cache = self._cache()
        position = mask.sum(1, keepdim=True)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        scores = self._scores(cache, input_ids, mask, positions, decoding).repeat_interleave(n, 0)
        cache.batch_select_indices(torch.arange(N, device=device).repeat_interleave(n))
        mask, position = (value.repeat_interleave(n, 0) for value in (mask, position))
        mask = torch.cat([mask, mask.new_ones(N * n, T)], dim=1)
        running = torch.ones(N * n, dtype=torch.bool, device=device)
        stop = StopStrings(self.tokenizer, decoding.stop) if decoding.stop else None
        for t in range(T):
            token = torch.multinomial(scores.exp(), 1)
            tokens[live, t], logprobs[live, t] = token[:, 0], scores.gather(1, token)[:, 0]
            running = running & ~torch.isin(token[:, 0], end)
            if stop is not None:
                running = running & ~stop(tokens[live, : t + 1], None)
            left = int(running.sum())
            if left == 0 or t + 1 == T:
                break
            if left <= COMPACT * len(live):
                kept = _closed_up(running)
                cache.batch_select_indices(kept)
                live, mask, position, token, running = (v[kept] for v in (live, mask, position, token, running))
            scores = self._scores(cache, token, mask[:, : P + t + 1], position + t, decoding)
        return tokens, logprobs

    def _scores(
        self, cache: DynamicCache, ids: Tensor, mask: Tensor, positions: Tensor, decoding: Decoding
    ) -> Float[Tensor, "R V"]:
        """Log-probabilities of the next token, after temperature, top-k and top-p."""
        logits = base_model(self.model)(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        scores = logits.float()
        for warp in warpers(decoding):
            scores = warp(ids, scores)  # pyright: ignore[reportArgumentType]
        return torch.log_softmax(scores, -1)

    def _cache(self) -> DynamicCache:
        cache = DynamicCache(config=base_model(self.model).config)
        cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        return cache
