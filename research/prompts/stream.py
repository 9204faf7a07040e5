"""The order in which training prompts are drawn: seeded, endless, and resumable at a position."""

from collections.abc import Sequence

import numpy as np

from research.seeding import derive_seed
from research.types import Prompt


class PromptStream:
    """Draws prompts in a new random order each time through, from a position that is one number.

    The k-th prompt drawn depends on the seed and k alone, so a run that stopped at position k continues exactly there,
    and two arms at one seed draw the same prompts in the same order, however many each of them needs.
    """

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        self.prompts, self.seed, self.position = prompts, seed, 0
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def draw(self, n: int) -> list[Prompt]:
        """The next n prompts."""
        drawn = [self.prompts[self._index(self.position + k)] for k in range(n)]
        self.position += n
        return drawn

    def _index(self, position: int) -> int:
        epoch, offset = divmod(position, len(self.prompts))
        if epoch != self._epoch:
            seed = derive_seed(self.seed, "prompts", epoch)
            self._epoch, self._order = epoch, np.random.default_rng(seed).permutation(len(self.prompts))
        return int(self._order[offset])
