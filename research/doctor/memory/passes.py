"""What the passes of sampling and of the update hold beyond weights: their own operators, run on tensors of no data.

Nothing is estimated by formula. Every operator of the forward and backward pass is dispatched as in a run, with tensors
that have shapes and no storage, and the bytes of those that are alive at once are added up. So the count follows
whatever the model, its attention, autocast, adapters and gradient checkpointing do.

Against the growth of a process's peak resident memory (VmHWM) on a CPU, float32, weights, gradients and moments
included, update of R rows of 8 + 32 tokens: a 47-million-parameter Qwen2, R = 38, 2.05 GiB predicted and 2.11 measured;
R = 64, 2.86 and 2.98; Qwen2.5-0.5B's shape, R = 8, 8.88 and 9.84. So up to a ninth more is taken than is counted, by
the allocator and inside of operators. On CUDA nothing has been measured yet.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from research.doctor.memory.blank import parameter_bytes, put_stand_ins
from research.policy.logprobs import LOGITS, values_from_hidden


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that operators make inside the block; `now` are alive, `peak` is the most there were.

    Example:
        >>> with LiveBytes() as live:
        ...     first = torch.zeros(10)
        ...     second = first + 1  # 40 bytes each
        ...     del first
        >>> live.now, live.peak
        (40, 80)
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Run the operator; note what it made."""
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            storage = tensor.untyped_storage()
            if storage._cdata not in given and storage._cdata not in self._alive:
                self._note(storage)
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()

        def forget(_: Any) -> None:
            self.now -= size
            del self._alive[key]

        self.now += size
        self.peak = max(self.peak, self.now)
        self._alive[key] = weakref.ref(storage, forget)


def _tensors(nested: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor))


@contextmanager
def stand_ins(model: nn.Module) -> Iterator[None]:
    """Inside the block, tensors hold no data, and the model's parameters are such tensors."""
    with FakeTensorMode():
        put_stand_ins(model)
        yield


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """The shape of one forward and backward pass of the update."""

    rows: int
    width: int
    """Tokens of a row: prompt and completion."""
    completion: int
    """Those of them whose log-probabilities are read."""


def update_bytes(
    model: Any,
    batch: MicroBatch,
    *,
    bf16: bool,
    temperature: float,
    entropy_gradient: bool,
) -> int:
    """Most bytes that one micro-batch holds beyond weights, gradients and optimizer: activations, logits, temporaries.

    The gradients of earlier micro-batches are there already, and this one's are added to them.

    Args:
        model: a causal language model inside `stand_ins`, with its adapters.
        batch: the rows; one prompt length and one completion length, the longest.
        bf16: whether the passes compute in bfloat16.
        temperature: divides the logits.
        entropy_gradient: whether the objective differentiates entropies.
    """
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    model.train()
    head = model.get_output_embeddings()
    rows = torch.arange(batch.rows).repeat_interleave(batch.completion)
    positions = torch.arange(batch.completion).repeat(batch.rows) + batch.width - batch.completion - 1
    ids = torch.zeros(batch.rows, batch.width, dtype=torch.long)
    with LiveBytes() as live:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            hidden = model.get_decoder()(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[rows, positions]
            logprobs, entropies = values_from_hidden(
                head,
                hidden,
                ids[rows, positions + 1],
                temperature=temperature,
                entropy_gradient=entropy_gradient,
                chunk=max(1, LOGITS // head.weight.shape[0]),
            )
        del hidden
        (logprobs + entropies).sum().backward()
    return live.peak


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The shape of one call of the sampler."""

    prompts: int
    """Rows of the pass that reads the prompts."""
    rows: int
    """Completions sampled at once."""
    prompt: int
    """Tokens of the longest prompt."""
    completion: int
    """Tokens at most of a completion."""


@dataclass(frozen=True, kw_only=True)
class SamplingBytes:
    """What sampling holds beyond weights and optimizer."""

    cache: int
    """Keys and values, when every completion is as long as it may be."""
    passes: int
    """Activations and logits: the most that reading the prompts or drawing the last token adds."""


@torch.no_grad()
def sampling_bytes(model: Any, shape: Sampling, *, copies: int) -> SamplingBytes:
    """Most bytes that sampling with the model itself holds: the key-value cache, activations, logits.

    Args:
        model: a causal language model inside `stand_ins`.
        shape: rows and lengths.
        copies: tensors of a number for each completion and each token of the vocabulary, alive beside the logits.
    """
    model.eval()
    prompts = torch.zeros(shape.prompts, shape.prompt, dtype=torch.long)
    with LiveBytes() as reading:
        model(input_ids=prompts, attention_mask=torch.ones_like(prompts), use_cache=True, logits_to_keep=1)
    whole = torch.zeros(shape.rows, shape.prompt + shape.completion - 1, dtype=torch.long)
    mask = torch.ones(shape.rows, whole.shape[1] + 1, dtype=torch.long)
    with LiveBytes() as drawing:
        cache = model.get_decoder()(input_ids=whole, use_cache=True).past_key_values
        held = parameter_bytes(_tensors([list(vars(layer).values()) for layer in cache.layers]))
        drawing.peak = drawing.now  # what filled the cache in one pass is not the run's
        logits = model(input_ids=whole[:, :1], attention_mask=mask, past_key_values=cache, logits_to_keep=1).logits
    more = copies * 4 * logits.numel()
    return SamplingBytes(cache=held, passes=max(reading.peak, drawing.peak + more) - held)
