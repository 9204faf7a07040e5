"""Ablations: named factors with named levels, composed into cells, run until each is complete, paired by seed."""

from research.ablation.designs import Cell, Comparison, design_cells
from research.ablation.spec import StudySpec, read_study

__all__ = ["Cell", "Comparison", "StudySpec", "design_cells", "read_study"]
