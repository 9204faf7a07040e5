"""The LightningDataModule: training prompts from a resumable stream, evaluation prompts in a fixed order."""

from collections.abc import Iterator
from typing import Any

from lightning import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from research.errors import UserError
from research.prompts.source import PromptSource, content_hash
from research.prompts.stream import PromptStream
from research.prompts.targets import Targets
from research.types import Prompt


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
    again for the next step. So a checkpoint falls between steps, and the position in the data is one number, beside
    the ids of the prompts that have been retired.

    Args:
        train: where training prompts come from; those whose text is an evaluation prompt's are taken out.
        evaluation: where evaluation prompts come from.
        targets: whether the prompts, of training and evaluation alike, ask for a length.
        prompts_per_step: N, prompts drawn for each step; at least 1.
        evaluation_chunk: evaluation prompts sampled at once; at least 1, and no influence on what is sampled.
        seed: of the order of the training prompts.

    Raises: UserError if a source cannot be read or no training prompt is left.
    """

    def __init__(
        self,
        *,
        train: PromptSource,
        evaluation: PromptSource,
        targets: Targets,
        prompts_per_step: int,
        evaluation_chunk: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if prompts_per_step < 1 or evaluation_chunk < 1:
            raise ValueError("PromptData: prompts_per_step and evaluation_chunk are at least 1")
        self.sources = {"train": train, "evaluation": evaluation}
        self.prompts_per_step, self.evaluation_chunk, self.seed = prompts_per_step, evaluation_chunk, seed
        self.targets = targets
        self._state: dict[str, Any] = {"position": 0, "retired": []}
        self.stream: PromptStream | None = None

    def setup(self, stage: str | None = None) -> None:
        """Load both sources, take the evaluation prompts out of the training ones, and place the stream."""
        if self.stream is not None:
            return
        held_out = list(self.sources["evaluation"].load())
        texts = {prompt.text for prompt in held_out}
        self.evaluation_prompts = [self.targets(prompt) for prompt in held_out]
        loaded = self.sources["train"].load()
        self.train_prompts = [self.targets(prompt) for prompt in loaded if prompt.text not in texts]
        if not self.train_prompts:
            raise UserError("no training prompt is left: every one of them is also an evaluation prompt")
        self.removed = len(loaded) - len(self.train_prompts)
        self.stream = PromptStream(self.train_prompts, self.seed)
        self._place(self.stream)

    def hashes(self) -> dict[str, str]:
        """The content hash of what is trained and evaluated on."""
        return {"train": content_hash(self.train_prompts), "evaluation": content_hash(self.evaluation_prompts)}

    def train_dataloader(self) -> DataLoader:
        """One list of prompts: this step's."""
        assert self.stream is not None, "setup comes first"
        return DataLoader(_OneStep(self.stream, self.prompts_per_step), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """The evaluation prompts in order, in chunks."""
        return DataLoader(self.evaluation_prompts, batch_size=self.evaluation_chunk, collate_fn=list)  # pyright: ignore[reportArgumentType]

    def state_dict(self) -> dict[str, Any]:
        """The position in the training stream, and the prompts that it passes over."""
        if self.stream is None:
            return dict(self._state)
        return {"position": self.stream.position, "retired": sorted(self.stream.retired)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved position."""
        self._state = {"position": state_dict["position"], "retired": list(state_dict["retired"])}
        if self.stream is not None:
            self._place(self.stream)

    def _place(self, stream: PromptStream) -> None:
        stream.position, stream.retired = self._state["position"], set(self._state["retired"])
