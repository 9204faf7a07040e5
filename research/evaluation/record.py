"""The record of an evaluation: its settings, and every completion with its verdict."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float

from research.errors import UserError
from research.types import Completion, Group

SETTINGS, ITEMS = "evaluation.json", "items.jsonl"
IDENTITY = ("prompts", "completions_per_prompt", "temperature", "top_p", "top_k", "max_completion_tokens", "seeds")
"""The settings that two evaluations must share before their difference is that of the policies."""


class CompletionRow(TypedDict):
    """A completion with its verdict, as plain data."""

    text: str
    tokens: int
    """The number of its tokens."""
    truncated: bool
    right: bool
    answer: str | None
    """None if no answer is found."""


class ItemRow(TypedDict):
    """The completions of one prompt at one seed, as plain data."""

    seed: int
    """The seed of the sampling."""
    prompt: str
    """The prompt's id."""
    text: str
    """The prompt's text."""
    reference: str
    """The reference answer."""
    completions: list[CompletionRow]


def item_of(group: Group, seed: int, answer: Callable[[Completion], str | None]) -> ItemRow:
    """One prompt's completions at one seed.

    Args:
        group: a verified group.
        seed: the seed of its sampling.
        answer: gives a completion's answer, or None.
    """
    return {
        "seed": seed,
        "prompt": group.prompt.id,
        "text": group.prompt.text,
        "reference": group.prompt.answer,
        "completions": [
            {
                "text": completion.text,
                "tokens": len(completion.token_ids),
                "truncated": completion.truncated,
                "right": bool(right),
                "answer": answer(completion),
            }
            for completion, right in zip(group.completions, group.right, strict=True)
        ],
    }


@dataclass(frozen=True, kw_only=True)
class Record:
    """Every completion of n items, k completions each, at each of S seeds."""

    settings: Mapping[str, Any]
    """The settings of sampling, the policy and its recipe; `IDENTITY` names those that make two records comparable.
    `metrics` holds each seed's metrics, as a run logs them."""
    items: Sequence[ItemRow]
    """One for each seed and item, seed by seed, items in the same order."""

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return list(self.settings["seeds"])

    @property
    def prompts(self) -> list[str]:
        """The items' prompt ids, in order."""
        return [item["prompt"] for item in self.items if item["seed"] == self.seeds[0]]

    @property
    def completions(self) -> list[CompletionRow]:
        """Every completion, item by item."""
        return [completion for item in self.items for completion in item["completions"]]

    def right(self) -> Float[np.ndarray, "S n k"]:
        """1.0 for a right completion, 0.0 for another."""
        return self.each(lambda completion: float(completion["right"]))

    def each(self, value: Callable[[CompletionRow], float]) -> Float[np.ndarray, "S n k"]:
        """The value of every completion."""
        values = [[value(completion) for completion in item["completions"]] for item in self.items]
        return np.array(values, dtype=float).reshape(len(self.seeds), len(self.prompts), -1)

    def write(self, folder: Path) -> None:
        """Write both files.

        Raises: UserError if the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in self.items)
            (folder / ITEMS).write_text(text, encoding="utf-8")
            (folder / SETTINGS).write_text(json.dumps(dict(self.settings), indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(f"cannot write the evaluation to {folder}: {error.strerror}") from error

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """The record in a folder.

        Raises: UserError if there is none, or it is damaged.
        """
        try:
            settings = json.loads((folder / SETTINGS).read_text())
            lines = (folder / ITEMS).read_text(encoding="utf-8").splitlines()
            record = cls(settings=settings, items=[json.loads(line) for line in lines])
            record.right()
        except FileNotFoundError as error:
            raise UserError(f"{folder} holds no evaluation: write one with `research evaluate`") from error
        except (json.JSONDecodeError, KeyError, ValueError) as error:
            raise UserError(f"the evaluation in {folder} is damaged: evaluate again") from error
        return record


def comparable(before: Record, after: Record) -> None:
    """Refuse two records that differ in more than the policy.

    Raises: UserError that names what differs.
    """
    differs = [name for name in IDENTITY if before.settings[name] != after.settings[name]]
    if differs:
        pairs = (f"{name} ({before.settings[name]} and {after.settings[name]})" for name in differs)
        raise UserError(f"the two evaluations differ in {', '.join(pairs)}: evaluate both in the same way")
