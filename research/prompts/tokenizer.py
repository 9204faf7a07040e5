"""The policy's tokenizer, as far as prompts read it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
    """A tokenizer of the transformers library, or one that does the same for prompts."""

    @property
    def apply_chat_template(self) -> Callable[..., object]:
        """Writes a list of messages in the chat markup."""
        ...

    def __call__(self, text: str | list[str], *, add_special_tokens: bool = True) -> Mapping[str, Sequence]:
        """The text's tokens under `input_ids`; of a list of texts, a list for each."""
        ...
