"""Results of a run, in files and in MLflow.

A run writes `metrics.jsonl`, one line for each step, and MLflow is filled from that file. So tracking does not slow a
step down, a resumed run logs no step twice, and a lost MLflow database can be filled again.
"""

from research.tracking.contents import CONFIG, RESULT
from research.tracking.databases import connect, without_password
from research.tracking.files import (
    ITEMS,
    METRICS,
    SAMPLES,
    RunLogger,
    merged_steps,
    read_lines,
    replace_bytes,
    replace_text,
)
from research.tracking.tracker import Tracker

__all__ = [
    "CONFIG",
    "ITEMS",
    "METRICS",
    "RESULT",
    "SAMPLES",
    "RunLogger",
    "Tracker",
    "connect",
    "merged_steps",
    "read_lines",
    "replace_bytes",
    "replace_text",
    "without_password",
]
