"""The order in which training prompts are drawn: seeded, endless, and resumable at a position."""

from collections.abc import Iterable, Sequence

import numpy as np

from research.errors import UserError
from research.seeding import derive_seed
from research.types import Prompt


class PromptStream:
    """Draws prompts in a new random order in each pass over them; its state is one position.

    The k-th prompt depends on the seed and k alone. So a run that stopped at position k continues exactly there, and
    two runs at one seed draw the same prompts in the same order, however many each of them needs. A retired prompt is
    skipped from then on, so the draws also depend on the prompts retired before.
    """

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        self.prompts, self.seed, self.position = prompts, seed, 0
        self.retired: set[str] = set()
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def draw(self, n: int) -> list[Prompt]:
        """The next n prompts that are not retired.

        Raises: UserError if every prompt is retired.
        """
        drawn: list[Prompt] = []
        passed = 0
        while len(drawn) < n:
            prompt = self.prompts[self._index(self.position)]
            self.position += 1
            passed = passed + 1 if prompt.id in self.retired else 0
            if not passed:
                drawn.append(prompt)
            elif passed >= 2 * len(self.prompts):
                raise UserError(
                    f"all {len(self.prompts)} training prompts are retired as solved: give more or harder prompts, "
                    "fewer steps, or a higher pass_rate"
                )
        return drawn

    def retire(self, ids: Iterable[str]) -> None:
        """Never draw the prompts of these ids again."""
        self.retired.update(ids)

    def _index(self, position: int) -> int:
        epoch, offset = divmod(position, len(self.prompts))
        if epoch != self._epoch:
            seed = derive_seed(self.seed, "prompts", epoch)
            self._epoch, self._order = epoch, np.random.default_rng(seed).permutation(len(self.prompts))
        return int(self._order[offset])
