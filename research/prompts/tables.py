"""Tables of rows: from the hub, from a file or folder, or from a folder that `datasets` has saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from research.errors import UserError
from research.prompts.rows import Row

if TYPE_CHECKING:
    from datasets import Dataset

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv", ".arrow": "arrow"}
"""File suffix → the reader of `datasets` for it."""

_PATIENCE = 5.0
"""Seconds to wait for the hub before a dataset is looked for in the cache alone."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The place of one split's rows."""

    id: str
    """Name on the hub, or the path of a local copy."""
    split: str
    """Name of the split; that of a single file, or of a saved folder that records none, is `train`."""
    config: str | None = None
    """The configuration, if there are several."""
    files: str = ""
    """On the hub, the one file that holds the split; empty leaves it to the dataset's card."""
    revision: str | None = None
    """On the hub, the branch or commit; None for the main branch."""
    any_split: bool = False
    """True to read a local copy that is a single table whatever its split is called."""
    option: str = "id"
    """The setting that names a local copy, for error sentences."""
    copy: str = "set id to the path of a local copy (a file or folder that `datasets` reads or has saved)"
    """Advice for a hub that is out of reach, for error sentences."""

    @property
    def local(self) -> Path | None:
        """The local copy; None if the rows are the hub's."""
        path = Path(self.id).expanduser()
        return path if path.exists() else None

    @property
    def name(self) -> str:
        """The table's name in the ids of its prompts."""
        place = self.local.name if self.local else self.id
        return "/".join(part for part in (place, self.config, self.split) if part)

    def rows(self, limit: int | None = None) -> Iterator[Row]:
        """The rows in their order, at most `limit` of them.

        Raises: UserError if there are none, or they cannot be read.
        """
        rows = self._from_hub() if self.local is None else self._local(self.local)
        if not len(rows):
            raise UserError(f"dataset {self.id!r} has no row in split {self.split!r}: give another split")
        chosen = rows if limit is None else rows.select(range(min(limit, len(rows))))
        return cast(Iterator[Row], iter(chosen))

    def _from_hub(self) -> "Dataset":
        from datasets import load_dataset

        if self.id.startswith((".", "/", "~")) or self.id.count("/") > 1:
            raise UserError(
                f"no file or folder {self.id!r}: give the path of a local copy, or a dataset's name on the hub"
            )
        files = {self.split: self.files} if self.files else None
        config = None if self.files else self.config  # where the files are named, there are no configurations
        with self._sentences(), _impatient(self.id):
            return load_dataset(self.id, config, split=self.split, data_files=files, revision=self.revision)

    def _local(self, path: Path) -> "Dataset":
        from datasets import load_dataset

        saved = path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "state.json").exists())
        if self.config is not None and (saved or path.is_file()):
            raise UserError(f"{path} has no configurations: leave config out instead of {self.config!r}")
        with self._sentences(), _no_progress_bars():
            if saved:
                return self._saved(path)
            if path.is_file():
                files = {self.split: str(path)} if self.any_split else str(path)
                return load_dataset(_format(path), data_files=files, split=self.split)
            return load_dataset(str(path), self.config, split=self.split)

    def _saved(self, path: Path) -> "Dataset":
        """The rows of one split of a folder written by `save_to_disk`."""
        from datasets import Dataset, load_from_disk

        saved = load_from_disk(str(path))
        if self.any_split and isinstance(saved, Dataset):
            return saved
        splits = {str(saved.split or "train"): saved} if isinstance(saved, Dataset) else saved
        if self.split not in splits:
            raise UserError(f"{path} has no split {self.split!r}; there are: {', '.join(map(str, splits))}")
        return splits[self.split]

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turns the errors of `datasets` into one sentence each."""
        from datasets.exceptions import DatasetsError

        name = f"dataset {self.id!r}" + (f" (config {self.config!r})" if self.config else "")
        try:
            yield
        except ConnectionError as error:
            remedy = f"connect to the network once, so that it is cached, or {self.copy}"
            raise UserError(f"{name} is neither cached on this machine nor reachable on the hub: {remedy}") from error
        except (DatasetsError, OSError, ValueError, LookupError) as error:
            also = "" if self.local else f", or {self.copy}"
            reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
            raise UserError(f"{name} cannot be read: {reason}; correct {self.option}, config or split{also}") from error


def _format(path: Path) -> str:
    """The reader for a file's name, compressed or not."""
    for suffix in reversed(path.suffixes):
        if suffix in _FORMATS:
            return _FORMATS[suffix]
    raise UserError(
        f"{path} has no format that can be told from its name; give a file that ends in {', '.join(_FORMATS)}"
    )


@contextmanager
def _impatient(id: str) -> Iterator[None]:
    """Makes `datasets` look in its cache alone if the hub does not answer; by itself it tries for half a minute."""
    from datasets import config
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    was_offline, reachable = config.HF_HUB_OFFLINE, True
    if not was_offline:
        try:
            HfApi().dataset_info(id, timeout=_PATIENCE)
        except HfHubHTTPError:
            pass  # the hub answers: `datasets` explains a refusal itself
        except Exception:  # no answer, or not the hub's: errors of the HTTP library have no common class here
            reachable = False
    config.HF_HUB_OFFLINE = was_offline or not reachable
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = was_offline


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keeps `datasets` quiet while it reads a local copy."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
