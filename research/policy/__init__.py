"""The policy: a causal language model, its reference, exact log-probabilities and entropies of completion tokens."""

from research.policy.adapters import LoRA
from research.policy.builtin import TinyModel, character_tokenizer, tiny_model
from research.policy.loading import PolicySpec
from research.policy.logprobs import completion_positions, entropies_of, logprobs_of, micro_batches
from research.policy.policy import Policy
from research.policy.reader import Reader, TokenValues
from research.policy.scalar import ScalarModel

__all__ = [
    "LoRA",
    "Policy",
    "PolicySpec",
    "Reader",
    "ScalarModel",
    "TinyModel",
    "TokenValues",
    "character_tokenizer",
    "completion_positions",
    "entropies_of",
    "logprobs_of",
    "micro_batches",
    "tiny_model",
]
