"""A study's folder → report.md, figures and the terminal's table, with the paper's numbers beside ours.

Reads what the study runner wrote (study.yaml, runs.csv, curves.csv, provenance.csv) and the paper's table under
experiments/papers. No number is stored here: each is computed from those files when the report is written.
"""

from research.reporting.report import write_report
from research.reporting.sections.tables import terminal_table

__all__ = ["terminal_table", "write_report"]
