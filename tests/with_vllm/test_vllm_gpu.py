"""Sleep, wake and half precision, which only a GPU has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from engines import gap, loaded, prove, saved, shake

from research.errors import UserError
from research.policy import LoRA, Policy
from research.rollouts import VLLMSampler

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PARITY = {"float32": 1e-3, "bfloat16": 0.3}
"""Nats. The engine's kernels and the trainer's differ, and bfloat16 has eight bits."""


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[None, LoRA(rank=4, alpha=8.0)], ids=["full", "lora"])
def policy(request: pytest.FixtureRequest, tmp_path: Path) -> Policy:
    return loaded(saved(tmp_path, tied=True), request.param).to("cuda")


@pytest.fixture(params=[1, 2])
def sampler(request: pytest.FixtureRequest, policy: Policy, dtype: Any) -> Iterator[VLLMSampler]:
    sampler = VLLMSampler(
        dtype=dtype,
        tolerance=PARITY[dtype],
        gpu_memory_utilization=0.1,
        max_model_len=256,
        enforce_eager=True,
        sleep_level=request.param,
    )
    sampler.attach(policy.model, policy.tokenizer)
    yield sampler
    sampler.close()


def test_versions_in_turn_with_sleep_between(sampler: VLLMSampler, policy: Policy, dtype: Any) -> None:
    for version in range(4):
        shake(policy, seed=version % 2)
        prove(sampler, policy, version)
        assert gap(sampler, policy) <= PARITY[dtype]
        awake = torch.cuda.mem_get_info()[0]
        sampler.sleep()
        assert torch.cuda.mem_get_info()[0] > awake
    prove(sampler, policy, 3)  # the version that it had before it slept


def test_weights_lost_in_sleep_are_caught(
    sampler: VLLMSampler, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    shake(policy, seed=0)
    prove(sampler, policy, 0)
    sampler.sleep()
    shake(policy, seed=1)
    monkeypatch.setattr(sampler, "_take_over", lambda engine, version: 0)
    with pytest.raises(UserError, match="does not have the policy's weights"):
        prove(sampler, policy, 1)
