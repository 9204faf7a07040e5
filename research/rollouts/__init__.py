"""Prompts → groups of completions: sampling engines, and the choice of the groups that train.

Slots: `Sampler` (the engine), `Source` (the origin of the completions that train), `Tool` (a function that the policy
may call while it writes), `Keep` (selects the groups that train: dynamic sampling) and `Retire` (selects the prompts
that are not drawn again).
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
