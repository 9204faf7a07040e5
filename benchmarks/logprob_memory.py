"""How much memory log-probabilities and entropies take, forward and backward: chunk by chunk, and all logits at once.

    python -m benchmarks.logprob_memory --output benchmarks/logprob_memory.md

Counted at full size without allocating, really allocated at a part of it, and at full size on a CUDA device if there is
one. Both forms are the same function: all logits at once is one chunk of all tokens.
"""

import argparse
import platform
import subprocess
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.work import peak_bytes
from research.policy.logprobs import LOGITS, values_from_hidden

ROWS, TOKENS, VOCABULARY, HIDDEN = 32, 1024, 151_936, 896
"""The vocabulary and width of Qwen2.5-0.5B."""
GIB = 2**30


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage(), given)
        self.peak = max(self.peak, self.bytes)
        return out

    def _add(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key = storage._cdata
        if key not in self.sizes and key not in given:
            self.sizes[key] = storage.nbytes()
            self.bytes += storage.nbytes()
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.bytes -= self.sizes.pop(key)


def one_pass(tokens: int, chunk: int, precision: str, device: str = "cpu") -> Callable[[], list[Tensor]]:
    """Forward and backward of weighted log-probabilities and entropies; returns the gradients."""
    torch.manual_seed(0)
    head = nn.Linear(HIDDEN, VOCABULARY, bias=False, device=device)
    nn.init.normal_(head.weight, std=0.02)
    hidden = torch.randn(tokens, HIDDEN, device=device, requires_grad=True)
    targets = torch.randint(VOCABULARY, (tokens,), device=device)
    weights = torch.randn(2, tokens, device=device)

    def run() -> list[Tensor]:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            logprobs, entropies = values_from_hidden(
                head, hidden, targets, temperature=1.0, entropy_gradient=True, chunk=chunk
            )
        (weights[0] * logprobs + weights[1] * entropies).sum().backward()
        return [p.grad for p in (hidden, head.weight) if p.grad is not None]

    return run


def counted(tokens: int, chunk: int, precision: str) -> dict[str, float]:
    """The peak beyond inputs and weights, with no tensor allocated."""
    with FakeTensorMode():
        run = one_pass(tokens, chunk, precision)
        with Live() as live:
            run()
    return {"peak": live.peak}


def allocated(tokens: int, chunk: int, folder: str) -> dict[str, float]:
    """The peak of a process beyond what it had before, and its gradients in a file of the folder."""
    with FakeTensorMode():
        one_pass(2, 1, "float32")()  # loads what the first pass would load
    run = one_pass(tokens, chunk, "float32")
    before, began = resident_bytes(), perf_counter()
    gradients = run()
    seconds = perf_counter() - began
    peak = peak_bytes() - before
    torch.save(gradients, Path(folder) / str(chunk < tokens))
    return {"peak": peak, "seconds": seconds}


def on_cuda(tokens: int, chunk: int, precision: str) -> dict[str, float]:
    """The peak that the device's allocator saw beyond inputs and weights; infinite where it did not fit."""
    run = one_pass(tokens, chunk, precision, "cuda")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    began = perf_counter()
    try:
        run()
        torch.cuda.synchronize()
    except torch.OutOfMemoryError:
        return {"peak": float("inf"), "seconds": float("nan")}
    return {"peak": torch.cuda.max_memory_allocated() - before, "seconds": perf_counter() - began}


def resident_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def in_a_process(measure: Callable[..., dict[str, float]], *given: Any) -> dict[str, float]:
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        return pool.submit(measure, *given).result()


def gradient_error(folder: str) -> float:
    """The largest relative distance between both forms' gradients: of the hidden states, and of the head."""
    whole, chunks = (torch.load(Path(folder) / str(chunked)) for chunked in (False, True))
    return max(float((a - b).norm() / b.norm()) for a, b in zip(chunks, whole, strict=True))


def row(what: str, tokens: int, precision: str, forms: Mapping[str, dict[str, float]], error: str = "") -> str:
    whole, chunks = forms["whole"], forms["chunks"]
    seconds = [f"{form['seconds']:.1f}" if "seconds" in form else "" for form in (whole, chunks)]
    cells = [
        what,
        f"{ROWS} × {tokens // ROWS}",
        precision,
        f"{whole['peak'] / GIB:.2f}",
        f"{chunks['peak'] / GIB:.2f}",
        f"{chunks['peak'] / whole['peak']:.3f}",
        *seconds,
        error,
    ]
    return f"| {' | '.join(cells)} |"


def table(part: int) -> list[str]:
    chunk, full, small = LOGITS // VOCABULARY, ROWS * TOKENS, ROWS * part
    lines = [
        "| how | tokens | precision | whole, GiB | chunks, GiB | ratio | whole, s | chunks, s | gradient error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for precision in ("float32", "bfloat16"):
        for tokens in (full, small):
            forms = {"whole": counted(tokens, tokens, precision), "chunks": counted(tokens, chunk, precision)}
            lines.append(row("counted", tokens, precision, forms))
        if precision == "float32":  # some CPUs take an hour for it in bfloat16
            with TemporaryDirectory() as folder:
                given = {"whole": small, "chunks": chunk}
                forms = {name: in_a_process(allocated, small, size, folder) for name, size in given.items()}
                lines.append(row("allocated", small, precision, forms, f"{gradient_error(folder):.1e}"))
        if torch.cuda.is_available():
            sizes = {"whole": full, "chunks": chunk}
            forms = {name: in_a_process(on_cuda, full, size, precision) for name, size in sizes.items()}
            lines.append(row("CUDA", full, precision, forms))
    return lines


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="also write the table into this file")
    parser.add_argument("--part", type=int, default=64, help="tokens of each of the 32 rows that are really allocated")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(words)
    if ROWS * given.part <= LOGITS // VOCABULARY:
        parser.error(f"--part {given.part} is one chunk: give at least {LOGITS // VOCABULARY // ROWS + 1}")
    torch.set_num_threads(given.threads)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    heading = [
        "# Memory of log-probabilities and entropies",
        "",
        f"`python -m benchmarks.logprob_memory --part {given.part} --threads {given.threads}`, commit `{commit}`,",
        f"torch {torch.__version__}, Python {platform.python_version()}, {device}.",
        "",
        "Log-probabilities and entropies of completion tokens, forward and backward, the entropies with gradient;",
        f"vocabulary {VOCABULARY}, states {HIDDEN} wide. Whole: all logits at once. Chunks: as the policy takes them,",
        f"{LOGITS // VOCABULARY} tokens at a time. GiB are peaks beyond inputs and head; the gradient of the head",
        f"takes {VOCABULARY * HIDDEN * 4 / GIB:.2f} in either form.",
        "",
        "- counted: every tensor that an operation makes, for as long as it lives; nothing is allocated",
        "- allocated: resident memory of a process of its own, at a part of the tokens; there, the largest relative",
        "  distance between both forms' gradients too, of the states and of the head",
        "- CUDA: the device's allocator, where there is one",
        "",
    ]
    text = "\n".join([*heading, *table(given.part), ""])
    print(text)
    if given.output is not None:
        given.output.write_text(text)


if __name__ == "__main__":
    main()
