"""The engine in the training process, with a policy that trains adapters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import FOREIGN, PARITY, gap, loaded, prove, saved, shake, started

from research.errors import UserError
from research.policy import LoRA, Policy

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Policy]]:
    """The same with LoRA."""
    policy = loaded(saved(tmp_path_factory.mktemp("adapted"), tied=True), LoRA(rank=4, alpha=8.0))
    sampler = started(policy)
    yield sampler, policy
    sampler.close()


class TestAdapterSync:
    def test_ten_versions_of_two_adapters_in_turn(self, adapted: tuple[Any, Policy]) -> None:
        sampler, policy = adapted
        size = sum(p.numel() * 4 for p in policy.parameters() if p.requires_grad)
        for version in range(1, 11):
            shake(policy, seed=version % 2)
            assert gap(sampler, policy) > FOREIGN
            assert sampler.sync(version) == {"rollouts/sync_bytes": size}
            assert gap(sampler, policy) <= PARITY

    def test_only_the_newest_version_is_kept_in_memory(self, adapted: tuple[Any, Policy]) -> None:
        sampler, _ = adapted
        sampler.sync(50)
        newest = sampler._adapters.newest
        sampler.sync(51)
        assert not newest.exists()
        assert [path.name for path in sampler._adapters.newest.parent.iterdir()] == ["version-51"]
        if Path("/dev/shm").is_dir():
            assert newest.is_relative_to("/dev/shm")


class TestProof:
    def test_a_stale_adapter_is_caught(self, adapted: tuple[Any, Policy], monkeypatch: pytest.MonkeyPatch) -> None:
        sampler, policy = adapted
        shake(policy, seed=500)
        prove(sampler, policy, 500)
        shake(policy, seed=501)
        with monkeypatch.context() as patch:
            patch.setattr(sampler, "_load_adapter", lambda version: 0)
            with pytest.raises(UserError, match="an old adapter"):
                prove(sampler, policy, 501)
        prove(sampler, policy, 502)

    def test_a_missing_adapter_is_caught(self, adapted: tuple[Any, Policy]) -> None:
        sampler, policy = adapted
        shake(policy, seed=510)
        sampler.sync(510)
        sampler._adapter = None
        with pytest.raises(UserError, match="those of the model without its adapter"):
            prove(sampler, policy, 510)
        prove(sampler, policy, 511)
