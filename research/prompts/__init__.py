"""Prompts: their sources, and the order in which they are drawn.

A `PromptSource` loads prompts with their reference answers. `PromptData` is the LightningDataModule: it draws training
prompts from one source, in a seeded order whose position a checkpoint keeps, and takes evaluation prompts from another.
`Targets` can make every prompt ask for a length.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from research.prompts.arithmetic import Arithmetic, Difficulty, accepted_steps, right_steps, worked_solution
    from research.prompts.chat import Chat, ChatTemplate, PlainText
    from research.prompts.countdown import Countdown
    from research.prompts.datamodule import PromptData
    from research.prompts.datasets.description import Description, Fields
    from research.prompts.datasets.named import NamedDataset
    from research.prompts.extraction import Extraction, Formula, LastBoxed, Pattern, WholeField, WholeNumber
    from research.prompts.filters import AnswerMatches, DistinctQuestions, DropLongest, FieldRange, Filter, MaxLength
    from research.prompts.gym import ReasoningGym
    from research.prompts.hub import HubDataset
    from research.prompts.jsonl import LocalJsonl
    from research.prompts.mixture import ReasoningGymMixture, Together, WeightedTask
    from research.prompts.overlap import NoOverlap
    from research.prompts.source import PromptSource
    from research.prompts.stream import PromptStream
    from research.prompts.targets import LengthTarget, NoTarget, Targets
else:
    from research.lazy import exports

    __getattr__ = exports(__name__)

__all__ = [
    "AnswerMatches",
    "Arithmetic",
    "Chat",
    "ChatTemplate",
    "Countdown",
    "Description",
    "Difficulty",
    "DistinctQuestions",
    "DropLongest",
    "Extraction",
    "FieldRange",
    "Fields",
    "Filter",
    "Formula",
    "HubDataset",
    "LastBoxed",
    "LengthTarget",
    "LocalJsonl",
    "MaxLength",
    "NamedDataset",
    "NoOverlap",
    "NoTarget",
    "Pattern",
    "PlainText",
    "PromptData",
    "PromptSource",
    "PromptStream",
    "ReasoningGym",
    "ReasoningGymMixture",
    "Targets",
    "Together",
    "WeightedTask",
    "WholeField",
    "WholeNumber",
    "accepted_steps",
    "right_steps",
    "worked_solution",
]
