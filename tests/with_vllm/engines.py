"""Small policies, engines that sample from them, and how far the two are apart."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from research.policy import LoRA, Policy, PolicySpec, TinyModel, character_tokenizer, tiny_model
from research.prompts.arithmetic import ALPHABET
from research.rollouts import Decoding, VLLMSampler
from research.training.batch import assemble
from research.training.sync import Sync
from research.types import Completion, Group, Prompt, UpdateBatch

SHAPE = TinyModel(hidden=64, layers=2, heads=2, feedforward=128, positions=256)
PROMPTS = [Prompt(id=text, text=text, answer="") for text in ("1+2=", "34-5=", "7+8-9=", "0+0=")]
LONG = [Prompt(id="long", text="1+2=3;" * 30, answer="")]
"""Longer than a block of the engine's cache: its keys and values are kept for the next request."""
PARITY = 1e-4
"""Nats. Both sides compute in float32, in another order: a few units of the last place, 5e-7 seen."""
FOREIGN = 0.1
"""Nats. What other weights make of the same tokens differs by more."""


def saved(folder: Path, *, tied: bool) -> Path:
    tokenizer = character_tokenizer(ALPHABET)
    model = tiny_model(SHAPE, tokenizer, seed=0)
    if not tied:
        model.config.tie_word_embeddings = False
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model.lm_head.weight = torch.nn.Parameter(0.05 * torch.randn_like(model.lm_head.weight))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def loaded(folder: Path, lora: LoRA | None = None, temperature: float = 1.0) -> Policy:
    spec = PolicySpec(path=str(folder), lora=lora, precision="float32")
    return Policy(spec, temperature=temperature, with_reference=False)


def started(policy: Policy, **settings: Any) -> VLLMSampler:
    sampler = VLLMSampler(tolerance=PARITY, kv_cache_gib=0.125, enforce_eager=True, **settings)
    sampler.attach(policy.model, policy.tokenizer)
    sampler.sync(0)
    return sampler


def batch_of(policy: Policy, groups: Sequence[Group]) -> UpdateBatch:
    return assemble(groups, pad=policy.tokenizer.pad_token_id, device=policy.model.device)


def gap(sampler: VLLMSampler, policy: Policy, prompts: Sequence[Prompt] = PROMPTS, temperature: float = 1.0) -> float:
    """How far the engine's log-probabilities of fresh completions are from the policy's; nats, the largest."""
    decoding = Decoding(max_tokens=12, temperature=temperature)
    batch = batch_of(policy, sampler.sample(prompts, n=2, decoding=decoding, seed=0))
    with policy.at_temperature(temperature):
        values = policy.annotate(batch, 10_000)
    return float((values.logprobs - batch["rollout_logprobs"]).abs()[batch["mask"]].max())


def shake(policy: Policy, seed: int, by: float = 2.0) -> None:
    """Give the trained matrices other values, which depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad and parameter.dim() == 2:
                parameter.copy_(by * torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)


def completions(groups: Sequence[Group]) -> list[Completion]:
    return [completion for group in groups for completion in group.completions]


def prove(sampler: VLLMSampler, policy: Policy, version: int, temperature: float = 1.0) -> dict[str, float]:
    """Bring the sampler to this version as a training step does, and measure."""
    decoding = Decoding(max_tokens=16, temperature=temperature)
    sync = Sync(sampler, policy, assemble=partial(batch_of, policy), decoding=decoding)
    return sync(version, PROMPTS, seed=version)
