"""Memory of the passes of sampling and of the update beyond weights, counted while they run on tensors without data.

Nothing is estimated by formula. Every operator of the forward and backward pass is dispatched as in a run, with tensors
that have shapes and no storage, and the bytes of the tensors that are alive at once are added up. So the count follows
the model's own attention, autocast, adapters and gradient checkpointing.

Against the growth of a process's peak resident memory (VmHWM) on a CPU, float32, weights, gradients and moments
included, update of R rows of 8 + 32 tokens: a 47-million-parameter Qwen2, R = 38, 2.05 GiB predicted and 2.11 measured;
R = 64, 2.86 and 2.98; Qwen2.5-0.5B's shape, R = 8, 8.88 and 9.84. So the allocator and the
inside of operators take up to a ninth more than is counted. On CUDA nothing has been measured yet.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from research.doctor.memory.blank import parameter_bytes, put_stand_ins
from research.policy.logprobs import LOGITS, values_from_hidden


class LiveBytes(TorchDispatchMode):
    """Counts the bytes that operators allocate inside the block: `now` are alive, `peak` is the maximum.

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

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        """Run the operator, and count the storages that it made."""
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            storage = tensor.untyped_storage()
            if storage._cdata not in given and storage._cdata not in self._alive:
                self._note(storage)
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()

        def forget(_: object) -> None:
            self.now -= size
            del self._alive[key]

        self.now += size
        self.peak = max(self.peak, self.now)
        self._alive[key] = weakref.ref(storage, forget)


def _tensors(nested: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor))


@contextmanager
def stand_ins(model: nn.Module) -> Iterator[None]:
    """Within the block, tensors hold no data, the model's parameters included."""
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
    """Tokens of a row whose log-probabilities are read."""


def update_bytes(
    model: PreTrainedModel,
    batch: MicroBatch,
    *,
    bf16: bool,
    temperature: float,
    entropy_gradient: bool,
) -> int:
    """Peak of one micro-batch beyond weights, gradients and optimizer, in bytes: activations, logits, temporaries.

    Gradients of earlier micro-batches are present, and this one's are added to them.

    Args:
        model: a causal language model inside `stand_ins`, with its adapters.
        batch: its shape; every row has the longest prompt and the longest completion.
        bf16: True if the passes compute in bfloat16.
        temperature: divides the logits.
        entropy_gradient: True if the objective differentiates entropies.
    """
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    model.train()
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has an output layer"
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
    """Most tokens of a completion."""


@dataclass(frozen=True, kw_only=True)
class SamplingBytes:
    """Memory of sampling beyond weights and optimizer, in bytes."""

    cache: int
    """Keys and values, once every completion has its greatest length."""
    passes: int
    """Activations and logits: the peak of reading the prompts or of drawing the last token."""


@torch.no_grad()
def sampling_bytes(model: PreTrainedModel, shape: Sampling, *, copies: int) -> SamplingBytes:
    """Peak of sampling with the model itself: the key-value cache, activations, logits.

    Args:
        model: a causal language model inside `stand_ins`.
        shape: rows and lengths.
        copies: tensors of the logits' size, in float32, that are alive beside the logits.
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
        drawing.peak = drawing.now  # a run fills the cache token by token: this pass does not count
        logits = model(input_ids=whole[:, :1], attention_mask=mask, past_key_values=cache, logits_to_keep=1).logits
    more = copies * 4 * logits.numel()
    return SamplingBytes(cache=held, passes=max(reading.peak, drawing.peak + more) - held)
