"""What a run leaves behind: files that are the truth, and their mirror in MLflow.

A run writes `metrics.jsonl`, one line a step. MLflow is filled from that file, never from the training loop, so it
costs a step nothing, a resumed run logs no step twice, and a lost MLflow database can be filled again.
"""

from research.tracking.contents import CONFIG, RESULT
from research.tracking.databases import connect, without_password
from research.tracking.files import ITEMS, METRICS, SAMPLES, RunLogger, merged_steps, read_lines, replace_text
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
    "replace_text",
    "without_password",
]
