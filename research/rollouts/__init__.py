"""Prompts → groups of completions: sampling engines, and which groups train.

Slots: `Sampler` (the engine) and `Keep` (which groups train: dynamic sampling lives here).
"""

from research.rollouts.collect import Collected, Collector
from research.rollouts.compact import CompactSampler
from research.rollouts.keep import Keep, KeepAll, MixedOutcomes
from research.rollouts.sampler import Decoding, Sampler
from research.rollouts.scripted import ScriptedSampler
from research.rollouts.transformers import TransformersSampler

__all__ = [
    "Collected",
    "Collector",
    "CompactSampler",
    "Decoding",
    "Keep",
    "KeepAll",
    "MixedOutcomes",
    "Sampler",
    "ScriptedSampler",
    "TransformersSampler",
]
