"""Prompts from a local JSONL file."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from research.component import require
from research.errors import UserError
from research.prompts.rows import Row, RowReader
from research.prompts.source import PromptSource
from research.types import Prompt


@dataclass(frozen=True, kw_only=True)
class LocalJsonl(PromptSource):
    r"""Prompts from a file with one JSON object on each line.

    GSM8K as its authors publish it: `prompt_field: question`, `answer_field: answer`, `answer_pattern: "#### (.*)"`.
    """

    path: str
    """The file; `~` is the home folder. Prompts are called `<file name>/<line>`, lines counted from 1."""
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
        require(self.limit is None or self.limit >= 1, f"LocalJsonl: limit is at least 1, got {self.limit}")
        RowReader.of(self)

    def load(self) -> list[Prompt]:
        """The prompt of each line, in the order of the file."""
        path, reader, prompts = Path(self.path).expanduser(), RowReader.of(self), []
        for number, row in json_lines(path):
            prompts.append(reader.prompt(row, id=f"{path.name}/{number}", place=f"{path}:{number}"))
            if len(prompts) == self.limit:
                break
        if not prompts:
            raise UserError(f"{path} is empty: give a file with one JSON object on each line")
        return prompts


def json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    """The objects of a JSONL file with their line numbers; blank lines are skipped."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _json_object(line, f"{path}:{number}")
    except FileNotFoundError:
        raise UserError(f"no file {path}: correct the path, or put the file there") from None
    except PermissionError:
        raise UserError(
            f"no permission to read {path}: change its permissions, or copy it somewhere readable"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}; give a file with one JSON object on each line"
        ) from error


def _json_object(line: bytes, place: str) -> Row:
    """One line as a JSON object."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(
            f"{place}: not UTF-8 text; convert the file, or read parquet and arrow with HubDataset"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON that can be read: {error}") from None
    if not isinstance(row, dict):
        raise UserError(
            f"{place}: a JSON {type(row).__name__}, not an object with fields; each line must be one object"
        )
    return row
