"""Completions → rewards: verifiers decide what is right, shaping adds what the length deserves.

Slots: `Verifier` (a list; a completion is right when all accept it) and `Shaping` (a list of terms that are added, so
order cannot matter). Dynamic sampling looks at the outcome, which is the reward before shaping.
"""

from research.rewards.rewards import Rewards
from research.rewards.shaping import OverlongPenalty, Shaping
from research.rewards.verifiers import ExactAnswer, ReasoningGymAnswer, Verifier

__all__ = ["ExactAnswer", "OverlongPenalty", "ReasoningGymAnswer", "Rewards", "Shaping", "Verifier"]
