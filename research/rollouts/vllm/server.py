"""A sampler that uses a running vLLM server, on another device or another host."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from logging import getLogger
from math import inf
from time import monotonic
from typing import TypeVar
from uuid import uuid4

from torch import distributed, nn
from transformers import PreTrainedTokenizerBase

from research.component import require
from research.errors import UserError
from research.rollouts.sampler import Decoding, Sampler, prompt_tokens
from research.rollouts.transformers import end_tokens
from research.rollouts.vllm.completions import Call, Completions, common_gaps
from research.rollouts.vllm.http import Server, ServerError
from research.rollouts.vllm.requests import check_room
from research.rollouts.vllm.routes import Route, is_first_rank
from research.rollouts.weights import base_model, is_adapted
from research.types import Group, Prompt

FRESH = "default"
"""vLLM's label for the weights that a server starts with."""
ADAPTER = "/adapter"
"""Ending of the label of adapters; the weights below them are those that the server started with."""
LOSSES = 3
"""Number of failures in one rollout or sync at which the run ends with an error."""
REMEMBERED = 4
"""Number of prompts that are sampled again after a restart, for comparison."""
Result = TypeVar("Result")
Known = TypeVar("Known")


class VLLMServerSampler(Sampler):
    """Samples with a vLLM server that is already running, over HTTP.

    The server is started by hand, with the policy's own path, so that its tokens are the policy's:

        VLLM_SERVER_DEV_MODE=1 vllm serve <path> --logprobs-mode processed_logprobs --generation-config vllm

    and for a policy with adapters also with `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`, `--enable-lora` and
    `--max-lora-rank <rank>`. These settings allow changes to the server, so only a trusted network may reach it. A run
    needs a server of its own.

    Prompts are sent as tokens, in one request each. The server's weights carry a label with the run and the version. A
    server that was restarted has lost the label. It then gets the weights again, its samples are compared with earlier
    ones, and the interrupted call is repeated. Every request has its own seed, so the repetition gives the same groups.

    Args:
        url: address of the server, such as `http://host:8000`.
        route: transfers the weights to the server.
        tolerance: largest accepted difference to the policy's log-probability of a token, in nats; above 0. In float32
            1e-4 is enough, in bfloat16 about 0.2.
        request_timeout: time limit for one request, in seconds; above 0.
        restart_timeout: longest absence of the server, in seconds; at least 0.
        rollout_timeout: time limit for one call of `sample` with its repetitions, in seconds; above 0.
        concurrency: most requests that are under way at a time; at least 1.
    """

    def __init__(
        self,
        *,
        url: str,
        route: Route,
        tolerance: float,
        request_timeout: float = 600.0,
        restart_timeout: float = 600.0,
        rollout_timeout: float = 3600.0,
        concurrency: int = 64,
    ) -> None:
        require(url.startswith(("http://", "https://")), f"VLLMServerSampler: url begins with http://, got {url!r}")
        require(tolerance > 0, f"VLLMServerSampler: tolerance is above 0, got {tolerance}")
        require(request_timeout > 0, f"VLLMServerSampler: request_timeout is above 0, got {request_timeout}")
        require(restart_timeout >= 0, f"VLLMServerSampler: restart_timeout is at least 0, got {restart_timeout}")
        require(rollout_timeout > 0, f"VLLMServerSampler: rollout_timeout is above 0, got {rollout_timeout}")
        require(concurrency >= 1, f"VLLMServerSampler: concurrency is at least 1, got {concurrency}")
        self.route, self.tolerance, self.concurrency = route, tolerance, concurrency
        self.restart_timeout, self.rollout_timeout = restart_timeout, rollout_timeout
        self.server = Server(url, request_timeout=request_timeout, connections=concurrency)
        self.run, self.label, self.version = uuid4().hex[:12], FRESH, -1
        self.restarts = 0
        self._first: tuple[Call, list[Group]] | None = None
        self._doubtful = False

    def attach(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        """Sample for this model from now on.

        Raises: UserError if the server cannot be reached, or does not serve this policy.
        """
        self.tokenizer, self.version, self._first = tokenizer, -1, None
        self.server.check_health()
        served = self.server.get("/v1/models", "data")[0]
        self.name, self.limit = str(served["id"]), int(served["max_model_len"])
        self.adapted, self.label = is_adapted(model), self.server.weights_label()
        if self.adapted and self.label != FRESH and not self.label.endswith(ADAPTER):
            raise UserError(
                f"the vLLM server at {self.server.url} has weights that a run without adapters sent ({self.label}): "
                "restart it, so that it has the weights that the adapters belong to"
            )
        self.route.attach(self.server, model)
        self.completions = Completions(
            server=self.server,
            tokenizer=tokenizer,
            end_tokens=sorted(end_tokens(model)),
            model=lambda: self.route.served(self.name),
            concurrency=self.concurrency,
        )
        self._check_vocabulary(last_token(model), str(served.get("root", self.name)))

    def _check_vocabulary(self, last: int, root: str) -> None:
        """Check that the server's model reads the policy's last token.

        Raises: UserError if it does not.
        """
        try:
            self.server.ask("/v1/completions", "choices", {"model": self.name, "prompt": [last], "max_tokens": 1})
        except ServerError as error:
            if error.status != 400:
                raise
            raise UserError(
                f"the vLLM server at {self.server.url} serves {root!r}, which does not read "
                f"the policy's last token {last}: serve the policy's own path. ({error})"
            ) from error

    def sync(self, version: int) -> dict[str, float]:
        """Send the current weights. All ranks gather sharded weights, and the first one talks to the server.

        Raises: UserError on every rank if that fails.
        """
        if version == self.version:
            return {}
        sent, fault, label = 0, None, f"{self.run}/{version}{ADAPTER if self.adapted else ''}"
        try:
            sent = self.route.prepare(version)
            if is_first_rank():
                self._in_spite_of_losses(lambda: self._send(label), inf)
        except UserError as error:
            fault = str(error)
        label, first_fault = _of_first_rank((label, fault))
        if (fault := fault or first_fault) is not None:
            raise UserError(fault)
        self.label, self.version, self._first = label, version, None
        return {"rollouts/sync_bytes": float(sent), "rollouts/server_restarts": float(self.restarts)}

    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        """Draw n completions of each prompt; a restart of the server in between does not change them.

        Raises: UserError if a prompt has too little room, or if the server refuses or does not come back.
        """
        if not prompts:
            return []
        ids = prompt_tokens(prompts, self.tokenizer)
        check_room(prompts, ids, decoding, self.limit)
        end = monotonic() + self.rollout_timeout
        call = Call(prompts=prompts, prompt_ids=ids, n=n, decoding=decoding, seed=seed, end=end)
        groups = self._in_spite_of_losses(lambda: self._sampled(call), end)
        if self._first is None:
            self._first = (replace(call, prompts=prompts[:REMEMBERED]), groups[:REMEMBERED])
        return groups

    def close(self) -> None:
        """Remove this run's adapters and files from the server, and close the connections."""
        self.route.close()
        self.server.close()

    # --- weights --------------------------------------------------------------------------------------------------

    def _send(self, label: str) -> None:
        """Send the prepared weights, empty the server's cache, and label the weights."""
        self.route.send()
        if not self.server.ask("/reset_prefix_cache?reset_running_requests=true", "success"):
            raise ServerError(
                f"the vLLM server at {self.server.url} does not empty its cache after a sync: restart it."
            )
        self.server.post("/update_weight_version", {"new_version": label})

    def _keep_weights(self, end: float) -> None:
        """Check that the server has this run's weights. After a restart, send them again and compare samples.

        Raises: UserError if it has another run's weights, or if its samples differ from earlier ones.
        """
        label = self.server.weights_label()
        if label not in (self.label, FRESH):
            raise UserError(
                f"the vLLM server at {self.server.url} has weights of another run ({label}, not {self.label}): give "
                "each run a server of its own"
            )
        if label != self.label:
            self._doubtful = True
            with self.route.alone():
                if self.server.weights_label() != self.label:
                    self._send(self.label)
            self.restarts += 1
            getLogger(__name__).warning(
                "the vLLM server at %s was restarted: the weights have been sent again", self.server.url
            )
        if self._doubtful:
            self._compare(end)
            self._doubtful = False

    def _compare(self, end: float) -> None:
        """Repeat the first samples with these weights, which were compared with the policy at the time.

        Two runs of one engine may diverge where two tokens are about equally likely; until then they agree.

        Raises: UserError if the new samples differ.
        """
        if self._first is None:
            return
        assert self.tolerance is not None
        call, before = self._first
        after = self.completions(replace(call, end=end))
        tokens = sum(len(completion.token_ids) for group in before for completion in group.completions)
        gaps = common_gaps(before, after)
        if len(gaps) < tokens / 2 or not max(gaps) <= self.tolerance:
            raise UserError(
                f"the vLLM server at {self.server.url} was restarted and is not what it was: with the weights sent "
                f"again, {len(gaps)} of {tokens} tokens are the same, their log-probabilities up to "
                f"{max(gaps, default=0.0):.2g} nats apart (at most {self.tolerance:g} is accepted). Start it as before."
            )

    # --- requests -------------------------------------------------------------------------------------------------

    def _in_spite_of_losses(self, act: Callable[[], Result], end: float) -> Result:
        """Call `act`. Whenever the server is lost, wait for it and call `act` again.

        Raises: UserError if the server does not come back or is lost too often, ServerError for other failures.
        """
        losses = 0
        while True:
            try:
                return act()
            except ServerError as error:
                losses += 1
                label = self.server.wait(min(self.restart_timeout, max(0.0, end - monotonic())))
                if label == self.label and not error.away:
                    raise
                if losses == LOSSES:
                    raise UserError(f"{error} That was the {LOSSES}rd time at the same work.") from error

    def _sampled(self, call: Call) -> list[Group]:
        """The groups of a call, all drawn with the same weights."""
        self._keep_weights(call.end)
        groups = self.completions(call)
        if self.server.weights_label() != self.label:
            raise ServerError(f"the vLLM server at {self.server.url} was restarted while it sampled.", away=True)
        return groups


def last_token(model: nn.Module) -> int:
    """The highest token id that the model reads."""
    embedding = base_model(model).get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding.num_embeddings - 1


def _of_first_rank(value: Known) -> Known:
    """The first rank's value, on every rank."""
    known = [value]
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        distributed.broadcast_object_list(known, src=0)
    return known[0]
