"""Completions → rewards: verifiers decide what is right, shaping adds what the length deserves.

Slots: `Verifier` (a list; a completion is right when all accept it), `Shaping` (a list of terms that are added, so
order cannot matter), `TokenReward` (a list, of single tokens) and `StepVerifier` (of the steps of a completion).
Dynamic sampling looks at the outcome, which is the reward before shaping.
"""

from research.rewards.group_length import GroupRelativeOverlong, KimiLength
from research.rewards.length import CosineLength, LengthExact, LengthMax
from research.rewards.repetition import RepetitionPenalty
from research.rewards.rewards import Rewards
from research.rewards.shaping import OverlongPenalty, Shaping
from research.rewards.steps import ArithmeticSteps, NoSteps, StepVerifier
from research.rewards.tokens import ReferenceKL, TokenKL, TokenReward
from research.rewards.verifiers import ExactAnswer, ReasoningGymAnswer, Verifier

__all__ = [
    "ArithmeticSteps",
    "CosineLength",
    "ExactAnswer",
    "GroupRelativeOverlong",
    "KimiLength",
    "LengthExact",
    "LengthMax",
    "NoSteps",
    "OverlongPenalty",
    "ReasoningGymAnswer",
    "ReferenceKL",
    "RepetitionPenalty",
    "Rewards",
    "Shaping",
    "StepVerifier",
    "TokenKL",
    "TokenReward",
    "Verifier",
]
