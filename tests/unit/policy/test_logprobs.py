"""Log-probabilities and entropies chunk by chunk: the values and gradients of all logits at once."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from research.policy.logprobs import values_from_hidden

K, H, V = 23, 8, 17
Values = tuple[Tensor, Tensor]


def adapted() -> nn.Module:
    """An output layer with an adapter that does something."""
    sizes = {"hidden_size": H, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=V, **sizes))
    head = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"])).get_base_model().lm_head
    nn.init.normal_(head.lora_B["default"].weight, std=0.2)
    return head


HEADS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(H, V, bias=False),
    "bias": lambda: nn.Linear(H, V),
    "adapter": adapted,
}


def made(kind: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A head, states, targets, and what the loss weights each value with."""
    torch.manual_seed(0)
    head = HEADS[kind]().to(dtype)
    hidden = (3 * torch.randn(K, H)).to(dtype).requires_grad_()
    return head, hidden, torch.randint(V, (K,)), torch.randn(2, K).to(dtype)


def naive(head: nn.Module, hidden: Tensor, targets: Tensor, temperature: float) -> Values:
    """All logits, in one line each."""
    logits = head(hidden)
    p = torch.softmax((logits if logits.dtype == torch.float64 else logits.float()) / temperature, -1)
    return torch.log(p[torch.arange(len(p)), targets]), -(p * torch.log(p)).sum(-1)


def gradients(values: Values, weights: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    loss = (weights[0] * values[0] + weights[1] * values[1]).sum()
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [g if g is not None else torch.zeros_like(leaf) for g, leaf in zip(found, leaves, strict=True)]


def trained(head: nn.Module) -> list[Tensor]:
    return [p for p in head.parameters() if p.requires_grad]


def distance(mine: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest relative distance of a gradient from the other."""
    pairs = zip(mine, theirs, strict=True)
    return max(float((a - b).double().norm() / b.double().norm()) for a, b in pairs if b.any())


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("entropy_gradient", [True, False])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_values_and_gradients_are_those_of_all_logits(
    kind: str, temperature: float, entropy_gradient: bool, dtype: torch.dtype, close: float
) -> None:
    head, hidden, targets, weights = made(kind, dtype)
    expected = naive(head, hidden, targets, temperature)
    used = expected if entropy_gradient else (expected[0], expected[1].detach())
    whole = gradients(used, weights, [hidden, *trained(head)])
    for chunk in (1, 5, 22, 23, 24):
        values = values_from_hidden(
            head, hidden, targets, temperature=temperature, entropy_gradient=entropy_gradient, chunk=chunk
        )
        assert values[0].dtype == values[1].dtype == dtype
        assert values[1].requires_grad is entropy_gradient
        for mine, theirs in zip(values, expected, strict=True):
            assert (mine - theirs).abs().max() < close
        assert distance(gradients(values, weights, [hidden, *trained(head)]), whole) < close


def test_a_tied_head_adds_to_the_gradient_of_the_embedding() -> None:
    torch.manual_seed(0)
    embedding, ids = nn.Embedding(V, H), torch.randint(V, (K,))
    head = nn.Linear(H, V, bias=False)
    head.weight = embedding.weight
    weights = torch.randn(2, K)
    whole = gradients(naive(head, embedding(ids), ids, 1.0), weights, [embedding.weight])
    values = values_from_hidden(head, embedding(ids), ids, temperature=1.0, entropy_gradient=True, chunk=4)
    assert distance(gradients(values, weights, [embedding.weight]), whole) < 1e-5


def test_a_frozen_body_leaves_the_gradient_to_the_head() -> None:
    head, hidden, targets, weights = made("bias")
    whole = gradients(naive(head, hidden, targets, 1.0), weights, trained(head))
    values = values_from_hidden(head, hidden.detach(), targets, temperature=1.0, entropy_gradient=True, chunk=4)
    assert distance(gradients(values, weights, trained(head)), whole) < 1e-5


def test_under_autocast_the_gradient_is_no_worse_than_that_of_all_logits() -> None:
    """Chunks' gradients that were added up in bfloat16 would be."""
    torch.manual_seed(0)
    head, hidden, targets = nn.Linear(H, V), torch.randn(2000, H), torch.randint(V, (2000,))
    weights = torch.rand(2, 2000)
    exact = gradients(naive(head, hidden, targets, 1.0), weights, trained(head))
    errors = []
    for chunk in (2000, 10):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            values = values_from_hidden(head, hidden, targets, temperature=1.0, entropy_gradient=True, chunk=chunk)
        assert values[0].dtype == values[1].dtype == torch.float32
        errors.append(distance(gradients(values, weights, trained(head)), exact))
    assert 0 < errors[1] < 1.1 * errors[0]


def test_under_autocast_the_values_are_those_of_all_logits() -> None:
    head, hidden, targets, _ = made("adapter")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = naive(head, hidden, targets, 0.7)
        values = values_from_hidden(head, hidden, targets, temperature=0.7, entropy_gradient=True, chunk=4)
    for mine, theirs in zip(values, expected, strict=True):
        assert (mine - theirs).abs().max() < 1e-5  # the same bfloat16 logits


class Counted(nn.Module):
    """A head that counts its calls and the rows of each."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.rows = nn.Linear(H, V), []

    def forward(self, hidden: Tensor) -> Tensor:
        self.rows.append(len(hidden))
        return self.inner(hidden)


@pytest.mark.parametrize(
    ("chunk", "forward", "backward"), [(23, [23], []), (22, [22, 1], [1, 22]), (10, [10, 10, 3], [3, 10, 10])]
)
def test_only_more_than_one_chunk_is_computed_again(chunk: int, forward: list[int], backward: list[int]) -> None:
    _, hidden, targets, _ = made("linear")
    head = Counted()
    values = values_from_hidden(head, hidden, targets, temperature=1.0, entropy_gradient=True, chunk=chunk)
    assert head.rows == forward
    values[0].sum().backward()
    assert head.rows == forward + backward


def kept_for_backward(call: Callable[[], Any]) -> int:
    """How many numbers the call leaves for the backward pass."""
    sizes = [0]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        call()
    return sum(sizes)


@pytest.mark.parametrize("graph", [nullcontext, torch.no_grad], ids=["gradient", "no gradient"])
def test_no_logits_are_kept(graph: Callable[[], Any]) -> None:
    head, hidden, targets, _ = made("linear")

    def call(chunk: int) -> Values:
        with graph():
            return values_from_hidden(head, hidden, targets, temperature=1.0, entropy_gradient=True, chunk=chunk)

    assert kept_for_backward(lambda: call(5)) <= K * (H + 1)  # states and targets
    if graph is nullcontext:
        assert kept_for_backward(lambda: call(K)) > 2 * K * V
    else:
        assert not call(5)[0].requires_grad


def test_an_entropy_without_gradient_is_not_computed_again() -> None:
    head, hidden, targets, _ = made("linear")

    def exponentials(entropy_gradient: bool) -> int:
        values = values_from_hidden(head, hidden, targets, temperature=1.0, entropy_gradient=entropy_gradient, chunk=12)
        with torch.profiler.profile() as profile:
            values[0].sum().backward()
        return sum(event.count for event in profile.key_averages() if event.key == "aten::exp")

    assert exponentials(True) > 0
    assert exponentials(False) == 0


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 40), chunk=st.integers(1, 41))
def test_any_chunks_give_the_same_values(count: int, chunk: int) -> None:
    generator = torch.Generator().manual_seed(count)
    head = nn.Linear(H, V, dtype=torch.float64)
    hidden = torch.randn(count, H, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(V, (count,), generator=generator)
    values = values_from_hidden(head, hidden, targets, temperature=1.3, entropy_gradient=True, chunk=chunk)
    for mine, theirs in zip(values, naive(head, hidden, targets, 1.3), strict=True):
        assert mine.shape == (count,)
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)
