"""The prompt-source slot."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import sha256

from research.types import Prompt


class PromptSource(ABC):
    """A finite, ordered collection of prompts with reference answers; loading it twice gives the same prompts."""

    @abstractmethod
    def load(self) -> Sequence[Prompt]:
        """All prompts, in the source's own order.

        Raises: UserError if the source cannot be read; the message names what is missing or malformed.
        """

    def counted(self) -> tuple[Sequence[Prompt], dict[str, int]]:
        """All prompts, and the numbers of rows read and left out, in a source that leaves some out."""
        return self.load(), {}


def content_hash(prompts: Sequence[Prompt]) -> str:
    """Twelve hexadecimal digits that change when any prompt's text or answer does."""
    digest = sha256()
    for prompt in prompts:
        digest.update(f"{prompt.text}\x1f{prompt.answer}\x1e".encode())
    return digest.hexdigest()[:12]
