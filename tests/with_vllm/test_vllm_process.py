"""What the process keeps when an engine starts in it, and what it is told when none can."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engines import PARITY, PROMPTS, gap, loaded, saved, shake, started
from torch import Tensor

from research.errors import UserError
from research.rollouts import Decoding, VLLMSampler

pytestmark = pytest.mark.vllm


def state() -> dict[str, Any]:
    """What belongs to the process. Checking types in tests draws Python's random numbers: see `as_a_rank` for these."""
    numbers = np.random.get_state()  # noqa: NPY002
    return {
        "numpy": [value.tolist() if isinstance(value, np.ndarray) else value for value in numbers],
        "torch": torch.get_rng_state().tolist(),
        "threads": (torch.get_num_threads(), torch.set_num_threads),
        "precision": (torch.get_default_dtype(), torch.get_float32_matmul_precision()),
        "cores": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "environment": dict(os.environ),
    }


class TestProcess:
    def test_is_as_it_was_after_start_sync_sample_and_end(self, tmp_path: Path) -> None:
        policy = loaded(saved(tmp_path, tied=True))
        before = state()
        with torch.inference_mode():  # as in the evaluation that comes first
            sampler = started(policy, max_model_len=64)
        assert state() == before
        sampler.sync(1)
        sampler.sample(PROMPTS, n=2, decoding=Decoding(max_tokens=4, top_p=0.9), seed=0)
        assert state() == before
        sampler.close()
        assert state() == before
        assert not torch.distributed.is_initialized()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"max_model_len": 100_000}, r"User-specified max_model_len \(100000\).*Set the sampler's max_model_len"),
            ({"kv_cache_gib": 1e-6}, r"cache.*Change the sampler's gpu_memory_utilization or kv_cache_gib"),
        ],
        ids=["positions", "memory"],
    )
    def test_an_engine_that_does_not_start_says_why(
        self, settings: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        policy = loaded(saved(tmp_path, tied=True))
        sampler = VLLMSampler(**{"kv_cache_gib": 0.125, "enforce_eager": True, **settings})
        sampler.attach(policy.model, policy.tokenizer)
        with pytest.raises(UserError, match=f"vLLM does not start: .*{message}"):
            sampler.sync(0)
        assert not torch.distributed.is_initialized()

    def test_ranks_have_an_engine_each_and_keep_their_group(self, tmp_path: Path) -> None:
        saved(tmp_path, tied=True)
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
        ran = subprocess.run([*words, str(tmp_path)], capture_output=True, text=True, timeout=240, check=False)
        assert ran.returncode == 0, ran.stderr
        for rank in range(2):
            said = (tmp_path / f"rank_{rank}.txt").read_text()
            assert said == "parity True, untouched True, 2 ranks after the end", f"rank {rank}"


def as_a_rank(folder: Path) -> None:
    """What each process of the last test does: another policy, other prompts, other lengths on each rank."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    policy = loaded(folder)
    shake(policy, seed=rank)
    before = {**state(), "python": random.getstate()}
    sampler = started(policy)
    parity = gap(sampler, policy, PROMPTS[: 2 + rank]) <= PARITY
    sampler.close()
    untouched = {**state(), "python": random.getstate()} == before
    ranks: Tensor = torch.ones(1)
    torch.distributed.all_reduce(ranks)
    said = f"parity {parity}, untouched {untouched}, {int(ranks)} ranks after the end"
    (folder / f"rank_{rank}.txt").write_text(said)  # lines that two processes print can run together
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    as_a_rank(Path(sys.argv[1]))
