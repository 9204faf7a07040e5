"""A sampler with a vLLM engine in the training process, on the same device, for models of practical size."""

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from torch import nn
from transformers import PreTrainedTokenizerBase

from research.component import require
from research.rollouts.sampler import Decoding, Sampler, prompt_tokens
from research.rollouts.transformers import end_tokens
from research.rollouts.vllm.engine import Adapter, Drawn, Engine, check_installed
from research.rollouts.vllm.requests import adapter_settings, check_room, completion, sampling_parameters
from research.rollouts.weights import (
    AdapterFolder,
    Counted,
    adapter_rank,
    device_of,
    full_weights,
    is_adapted,
    save_shape,
)
from research.types import Completion, Group, Prompt

ROUNDING = 0.02
"""Rounding error of log-probabilities in half precision, at least, in nats."""


class VLLMSampler(Sampler):
    """Samples with a vLLM engine in this process, which gets the policy's weights after every update.

    The engine starts at the first sync, without weights. It then gets the whole model after every update; for a policy
    with LoRA it gets the model once and the adapters after every update. Prompts are tokenized here, and the model's
    own generation settings are ignored. The tokens of a completion depend only on the weights, the seed, the place of
    the prompt in the call and the number of the completion in its group.

    Each rank has an engine of its own on its device, where the model has to fit beside the trained one.

    Args:
        dtype: number format of the engine.
        tolerance: largest accepted difference to the policy's log-probability of a token right after a sync, in nats;
            above 0. In float32 1e-3 is ample; in bfloat16 take about 0.3.
        gpu_memory_utilization: share of the device's memory for the engine, weights included; in (0, 1].
        kv_cache_gib: memory for keys and values; null takes the rest of the engine's share. Set it on the CPU.
        max_model_len: most tokens of a prompt and its completion; null takes the model's own limit.
        enforce_eager: compile nothing and capture no CUDA graphs: starts faster and samples more slowly.
        sleep_level: memory that the engine frees during an update, on a GPU. 0: none. 1: keys and values, with the
            weights moved to host memory. 2: keys, values and weights, so that the next sync sends all weights.
    """

    def __init__(
        self,
        *,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        tolerance: float = 1e-3,
        gpu_memory_utilization: float = 0.3,
        kv_cache_gib: float | None = None,
        max_model_len: int | None = None,
        enforce_eager: bool = False,
        sleep_level: Literal[0, 1, 2] = 1,
    ) -> None:
        require(0 < tolerance < inf, f"VLLMSampler: tolerance is above 0, got {tolerance}")
        require(
            dtype == "float32" or tolerance > ROUNDING,
            f"VLLMSampler: {dtype} rounds log-probabilities by more than a tolerance of {tolerance} nats: give 0.3",
        )
        require(
            0 < gpu_memory_utilization <= 1,
            f"VLLMSampler: gpu_memory_utilization is in (0, 1], got {gpu_memory_utilization}",
        )
        require(
            kv_cache_gib is None or kv_cache_gib > 0,
            f"VLLMSampler: kv_cache_gib is above 0 or null, got {kv_cache_gib}",
        )
        require(
            max_model_len is None or max_model_len >= 2,
            f"VLLMSampler: max_model_len is at least 2 or null, got {max_model_len}",
        )
        self.dtype, self.tolerance, self.enforce_eager = dtype, tolerance, enforce_eager
        self.gpu_memory_utilization, self.kv_cache_gib = gpu_memory_utilization, kv_cache_gib
        self.max_model_len, self.sleep_level = max_model_len, sleep_level
        self.model: nn.Module | None = None
        self._forget()

    def _forget(self) -> None:
        self._engine: Engine | None = None
        self._adapters = AdapterFolder()
        self._adapter: Adapter | None = None
        self._version: int | None = None
        self._has_model = False
        self._asleep = False

    # --- weights ------------------------------------------------------------------------------------------------

    def attach(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        """Sample from this model from the next sync on, by when it is on the device where it is trained.

        Raises: UserError if vLLM is not installed.
        """
        check_installed(type(self).__name__)
        self.close()
        self.model, self.tokenizer = model, tokenizer

    @property
    def _attached(self) -> nn.Module:
        assert self.model is not None, "attach comes first"
        return self.model

    def sync(self, version: int) -> Mapping[str, float]:
        """Give the engine the current weights, after starting or waking it if necessary.

        A sleeping engine allocates memory for weights first, then gets them, then allocates memory for the cache.

        Raises: UserError if the engine does not start.
        """
        if self._engine is None:
            self._engine = self._start()
        if self._asleep:
            self._engine.wake("weights")
        taken = self._take_over(self._engine, version)
        if self._asleep:
            self._engine.wake("kv_cache")
        self._asleep, self._version = False, version
        self._engine.forget()
        return {"rollouts/sync_bytes": float(taken)}  # size of the weights loaded

    def _take_over(self, engine: Engine, version: int) -> int:
        """Load the weights that have changed, and return their size in bytes."""
        adapted, taken = is_adapted(self._attached), 0
        if not self._has_model or (version != self._version and not adapted):
            weights = Counted(full_weights(self._attached))
            engine.load(weights)
            self._has_model, taken = True, weights.bytes
        if adapted and version != self._version:
            taken += self._load_adapter(version)
        return taken

    def _load_adapter(self, version: int) -> int:
        """Load the adapters under a new name and number, because an engine caches them by both."""
        folder, written = self._adapters.save(self._attached, version)
        self._adapter = Adapter(name=f"version-{version}", number=version + 1, folder=str(folder))
        return written

    def sleep(self) -> None:
        """Free GPU memory for the update; on the CPU the engine keeps its memory."""
        if self._engine is not None and self._sleeps() and not self._asleep:
            self._engine.sleep(self.sleep_level)
            self._asleep = True
            self._has_model = self.sleep_level < 2

    def close(self) -> None:
        """Shut the engine down."""
        if self._engine is not None:
            self._engine.end()
        self._adapters.close()
        self._forget()

    def _sleeps(self) -> bool:
        return self.sleep_level > 0 and device_of(self._attached).type == "cuda"

    def _start(self) -> Engine:
        model = self._attached
        settings = adapter_settings(adapter_rank(model)) if is_adapted(model) else {}
        memory = {} if self.kv_cache_gib is None else {"kv_cache_memory_bytes": int(self.kv_cache_gib * 2**30)}
        with TemporaryDirectory(prefix="research-engine-") as folder:
            save_shape(model, Path(folder))
            self.tokenizer.save_pretrained(folder)
            return Engine(
                device_of(model),
                model=folder,
                runner="generate",
                load_format="dummy",
                dtype=self.dtype,
                max_model_len=self.max_model_len,
                generation_config="vllm",
                logprobs_mode="processed_logprobs",
                gpu_memory_utilization=self.gpu_memory_utilization,
                enforce_eager=self.enforce_eager,
                enable_sleep_mode=self._sleeps(),
                **settings,
                **memory,
            )

    # --- samples ------------------------------------------------------------------------------------------------

    def sample(self, prompts: Sequence[Prompt], *, n: int, decoding: Decoding, seed: int) -> list[Group]:
        """Draw n completions of each prompt; a pure function of the weights and the arguments.

        Raises: UserError if a prompt leaves too little room for its completions.
        """
        assert self._engine is not None, "sync comes first"
        assert not self._asleep, "sync wakes the engine"
        ids = prompt_tokens(prompts, self.tokenizer)
        check_room(prompts, ids, decoding, self._engine.longest)
        ending = sorted(end_tokens(self._attached))
        asked = [
            sampling_parameters(decoding.within(prompt), n=n, seed=seed, index=k, end_tokens=ending)
            for k, prompt in enumerate(prompts)
        ]
        outputs = self._engine.generate(ids, asked, self._adapter)
        return [
            Group(prompt=prompt, prompt_ids=tuple(row), completions=tuple(map(self._completion, output.outputs)))
            for prompt, row, output in zip(prompts, ids, outputs, strict=True)
        ]

    def _completion(self, output: Drawn) -> Completion:
        drawn = zip(output.token_ids, output.logprobs, strict=True)
        logprobs = [known[token].logprob for token, known in drawn]
        return completion(self.tokenizer, output.token_ids, logprobs, output.finish_reason)
