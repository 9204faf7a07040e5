"""The public datasets that a recipe can call by name."""

from collections.abc import Mapping

from research.prompts.datasets.description import Description
from research.prompts.datasets.evaluation import EVALUATION
from research.prompts.datasets.training import TRAINING

DATASETS: Mapping[str, Description] = {entry.name: entry for entry in (*TRAINING, *EVALUATION)}
"""Description by name."""
