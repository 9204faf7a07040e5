"""Public datasets by name: the catalogue knows their place, the fields of their rows and their template."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from research.component import require
from research.errors import UserError
from research.prompts.datasets.catalogue import DATASETS
from research.prompts.datasets.description import Description, Fields
from research.prompts.jsonl import json_lines
from research.prompts.rows import Row, RowReader
from research.prompts.source import PromptSource
from research.prompts.tables import Table
from research.prompts.templates import TEMPLATES, template_text
from research.types import Prompt

_COPY = (
    "set path to a local copy of its split {split!r}: a .jsonl, .json, .parquet, .csv or .arrow file, or a folder that "
    "`datasets` reads or has saved, whose rows have the fields {fields}"
)


@dataclass(frozen=True, kw_only=True)
class NamedDataset(PromptSource):
    """Prompts from a public dataset that is called by its name; `research datasets` lists the names.

    A prompt's id is `<name>/<split>/<row>`, rows counted from 0, wherever the rows are read from. Its meta holds the
    `question` without the template, the reference `solution` where there is one, and the row's other fields.
    """

    name: str
    """Name of the dataset, such as `gsm8k`."""
    split: str
    """Name of the split, such as `train`."""
    path: str | None = None
    """A local copy: a file, or a folder that `datasets` reads or has saved; None for the hub, or its cache."""
    config: str | None = None
    """The configuration on the hub, if the dataset has several; None for the description's."""
    template: str | None = None
    """Name of a template, or a text with `{prompt}` in the question's place; None for the description's."""
    fields: Fields | None = None
    """The fields of a copy that has another shape; None for the description's."""
    distinct: bool = False
    """True to keep each question only in the row where it comes first."""
    unreadable: Literal["refuse", "skip"] = "refuse"
    """`refuse`: a row without a question or an answer is an error that names it; `skip`: it is left out and counted."""
    limit: int | None = None
    """Take only so many prompts, from the beginning; at least 1."""

    def __post_init__(self) -> None:
        require(self.name in DATASETS, f"no dataset is called {self.name!r}: there are {', '.join(DATASETS)}")
        splits = self.description.splits
        require(self.split in splits, f"{self.name} has no split {self.split!r}: there are {', '.join(splits)}")
        require(self.limit is None or self.limit >= 1, f"NamedDataset: limit is at least 1, got {self.limit}")
        self._reader(self.layouts[0])

    @property
    def description(self) -> Description:
        """The catalogue's description of the dataset."""
        return DATASETS[self.name]

    @property
    def layouts(self) -> tuple[Fields, ...]:
        """The shapes that the rows may have."""
        return (self.fields,) if self.fields else self.description.layouts

    def load(self) -> list[Prompt]:
        """The prompt of each row of the split, in its order."""
        return self.counted()[0]

    def counted(self) -> tuple[list[Prompt], dict[str, int]]:
        """The prompts, and the numbers of rows: read, unreadable, repeated, repeated with another answer."""
        prompts: list[Prompt] = []
        answers: dict[str, str] = {}
        counts: dict[str, int] = dict.fromkeys(("rows", "unreadable", "repeated", "contradicting"), 0)
        for prompt in self._readable(counts):
            if self.distinct and prompt.question in answers:
                counts["repeated"] += 1
                counts["contradicting"] += answers[prompt.question] != prompt.answer
                continue
            answers[prompt.question] = prompt.answer
            prompts.append(prompt)
            if len(prompts) == self.limit:
                break
        if not prompts:
            raise UserError(f"{self.name}: no row can be read of {counts['rows']}; set unreadable to refuse to see why")
        return prompts, counts

    def _readable(self, counts: dict[str, int]) -> Iterator[Prompt]:
        """The prompts of the readable rows, one by one; `counts` gets the rows and the unreadable ones."""
        reader: RowReader | None = None
        for number, (place, row) in enumerate(self._rows()):
            reader = reader or self._reader_of(row)
            counts["rows"] += 1
            try:
                prompt = reader.prompt(row, id=f"{self.name}/{self.split}/{number}", place=place)
            except UserError:
                if self.unreadable == "refuse":
                    raise
                counts["unreadable"] += 1
            else:
                yield prompt

    def _rows(self) -> Iterator[tuple[str, Row]]:
        """Each row with the place to name in an error."""
        path = Path(self.path).expanduser() if self.path is not None else None
        if path is not None and not path.exists():
            raise UserError(f"{self.name}: no file or folder {str(path)!r}; {self._copy}")
        if path is not None and path.suffix == ".jsonl":
            for number, row in json_lines(path):
                yield f"{path}:{number}", row
            return
        for number, row in enumerate(self._table(path).rows()):
            yield f"{path or self.description.hub}, split {self.split}, row {number}", row

    def _table(self, path: Path | None) -> Table:
        if path is not None:
            return Table(id=str(path), split=self.split, config=self.config, any_split=True, option="path")
        described, config = self.description, self.config or self.description.config
        return Table(
            id=described.hub,
            split=self.split,
            config=config,
            files=described.files.replace("{split}", self.split).replace("{config}", config or ""),
            revision=described.revision,
            option="path",
            copy=self._copy,
        )

    @property
    def _copy(self) -> str:
        return _COPY.format(split=self.split, fields=", ".join(dict.fromkeys(self.layouts[0].paths)))

    def _reader_of(self, row: Row) -> RowReader:
        """The reader of the first shape that the row has; the first reader if it has none, for its error sentence."""
        readers = [self._reader(layout) for layout in self.layouts]
        return next((reader for reader in readers if reader.reads(row)), readers[0])

    def _reader(self, layout: Fields) -> RowReader:
        placeholders = ("prompt", *layout.named)
        return RowReader(
            prompt_field=layout.question,
            answer_field=layout.answer,
            template=template_text(self.template or self.description.template, placeholders),
            extraction=layout.extraction,
            solution_field=layout.solution,
            context_field=layout.context,
            wrapped=TEMPLATES[self.description.wrapped],
            named=layout.named,
        )
