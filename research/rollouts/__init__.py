"""Prompts → groups of completions: sampling engines, and which groups train.

Slots: `Sampler` (the engine), `Tool` (what the policy may call while it writes), `Keep` (which groups train: dynamic
sampling lives here) and `Retire` (which prompts are not drawn again).
"""

from research.rollouts.collect import Collected, Collector
from research.rollouts.compact import CompactSampler
from research.rollouts.keep import Keep, KeepAll, MixedOutcomes
from research.rollouts.retire import Retire, RetireNone, RetireSolved
from research.rollouts.rollouts import Rollouts
from research.rollouts.sampler import Decoding, Sampler
from research.rollouts.scripted import ScriptedSampler
from research.rollouts.source import CurrentPolicy, Demonstrations, Source, StartPolicy
from research.rollouts.tool import Answer, Calculator, Tool
from research.rollouts.tool_sampler import ToolSampler
from research.rollouts.transformers import TransformersSampler
from research.rollouts.vllm.nccl import NCCLRoute
from research.rollouts.vllm.routes import CheckpointRoute, Route
from research.rollouts.vllm.sampler import VLLMSampler
from research.rollouts.vllm.server import VLLMServerSampler

__all__ = [
    "Answer",
    "Calculator",
    "CheckpointRoute",
    "Collected",
    "Collector",
    "CompactSampler",
    "CurrentPolicy",
    "Decoding",
    "Demonstrations",
    "Keep",
    "KeepAll",
    "MixedOutcomes",
    "NCCLRoute",
    "Retire",
    "RetireNone",
    "RetireSolved",
    "Rollouts",
    "Route",
    "Sampler",
    "ScriptedSampler",
    "Source",
    "StartPolicy",
    "Tool",
    "ToolSampler",
    "TransformersSampler",
    "VLLMSampler",
    "VLLMServerSampler",
]
