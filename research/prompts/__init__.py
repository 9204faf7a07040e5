"""Where prompts come from, and in which order they are drawn.

A `PromptSource` loads prompts with their reference answers; `PromptData` is the LightningDataModule that draws from
one for training, in a seeded order with a position that a checkpoint keeps, and from another for evaluation.
"""

from research.prompts.arithmetic import Arithmetic, Difficulty, right_steps, worked_solution
from research.prompts.datamodule import PromptData
from research.prompts.gym import ReasoningGym
from research.prompts.hub import HubDataset
from research.prompts.jsonl import LocalJsonl
from research.prompts.source import PromptSource
from research.prompts.stream import PromptStream

__all__ = [
    "Arithmetic",
    "Difficulty",
    "HubDataset",
    "LocalJsonl",
    "PromptData",
    "PromptSource",
    "PromptStream",
    "ReasoningGym",
    "right_steps",
    "worked_solution",
]
