"""Evaluation settings of papers, by name."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The decoding settings of an evaluation, as published."""

    completions_per_prompt: int
    """k."""
    temperature: float
    """Temperature of sampling; without influence where it is greedy."""
    top_p: float
    """Probability mass that is sampled from."""
    top_k: int
    """1 is greedy, 0 keeps all tokens."""
    max_completion_tokens: int
    """A completion is cut here."""
    seeds: int
    """The number of seeds that the source averages over, or asks for."""
    source: str
    """The publication that states the settings."""

    def overrides(self) -> dict[str, int | float]:
        """The recipe keys that it sets."""
        return {
            f"model.evaluation.{name}": getattr(self, name)
            for name in ("completions_per_prompt", "temperature", "top_p", "top_k", "max_completion_tokens")
        }


PROTOCOLS: Mapping[str, Protocol] = {
    "dapo": Protocol(
        completions_per_prompt=32,
        temperature=1.0,
        top_p=0.7,
        top_k=0,
        max_completion_tokens=20480,
        seeds=1,
        source="Yu et al. 2025, DAPO, §4.1: avg@32 at temperature 1.0 and top-p 0.7 (arXiv:2503.14476); the "
        "limit is the training run's 16,384 tokens and its soft buffer of 4,096",
    ),
    "dr_grpo": Protocol(
        completions_per_prompt=1,
        temperature=1.0,
        top_p=1.0,
        top_k=1,
        max_completion_tokens=3000,
        seeds=1,
        source="Liu et al. 2025, Dr. GRPO: greedy, 3,000 tokens (arXiv:2503.20783)",
    ),
    "sober_look": Protocol(
        completions_per_prompt=1,
        temperature=0.8,
        top_p=0.9,
        top_k=0,
        max_completion_tokens=32768,
        seeds=10,
        source="Hochlehnert et al. 2025, A Sober Look: temperature 0.8, top-p 0.9, 32,768 tokens, mean of 10 seeds on "
        "AIME and AMC, 3 elsewhere (arXiv:2504.07086)",
    ),
}
"""Every protocol, by the name that `--protocol` takes."""
