"""Prompts from a dataset of the Hugging Face hub, or from a local copy that `datasets` reads."""

from dataclasses import dataclass

from research.component import require
from research.prompts.rows import RowReader
from research.prompts.source import PromptSource
from research.prompts.tables import Table
from research.types import Prompt


@dataclass(frozen=True, kw_only=True)
class HubDataset(PromptSource):
    """Prompts from a dataset of the Hugging Face hub, or from a local copy of one.

    If the hub gives no answer within seconds, or HF_HUB_OFFLINE=1 is set, a cached dataset is read without it.
    """

    id: str
    """Name on the hub, or a path: a file or folder that `datasets` reads, or a folder written by `save_to_disk`."""
    split: str
    """Name of the split; that of a single file, or of a saved folder that records none, is `train`."""
    config: str | None = None
    """The configuration, if the dataset has several."""
    prompt_field: str
    """Field of the question; dots go into nested fields and lists, as in `messages.0.content`."""
    answer_field: str
    """Field of the reference answer, written the same way."""
    template: str = "{prompt}"
    """Prompt text, in which `{prompt}` stands for the question; no other brace has a meaning."""
    answer_pattern: str = ""
    """Regular expression whose first group, where it first matches, is the answer; empty for the whole field."""
    solution_field: str = ""
    """Field of a reference solution to imitate, written the same way; empty for none."""
    limit: int | None = None
    """Take only so many prompts, from the beginning; at least 1."""

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, f"HubDataset: limit is at least 1, got {self.limit}")
        RowReader.of(self)

    def load(self) -> list[Prompt]:
        """The prompt of each row of the split, in its order."""
        table = Table(id=self.id, split=self.split, config=self.config)
        rows, reader = table.rows(self.limit), RowReader.of(self)
        return [
            reader.prompt(row, id=f"{table.name}/{number}", place=f"{self.id}, split {self.split}, row {number}")
            for number, row in enumerate(rows)
        ]
