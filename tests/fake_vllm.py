"""A server that speaks vLLM's protocol and samples with transformers; it can be killed, restarted and made to fail."""

import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

LENGTH = 64

Answer = tuple[int, dict[str, Any] | str | None]
Fault = Callable[[dict[str, Any]], Answer | None]
"""Gets the request's body; an answer instead of the right one, None to drop the connection."""


def hang(seconds: float) -> Fault:
    def fault(_: dict[str, Any]) -> Answer:
        time.sleep(seconds)
        return 200, {}

    return fault


def drop(_: dict[str, Any]) -> None:
    return None


class FakeVLLM:
    """`calls` are the paths that were asked, `bodies` what was sent there; `faults[path]` come before right answers."""

    def __init__(self, path: str) -> None:
        self.path, self.port = path, 0
        self.saved = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.calls: list[str] = []
        self.bodies: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.missing: set[str] = set()
        self.heeds_temperature = True
        self.lock = threading.Lock()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.model = deepcopy(self.saved)
        self.label, self.adapters = "default", dict[str, Any]()
        self.connections: set[socket.socket] = set()
        self.alive = True
        self.http = ThreadingHTTPServer(("127.0.0.1", self.port), self.handler())
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        self.thread.start()

    def kill(self) -> None:
        """As kill -9 does it: connections break, weights are gone."""
        self.alive = False
        self.http.shutdown()
        self.http.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restart(self) -> None:
        self.kill()
        self.start()

    def dies(self, after: float = 0.0) -> Fault:
        """Drops the connection and everything else, and is back after so many seconds."""

        def fault(_: dict[str, Any]) -> None:
            def again() -> None:
                self.kill()
                time.sleep(after)
                self.start()

            threading.Thread(target=again, daemon=True).start()
            time.sleep(0.05)

        return fault

    def handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                fake.connections.add(self.connection)

            def finish(self) -> None:
                fake.connections.discard(self.connection)
                with suppress(OSError):
                    super().finish()

            def do_GET(self) -> None:
                self.reply({})

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                self.reply(json.loads(self.rfile.read(size)) if size else {})

            def reply(self, body: dict[str, Any]) -> None:
                path = self.path.split("?")[0]
                with fake.lock:
                    fake.calls.append(path)
                    fake.bodies[path].append(body)
                    fault = fake.faults[path].pop(0) if fake.faults[path] else None
                answer = fault(body) if fault else fake.answer(path, body)
                if answer is None or not fake.alive:
                    self.close_connection = True
                    with suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, said = answer
                data = (said if isinstance(said, str) else json.dumps(said)).encode() if said is not None else b""
                with suppress(OSError):
                    self.send_response(status)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def answer(self, path: str, body: dict[str, Any]) -> Answer:
        if path in self.missing:
            return 404, {"detail": "Not Found"}
        name = path.strip("/").replace("/", "_")
        with self.lock:
            return getattr(self, name)(body)

    def health(self, _: dict[str, Any]) -> Answer:
        return 200, None

    def v1_models(self, _: dict[str, Any]) -> Answer:
        return 200, {"data": [{"id": "served", "root": self.path, "max_model_len": LENGTH}]}

    def weight_info(self, _: dict[str, Any]) -> Answer:
        return 200, {"weight_version": self.label}

    def update_weight_version(self, body: dict[str, Any]) -> Answer:
        self.label = body["new_version"]
        return 200, {"success": True}

    def reset_prefix_cache(self, _: dict[str, Any]) -> Answer:
        return 200, {"success": True}

    def collective_rpc(self, body: dict[str, Any]) -> Answer:
        assert body["method"] == "reload_weights"
        weights: dict[str, Any] = {}
        for file in Path(body["kwargs"]["weights_path"]).glob("*.safetensors"):
            weights |= load_file(file)
        self.model.load_state_dict(weights)
        return 200, {"results": [None]}

    def v1_load_lora_adapter(self, body: dict[str, Any]) -> Answer:
        if body["lora_name"] in self.adapters:
            return 400, error("has already been loaded")
        self.adapters[body["lora_name"]] = PeftModel.from_pretrained(deepcopy(self.model), body["lora_path"]).eval()
        return 200, "Success"

    def v1_unload_lora_adapter(self, body: dict[str, Any]) -> Answer:
        if self.adapters.pop(body["lora_name"], None) is None:
            return 404, error("cannot be found")
        return 200, "Success"

    def v1_completions(self, body: dict[str, Any]) -> Answer:
        if max(body["prompt"]) >= self.model.config.vocab_size:
            return 400, error(f"Token id {max(body['prompt'])} is out of vocabulary")
        if body["model"] != "served" and body["model"] not in self.adapters:
            return 404, error(f"The model `{body['model']}` does not exist.")
        model = self.adapters.get(body["model"], self.model)
        n, seed = body.get("n", 1), body.get("seed", 0)
        return 200, {"choices": [self.choice(model, body, k, seed + k) for k in reversed(range(n))]}

    @torch.no_grad()
    def choice(self, model: Any, body: dict[str, Any], index: int, seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        ids, logprobs, reason = list(body["prompt"]), list[float](), "length"
        heat = body.get("temperature", 1.0) if self.heeds_temperature else 1.0
        for _ in range(body["max_tokens"]):
            scores = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1] / heat, -1)
            ids.append(int(torch.multinomial(scores.exp(), 1, generator=generator)))
            logprobs.append(float(scores[ids[-1]]))
            if ids[-1] in body.get("stop_token_ids", []):
                reason = "stop"
                break
        drawn = ids[len(body["prompt"]) :]
        return {"index": index, "token_ids": drawn, "logprobs": {"token_logprobs": logprobs}, "finish_reason": reason}


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "code": 400}}
