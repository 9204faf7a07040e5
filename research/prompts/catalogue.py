"""The public datasets that a recipe can call by name."""

from collections.abc import Mapping

from research.prompts.catalogue_evaluation import EVALUATION
from research.prompts.catalogue_training import TRAINING
from research.prompts.description import Description

DATASETS: Mapping[str, Description] = {entry.name: entry for entry in (*TRAINING, *EVALUATION)}
"""Description by name."""
