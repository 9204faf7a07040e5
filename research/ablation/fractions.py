"""Fractions of two-level factorial designs: the effects that they cannot tell apart, and the best fraction.

An effect is a set of factors, and so is a word of the defining relation. The product of two sets is their symmetric
difference, because a factor times itself is 1. A level is −1 at its factor's first level and +1 at its second.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from research.errors import UserError

Word = frozenset[str]
"""A set of factors: their product."""
MOST_FRACTIONS = 200_000
"""Most sets of generators that are compared when none is given."""


@dataclass(frozen=True, kw_only=True)
class Aliases:
    """The effects that a regular fraction cannot tell apart.

    Example:
        >>> half = Aliases(factors=("a", "b", "c"), relation={frozenset("abc"): -1})
        >>> half.resolution, half.named(frozenset("a")), half.clear(frozenset("a"))
        (3, 'a − b × c', False)

    Source: Box, Hunter and Hunter 2005, Statistics for Experimenters, §6.
    """

    factors: Sequence[str]
    relation: Mapping[Word, int]
    """Word → its product, 1 or −1, for every word whose product is the same in all cells."""

    @property
    def resolution(self) -> int:
        """Length of the shortest word: at 3 main effects are aliased with two-way interactions, at 5 neither is."""
        return min(map(len, self.relation))

    def of(self, effect: Word, order: int = 2) -> list[tuple[int, Word]]:
        """Sign and factors of every other effect, of `order` factors at most, that this one cannot be told from."""
        products = ((sign, effect ^ word) for word, sign in self.relation.items())
        found = [(sign, other) for sign, other in products if len(other) <= order]
        return sorted(found, key=lambda one: (len(one[1]), self._positions(one[1])))

    def clear(self, effect: Word) -> bool:
        """True if no other main effect and no other two-way interaction is aliased with it."""
        return not self.of(effect)

    def named(self, effect: Word) -> str:
        """The sum that the effect's contrast estimates, up to two-way interactions."""
        return self.product(effect) + self.sum_of(effect)

    def sum_of(self, effect: Word) -> str:
        """The other terms of that sum; empty if the effect is clear."""
        return "".join(f" {'+' if sign > 0 else '−'} {self.product(other)}" for sign, other in self.of(effect))

    def product(self, word: Word) -> str:
        """The factors in the study's order, with × between them."""
        return " × ".join(self.factors[k] for k in self._positions(word))

    def _positions(self, word: Word) -> list[int]:
        return sorted(self.factors.index(factor) for factor in word)

    @property
    def record(self) -> dict[str, object]:
        """The aliases in words, for study.yaml and `--plan`."""
        pairs = [frozenset(pair) for pair in combinations(self.factors, 2)]
        sets = dict.fromkeys(frozenset({pair, *(other for _, other in self.of(pair))}) for pair in pairs)
        mains = [frozenset({factor}) for factor in self.factors]
        return {
            "resolution": self.resolution,
            "defining_relation": [
                f"I = {'' if sign > 0 else '−'}{self.product(word)}"
                for word, sign in sorted(self.relation.items(), key=lambda one: (len(one[0]), self._positions(one[0])))
            ],
            "main_effects": [self.named(main) for main in mains],
            "clear_interactions": [self.product(pair) for pair in pairs if self.clear(pair)],
            "aliased_interactions": [
                self.named(min(one, key=lambda word: (len(word), self._positions(word))))
                for one in sets
                if len(one) > 1 and all(len(word) == 2 for word in one)
            ],
        }


def aliases_of(cells: Iterable[Mapping[str, str]]) -> Aliases | None:
    """The aliases of a design, read from the levels of its cells.

    Args:
        cells: factor → level of each cell; the first cell has every factor at its first level.

    Returns: None unless the cells are a regular fraction of a two-level design: 2ᵏ different cells of n > k factors,
        and 2ⁿ⁻ᵏ products that are the same in all of them.

    Example:
        >>> cells = [{"a": "0", "b": "0"}, {"a": "1", "b": "1"}]
        >>> aliases_of(cells).named(frozenset("a"))
        'a + b'
    """
    rows = list(cells)
    factors, first = list(rows[0]), rows[0]
    moved = {sum(1 << k for k, factor in enumerate(factors) if row[factor] != first[factor]) for row in rows}
    two_levels = all(len({row[factor] for row in rows}) == 2 for factor in factors)
    if not two_levels or len(moved) != len(rows) or len(rows) == 2 ** len(factors):
        return None
    same = [w for w in range(1, 2 ** len(factors)) if all((w & row).bit_count() % 2 == 0 for row in moved)]
    if (len(same) + 1) * len(rows) != 2 ** len(factors):
        return None
    words = [frozenset(factor for k, factor in enumerate(factors) if w >> k & 1) for w in same]
    return Aliases(factors=tuple(factors), relation={word: (-1) ** len(word) for word in words})


def read_generators(texts: Sequence[str], factors: Sequence[str]) -> dict[str, Word]:
    """Generators as a study file writes them, `e = a * b * c`.

    Args:
        texts: one generator each: a factor, and the product of others that its level follows from.
        factors: all the factors of the study.

    Returns: generated factor → the factors of its product.

    Raises: UserError if one cannot be read, names no factor, or is generated twice or from a generated one.

    Example:
        >>> sorted(read_generators(["c = a * b"], ["a", "b", "c"])["c"])
        ['a', 'b']
    """
    found: dict[str, Word] = {}
    for text in texts:
        name, equals, product = (part.strip() for part in str(text).partition("="))
        names = [part.strip() for part in product.split("*")]
        unknown = [f"{one!r} is no factor" for one in (name, *names) if one not in factors]
        if fault := [*unknown, *([] if equals else ["it has no ="])]:
            raise UserError(
                f"cannot read the generator {text!r}: {fault[0]}; write for instance c = a * b, in factors' names"
            )
        if len(set(names)) < max(2, len(names)) or name in names or name in found:
            raise UserError(f"the generator {text!r} needs two or more other factors, each once, and {name} only once")
        found[name] = frozenset(names)
    if inner := [name for name in found for word in found.values() if name in word]:
        raise UserError(f"{inner[0]} is generated, so no generator can have it in its product: replace it there")
    return found


def fraction(factors: Sequence[str], generators: Mapping[str, Word]) -> list[dict[str, int]]:
    """The cells of a fraction: factor → 0 for its first level, 1 for its second.

        level(e) = Σ_{f ∈ word(e)} level(f)  mod 2

    so the cell with every factor at its first level is always among them.

    Args:
        factors: all of them; those without a generator are combined fully, the last one fastest.
        generators: generated factor → factors of its product.

    Example:
        >>> fraction(["a", "b", "c"], {"c": frozenset("ab")})[1:]
        [{'a': 0, 'b': 1, 'c': 1}, {'a': 1, 'b': 0, 'c': 1}, {'a': 1, 'b': 1, 'c': 0}]
    """
    free = [factor for factor in factors if factor not in generators]
    cells = []
    for number in range(2 ** len(free)):
        levels = {factor: number >> (len(free) - 1 - k) & 1 for k, factor in enumerate(free)}
        levels |= {name: sum(levels[factor] for factor in word) % 2 for name, word in generators.items()}
        cells.append({factor: levels[factor] for factor in factors})
    return cells


def best_generators(factors: Sequence[str], runs: int) -> dict[str, Word]:
    """Generators of the fraction with minimum aberration: its shortest word is longest, with the fewest of that length.

    Args:
        factors: n factors; the first log₂(runs) of them are combined fully.
        runs: number of cells, a power of 2 below 2ⁿ.

    Raises: UserError if `runs` is no power of 2, or too small or large, or if there are too many fractions to compare.

    Source: Fries and Hunter 1980, Minimum Aberration 2ᵏ⁻ᵖ Designs.

    Example:
        >>> {name: sorted(word) for name, word in best_generators(["a", "b", "c", "d"], 8).items()}
        {'d': ['a', 'b', 'c']}
    """
    n, k = len(factors), runs.bit_length() - 1
    if runs < 4 or runs != 2**k or k >= n or n >= runs:
        raise UserError(
            f"a fraction of {n} two-level factors has 4, 8, 16 … cells, more than factors and fewer than {2**n}; "
            f"got runs: {runs}"
        )
    products = [word for size in range(k, 1, -1) for word in _words_of_size(size, k)]
    if comb(len(products), n - k) > MOST_FRACTIONS:
        raise UserError(f"{n} factors in {runs} cells have too many fractions to compare: give their generators")
    best = min(combinations(products, n - k), key=lambda chosen: _word_lengths(chosen, k, n))
    return {
        factors[k + at]: frozenset(factor for bit, factor in enumerate(factors[:k]) if word >> bit & 1)
        for at, word in enumerate(best)
    }


def best_of_resolution(factors: Sequence[str], resolution: int) -> dict[str, Word]:
    """Generators of the smallest fraction of this resolution or a higher one.

    Raises: UserError if every fraction of so many factors has a lower resolution.

    Example:
        >>> len(fraction("abcde", best_of_resolution("abcde", 5)))
        16
    """
    n = len(factors)
    for runs in (2**k for k in range(2, n)):
        if n < runs:
            generators = best_generators(factors, runs)
            words = _closure(list(_masks(factors, generators)))
            if min(word.bit_count() for word in words) >= resolution:
                return generators
    raise UserError(f"no fraction of {n} factors has resolution {resolution}: use the factorial design")


def _masks(factors: Sequence[str], generators: Mapping[str, Word]) -> Iterable[int]:
    for name, word in generators.items():
        yield sum(1 << factors.index(factor) for factor in (name, *word))


def _words_of_size(size: int, k: int) -> list[int]:
    return [sum(1 << bit for bit in bits) for bits in combinations(range(k), size)]


def _closure(words: Sequence[int]) -> list[int]:
    found = [0]
    for word in words:
        found += [word ^ other for other in found]
    return found[1:]


def _word_lengths(products: Sequence[int], k: int, n: int) -> list[int]:
    """Number of words of length 1, 2, … n."""
    lengths = [word.bit_count() for word in _closure([word | 1 << (k + at) for at, word in enumerate(products)])]
    return [lengths.count(length) for length in range(1, n + 1)]
