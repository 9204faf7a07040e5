"""The arithmetic of a step, counted from the model's shape, and how fast this machine multiplies such matrices."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch.nn.functional import linear

Row = tuple[int, int, bool]
"""Prompt tokens, completion tokens, whether the row has a gradient: a row of zero advantages has none."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The matrix products that one token costs."""

    layers: int
    attention_width: int
    linears: tuple[tuple[int, int], ...]
    """(outputs, inputs) of every linear layer below the output layer."""
    head: tuple[int, int]

    @classmethod
    def of(cls, model: Any) -> "Shape":
        config = model.config.get_text_config()
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        modules = [m for m in model.get_decoder().modules() if isinstance(m, torch.nn.Linear)]
        return cls(
            layers=config.num_hidden_layers,
            attention_width=config.num_attention_heads * width,
            linears=tuple(tuple(m.weight.shape) for m in modules),
            head=tuple(model.get_output_embeddings().weight.shape),
        )

    @property
    def body_parameters(self) -> int:
        return sum(a * b for a, b in self.linears)

    @property
    def head_parameters(self) -> int:
        return self.head[0] * self.head[1]

    def attention(self, first: int, last: int) -> float:
        """Scores and weighted sums of the tokens at positions first … last, causal."""
        keys = (last * (last + 1) - (first - 1) * first) / 2
        return 4 * self.layers * self.attention_width * keys


def training_positions(rows: list[Row], group: int) -> int:
    """Positions that an update reads: a prompt once for its group, no last token, no row without a gradient."""
    groups = [rows[k : k + group] for k in range(0, len(rows), group)]
    read = [[row for row in members if row[2]] for members in groups]
    return sum(members[0][0] + sum(length - 1 for _, length, _ in members) for members in read if members)


def training_flops(shape: Shape, rows: list[Row], group: int) -> float:
    """Forward, and backward (twice as much), of the positions that an update reads."""
    read = [row for row in rows if row[2]]
    groups = [rows[k : k + group] for k in range(0, len(rows), group)]
    prompts = [members[0][0] for members in groups if any(live for _, _, live in members)]
    body = training_positions(rows, group) * shape.body_parameters
    head = sum(length for _, length, _ in read) * shape.head_parameters
    attention = sum(shape.attention(1, prompt) for prompt in prompts)
    attention += sum(shape.attention(prompt + 1, prompt + length - 1) for prompt, length, _ in read)
    return 3 * (2 * (body + head) + attention)


def sampling_flops(shape: Shape, rows: list[Row], group: int) -> float:
    """Forward of every sampled token that is read again; each prompt is read once for its whole group."""
    prompts = [prompt for prompt, _, _ in rows[::group]]
    body = (sum(prompts) + sum(length - 1 for _, length, _ in rows)) * shape.body_parameters
    head = sum(length for _, length, _ in rows) * shape.head_parameters
    attention = sum(shape.attention(1, prompt) for prompt in prompts)
    attention += sum(shape.attention(prompt + 1, prompt + length - 1) for prompt, length, _ in rows)
    return 2 * (body + head) + attention


def matmul_rates(shape: Shape, *, trained_rows: int, decoded_rows: int) -> dict[str, float]:
    """FLOP/s in float32, the fastest of a few: big squares, this model's update, this model's decoding step."""
    squares = [torch.randn(n, n) for n in (512, 1024)]
    square_rate = max(2 * len(s) ** 3 / fastest(lambda s=s: s @ s, seconds=0.5) for s in squares)
    kinds = Counter(shape.linears)
    update = sum(n * _update_seconds(*kind, trained_rows) for kind, n in kinds.items())
    decode = sum(n * _forward_seconds(*kind, decoded_rows) for kind, n in kinds.items())
    return {
        "square": square_rate,
        "update": 6 * shape.body_parameters * trained_rows / update,
        "decode": 2 * shape.body_parameters * decoded_rows / decode,
    }


def _forward_seconds(outputs: int, inputs: int, rows: int) -> float:
    weight, x = torch.randn(outputs, inputs), torch.randn(rows, inputs)
    return fastest(lambda: linear(x, weight))


def _update_seconds(outputs: int, inputs: int, rows: int) -> float:
    weight, x, gradient = torch.randn(outputs, inputs), torch.randn(rows, inputs), torch.randn(rows, outputs)
    backward = fastest(lambda: gradient.mm(weight)) + fastest(lambda: gradient.t().mm(x))
    return _forward_seconds(outputs, inputs, rows) + backward


def fastest(work: Callable[[], Any], seconds: float = 0.15) -> float:
    """Seconds of the fastest call among those that fit into `seconds`, three at least."""
    best, began, calls = float("inf"), perf_counter(), 0
    with torch.no_grad():
        while calls < 3 or perf_counter() - began < seconds:
            start = perf_counter()
            work()
            best, calls = min(best, perf_counter() - start), calls + 1
    return best
