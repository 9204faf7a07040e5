"""The LightningDataModule: training prompts from a resumable stream, evaluation prompts in a fixed order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypedDict

from lightning import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from research.errors import UserError
from research.prompts.chat import Chat
from research.prompts.filters import Filter
from research.prompts.source import PromptSource, content_hash
from research.prompts.stream import PromptStream
from research.prompts.targets import Targets
from research.prompts.tokenizer import Tokenizer
from research.types import Prompt


class StreamState(TypedDict):
    """A checkpoint's record of the training stream."""

    position: int
    retired: list[str]
    """Ids of the prompts that are passed over."""


class _OneStep(IterableDataset):
    """One step's prompts, drawn when the step begins."""

    def __init__(self, stream: PromptStream, n: int) -> None:
        self.stream, self.n = stream, n

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[list[Prompt]]:
        yield self.stream.draw(self.n)


class PromptData(LightningDataModule):
    """Prompts for training and for evaluation.

    One Lightning epoch is one step: the training loader yields one list of `prompts_per_step` prompts, and is asked
    again for the next step. A checkpoint therefore falls between steps, and the state of the data is one position and
    the ids of the retired prompts.

    Args:
        train: source of the training prompts; those with the question of an evaluation prompt are removed.
        evaluation: source of the evaluation prompts.
        targets: the length that training and evaluation prompts ask for, if any.
        chat: the markup that training and evaluation prompts are written in.
        filters: applied to the written training prompts, one after another.
        prompts_per_step: N, prompts drawn for each step; at least 1.
        evaluation_chunk: evaluation prompts sampled at once; at least 1. It has no influence on the samples.
        seed: of the order of the training prompts.

    Raises: UserError if a source cannot be read, two prompts share an id, or no training prompt is left.
    """

    def __init__(
        self,
        *,
        train: PromptSource,
        evaluation: PromptSource,
        targets: Targets,
        chat: Chat,
        filters: list[Filter],
        prompts_per_step: int,
        evaluation_chunk: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if prompts_per_step < 1 or evaluation_chunk < 1:
            raise ValueError("PromptData: prompts_per_step and evaluation_chunk are at least 1")
        self.sources = {"train": train, "evaluation": evaluation}
        self.prompts_per_step, self.evaluation_chunk, self.seed = prompts_per_step, evaluation_chunk, seed
        self.targets, self.chat, self.filters = targets, chat, filters
        self.counts: dict[str, dict[str, int]] = {}
        self._loaded: dict[str, Sequence[Prompt]] = {}
        self._state = StreamState(position=0, retired=[])
        self.stream: PromptStream | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load both sources; write and filter the prompts too, unless a part needs the tokenizer (`attach`)."""
        if self._loaded:
            return
        for name, source in self.sources.items():
            prompts, counts = source.counted()
            _check_ids(prompts)
            self._loaded[name] = prompts
            self.counts[name] = {**counts, "loaded": len(prompts)}
        if not any(part.reads_tokenizer for part in (self.chat, *self.filters)):
            self.attach(None)

    def attach(self, tokenizer: Tokenizer | None) -> None:
        """Write the prompts for the policy, filter the training prompts, and make the stream; once is enough.

        Args:
            tokenizer: the policy's; None only if neither the chat markup nor a filter reads it.

        Raises: UserError if no training prompt is left.
        """
        if self.stream is not None:
            return
        held_out = self.evaluation_prompts = self._written(self._loaded["evaluation"], tokenizer)
        asked, counts = {prompt.question for prompt in held_out}, self.counts["train"]
        outside = [prompt for prompt in self._loaded["train"] if prompt.question not in asked]
        counts["evaluation questions"] = len(self._loaded["train"]) - len(outside)
        kept = self._written(outside, tokenizer)
        for number, chosen in enumerate(self.filters, 1):
            left = chosen(prompts=kept, held_out=held_out, tokenizer=tokenizer)
            counts[f"{number}. {type(chosen).__name__}"] = len(kept) - len(left)
            kept = left
        counts["kept"] = len(kept)
        if not kept:
            raise UserError(f"no training prompt is left, change data.train or data.filters: {_told(counts)}")
        self.train_prompts = kept
        self.stream = PromptStream(kept, self.seed)
        self._place(self.stream)

    def _written(self, prompts: Sequence[Prompt], tokenizer: Tokenizer | None) -> list[Prompt]:
        """The prompts as the policy reads them; where the text grows, the meta keeps the question."""
        asked = [self.targets(prompt) for prompt in prompts]
        return [
            after if after.text == before.text else replace(after, meta={**after.meta, "question": before.question})
            for before, after in zip(prompts, self.chat(prompts=asked, tokenizer=tokenizer), strict=True)
        ]

    def hashes(self) -> dict[str, str]:
        """The content hashes of the training and the evaluation prompts."""
        return {"train": content_hash(self.train_prompts), "evaluation": content_hash(self.evaluation_prompts)}

    def train_dataloader(self) -> DataLoader:
        """Yields one list: the prompts of this step."""
        assert self.stream is not None, "setup comes first, and attach if a part reads the tokenizer"
        return DataLoader(_OneStep(self.stream, self.prompts_per_step), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """The evaluation prompts in order, in chunks."""
        return DataLoader(self.evaluation_prompts, batch_size=self.evaluation_chunk, collate_fn=list)  # pyright: ignore[reportArgumentType]

    def state_dict(self) -> StreamState:
        """The position in the training stream, and the ids of the retired prompts."""
        if self.stream is None:
            return self._state.copy()
        return StreamState(position=self.stream.position, retired=sorted(self.stream.retired))

    def load_state_dict(self, state_dict: StreamState) -> None:
        """Continue from a saved position."""
        self._state = StreamState(position=state_dict["position"], retired=list(state_dict["retired"]))
        if self.stream is not None:
            self._place(self.stream)

    def _place(self, stream: PromptStream) -> None:
        stream.position, stream.retired = self._state["position"], set(self._state["retired"])


def _check_ids(prompts: Sequence[Prompt]) -> None:
    """Refuse two prompts with one id, since retirement and results go by ids."""
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise UserError(f"two prompts have the id {prompt.id!r}: give each source and each row an id of its own")
        seen.add(prompt.id)


def _told(counts: Mapping[str, int]) -> str:
    """The counts as one phrase."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
