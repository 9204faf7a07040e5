"""Completions → rewards: verifiers decide what is right, and shaping adds terms, such as a penalty for length.

Slots: `Verifier` (a list; a completion is right when all accept it), `RewardFunction` (a list of graded rewards, format
among them), `Shaping` (a list of terms that are added, so order cannot matter), `TokenReward` (a list, of single
tokens) and `StepVerifier` (of the steps of a completion). Dynamic sampling looks at the outcome, which is the reward
before shaping. A completion that could not be judged has no reward, and is left out of every baseline (see `verdicts`).
"""

from research.rewards.answer_line import AnswerLine
from research.rewards.countdown import CountdownAnswer
from research.rewards.function import FunctionReward, FunctionVerifier
from research.rewards.group_length import GroupRelativeOverlong, KimiLength
from research.rewards.isolated import MathVerifyAnswer, ReasoningGymAnswer
from research.rewards.length import CosineLength, LengthExact, LengthMax
from research.rewards.repetition import RepetitionPenalty
from research.rewards.reward_functions import RewardFunction, TagFormat
from research.rewards.rewards import Rewards
from research.rewards.shaping import OverlongPenalty, Shaping
from research.rewards.solution import NumberInSolution, SolutionAnswer, SolutionFormat, TagsOnce
from research.rewards.steps import ArithmeticSteps, NoSteps, StepVerifier
from research.rewards.tokens import ReferenceKL, TokenKL, TokenReward
from research.rewards.verifiers import ChoiceAnswer, ExactAnswer, NumericAnswer, Verifier

__all__ = [
    "AnswerLine",
    "ArithmeticSteps",
    "ChoiceAnswer",
    "CosineLength",
    "CountdownAnswer",
    "ExactAnswer",
    "FunctionReward",
    "FunctionVerifier",
    "GroupRelativeOverlong",
    "KimiLength",
    "LengthExact",
    "LengthMax",
    "MathVerifyAnswer",
    "NoSteps",
    "NumberInSolution",
    "NumericAnswer",
    "OverlongPenalty",
    "ReasoningGymAnswer",
    "ReferenceKL",
    "RepetitionPenalty",
    "RewardFunction",
    "Rewards",
    "Shaping",
    "SolutionAnswer",
    "SolutionFormat",
    "StepVerifier",
    "TagFormat",
    "TagsOnce",
    "TokenKL",
    "TokenReward",
    "Verifier",
]
