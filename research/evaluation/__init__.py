"""The policy's accuracy on held-out prompts: avg@k and pass@k, item by item."""

from research.evaluation.estimators import avg_at_k, pass_at_k
from research.evaluation.evaluation import Evaluation

__all__ = ["Evaluation", "avg_at_k", "pass_at_k"]
