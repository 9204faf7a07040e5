"""The route from GPU to GPU without GPUs: vLLM's own transfer calls the server's routes in the order that it needs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_vllm import FakeVLLM

from research.errors import UserError
from research.policy import Policy, PolicySpec
from research.rollouts import NCCLRoute
from research.rollouts.vllm.http import Server

pytestmark = pytest.mark.vllm

ROUTES = ("pause", "init_weight_transfer_engine", "start_weight_update", "update_weights", "finish_weight_update")


@pytest.fixture
def fake(tiny_policy: str) -> Iterator[FakeVLLM]:
    server = FakeVLLM(tiny_policy)
    for route in (*ROUTES, "resume"):
        server.faults[f"/{route}"] += [lambda _: (200, {})] * 4
    server.faults["/get_world_size"] += [lambda _: (200, {"world_size": 2})] * 4
    yield server
    server.kill()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """What would go through NCCL, where there is a GPU."""
    from vllm.distributed.weight_transfer import nccl_engine

    tensors: dict[str, torch.Tensor] = {}

    def broadcast(iterator: Any, **_: Any) -> None:
        tensors.update((name, value.clone()) for name, value in iterator)

    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", lambda info: object())
    monkeypatch.setattr(nccl_engine, "packed_nccl_broadcast_producer", broadcast)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", _Quiet)
    return tensors


class _Quiet:
    def synchronize(self) -> None:
        pass


def test_order_and_content(fake: FakeVLLM, sent: dict[str, torch.Tensor], tiny_policy: str, tmp_path: Path) -> None:
    policy = Policy(PolicySpec(path=tiny_policy, lora=None, precision="float32"), temperature=1.0, with_reference=False)
    route = NCCLRoute(address="127.0.0.1", port=29411)
    route.attach(Server(fake.url, request_timeout=5.0, connections=4), policy.model)
    weights = policy.model.state_dict()
    assert route.prepare(0) == sum(value.numel() * 4 for value in weights.values())
    route.send()
    posts = [call.strip("/") for call in fake.calls if call not in ("/weight_info", "/get_world_size")]
    assert posts == [*ROUTES, "resume"]
    assert {name: value.shape for name, value in sent.items()} == {name: value.shape for name, value in weights.items()}
    assert all(sent[name].equal(weights[name]) for name in weights)
    init = fake.bodies["/init_weight_transfer_engine"][0]["init_info"]
    assert (init["master_address"], init["master_port"], init["world_size"]) == ("127.0.0.1", 29411, 3)
    update = fake.bodies["/update_weights"][0]["update_info"]
    assert update["names"] == list(sent)
    assert set(update["dtype_names"]) == {"float32"}

    fake.label = "run/0"
    route.send()
    assert len(fake.bodies["/init_weight_transfer_engine"]) == 1
    fake.label = "default"  # as after a restart
    route.send()
    assert fake.bodies["/init_weight_transfer_engine"][1]["init_info"]["master_port"] == 29412
    fake.label = "run/0"
    fake.faults["/start_weight_update"][:0] = [lambda _: (500, "no transfer engine")]
    with pytest.raises(UserError, match=r"POST /start_weight_update with 500.*no transfer engine"):
        route.send()
    assert fake.calls[-1] == "/resume"
