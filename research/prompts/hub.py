"""Prompts from a dataset of the Hugging Face hub, or from a local copy that `datasets` reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.component import require
from research.errors import UserError
from research.prompts.rows import RowReader
from research.prompts.source import PromptSource
from research.types import Prompt

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv", ".arrow": "arrow"}
"""Which reader of `datasets` reads a single file."""


@dataclass(frozen=True, kw_only=True)
class HubDataset(PromptSource):
    """Prompts from a dataset of the Hugging Face hub, or from a local copy of one.

    With the environment variable HF_HUB_OFFLINE=1 a cached dataset is read without asking the hub first.
    """

    id: str
    """Name on the hub, or a path: a file or folder that `datasets` reads, or a folder written by `save_to_disk`."""
    split: str
    """Which split; a single file, and a saved folder that records no split, is called `train`."""
    config: str | None = None
    """Which of the dataset's configurations, where it has several."""
    prompt_field: str
    """Field of the question; dots go into nested fields and lists, as in `messages.0.content`."""
    answer_field: str
    """Field of the reference answer, written the same way."""
    template: str = "{prompt}"
    """Prompt text, in which `{prompt}` stands for the question; no other brace has a meaning."""
    answer_pattern: str = ""
    """Regular expression whose first group, where it first matches, is the answer; empty: the whole field is."""
    solution_field: str = ""
    """Field of a reference solution to imitate, written the same way; empty: the rows have none."""
    limit: int | None = None
    """Take only so many prompts, from the beginning; at least 1."""

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, f"HubDataset: limit is at least 1, got {self.limit}")
        RowReader.of(self)

    def load(self) -> list[Prompt]:
        """The prompt of each row of the split, in its order."""
        local = Path(self.id).expanduser()
        rows, reader = self._local(local) if local.exists() else self._from_hub(), RowReader.of(self)
        if not len(rows):
            raise UserError(f"dataset {self.id!r} has no row in split {self.split!r}")
        named = "/".join(part for part in (local.name if local.exists() else self.id, self.config, self.split) if part)
        chosen = rows if self.limit is None else rows.select(range(min(self.limit, len(rows))))
        return [
            reader.prompt(row, id=f"{named}/{number}", place=f"{self.id}, split {self.split}, row {number}")
            for number, row in enumerate(chosen)
        ]

    def _from_hub(self) -> Any:
        """The rows of a dataset called by its name."""
        from datasets import load_dataset

        if self.id.startswith((".", "/", "~")) or self.id.count("/") > 1:
            raise UserError(
                f"no file or folder {self.id!r}: give the path of a local copy, or a dataset's name on the hub"
            )
        with self._sentences():
            return load_dataset(self.id, self.config, split=self.split)

    def _local(self, path: Path) -> Any:
        """The rows of a local copy."""
        from datasets import load_dataset

        saved = path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "state.json").exists())
        if self.config is not None and (saved or path.is_file()):
            raise UserError(f"{path} has no configurations: leave config out instead of {self.config!r}")
        with self._sentences(), _no_progress_bars():
            if saved:
                return self._saved(path)
            if path.is_file():
                return load_dataset(_format(path), data_files=str(path), split=self.split)
            return load_dataset(str(path), self.config, split=self.split)

    def _saved(self, path: Path) -> Any:
        """The rows of one split of a folder written by `save_to_disk`."""
        from datasets import Dataset, load_from_disk

        saved = load_from_disk(str(path))
        splits = {str(saved.split or "train"): saved} if isinstance(saved, Dataset) else saved
        if self.split not in splits:
            raise UserError(f"{path} has no split {self.split!r}; there are: {', '.join(map(str, splits))}")
        return splits[self.split]

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn what `datasets` raises into one sentence."""
        from datasets.exceptions import DatasetsError

        name = f"dataset {self.id!r}" + (f" (config {self.config!r})" if self.config else "")
        copy = "set id to the path of a local copy (a file or folder that `datasets` reads or has saved)"
        try:
            yield
        except ConnectionError as error:
            remedy = f"connect to the network once, so that it is cached, or {copy}"
            raise UserError(f"{name} is neither cached on this machine nor reachable on the hub: {remedy}") from error
        except (DatasetsError, OSError, ValueError, LookupError) as error:
            also = "" if Path(self.id).expanduser().exists() else f", or {copy}"
            reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
            raise UserError(f"{name} cannot be read: {reason}; correct id, config or split{also}") from error


def _format(path: Path) -> str:
    """The reader that a file's name asks for, compressed or not."""
    for suffix in reversed(path.suffixes):
        if suffix in _FORMATS:
            return _FORMATS[suffix]
    raise UserError(
        f"{path} has no format that can be told from its name; give a file that ends in {', '.join(_FORMATS)}"
    )


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep `datasets` quiet while it reads what is already here."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
