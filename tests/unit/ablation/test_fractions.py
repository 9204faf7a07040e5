"""Fractions of factorial designs, beside what textbooks tabulate, and their effects recovered from known responses."""

from itertools import combinations
from math import prod

import pytest
from conftest import refused

from research.ablation.designs import Cell, design_cells
from research.ablation.fractions import aliases_of, best_generators, best_of_resolution, fraction, read_generators
from research.reporting.analysis.factorial import factor_effects

# Box, Hunter and Hunter 2005, table 6.22: resolution of the best fraction of n factors in so many runs.
RESOLUTIONS = {
    (3, 4): 3, (4, 8): 4, (5, 8): 3, (5, 16): 5, (6, 8): 3, (6, 16): 4, (6, 32): 6, (7, 8): 3,
    (7, 16): 4, (7, 32): 4, (7, 64): 7, (8, 16): 4, (8, 32): 4, (8, 64): 5, (9, 32): 4,
}  # fmt: skip
# The number of words of that length in the minimum aberration design: Fries and Hunter 1980, Chen and others 1993.
SHORTEST = {(5, 8): 2, (6, 8): 4, (6, 16): 3, (7, 8): 7, (7, 16): 7, (7, 32): 1, (8, 16): 14, (8, 32): 3, (8, 64): 2}


def coded(factors: str, runs: int) -> list[dict[str, str]]:
    cells = fraction(list(factors), best_generators(list(factors), runs))
    return [{factor: str(level) for factor, level in cell.items()} for cell in cells]


def cells_of(factors: str, **options: object) -> list[Cell]:
    levels = {factor: {"off": {}, "on": {}} for factor in factors}
    return design_cells("fractional", levels, "Base", None, options)[0]


class TestBestFraction:
    @pytest.mark.parametrize(("n", "runs"), RESOLUTIONS)
    def test_has_the_tabulated_resolution(self, n: int, runs: int) -> None:
        aliases = aliases_of(coded("abcdefghi"[:n], runs))
        assert aliases is not None
        assert aliases.resolution == RESOLUTIONS[n, runs]
        shortest = sum(len(word) == aliases.resolution for word in aliases.relation)
        assert shortest == SHORTEST.get((n, runs), shortest)

    @pytest.mark.parametrize(("n", "resolution", "runs"), [(5, 3, 8), (5, 4, 16), (5, 5, 16), (7, 4, 16), (8, 5, 64)])
    def test_the_smallest_of_a_resolution(self, n: int, resolution: int, runs: int) -> None:
        factors = list("abcdefgh"[:n])
        assert len(fraction(factors, best_of_resolution(factors, resolution))) == runs

    def test_balanced_and_with_the_baseline(self) -> None:
        cells = coded("abcdef", 16)
        assert set(cells[0].values()) == {"0"}
        assert len({tuple(cell.values()) for cell in cells}) == 16
        for one, other in combinations("abcdef", 2):
            pairs = [(cell[one], cell[other]) for cell in cells]
            assert all(pairs.count(pair) == 4 for pair in set(pairs))
            assert len(set(pairs)) == 4

    @pytest.mark.parametrize("runs", [0, 2, 6, 8, 16])
    def test_a_number_of_runs_that_cannot_be(self, runs: int) -> None:
        factors = ["a", "b", "c", "d", "e", "f", "g", "h"] if runs == 8 else ["a", "b", "c", "d"]
        assert f"got runs: {runs}" in refused(lambda: best_generators(factors, runs))

    def test_a_resolution_that_cannot_be(self) -> None:
        assert "no fraction of 4 factors has resolution 5" in refused(lambda: best_of_resolution(list("abcd"), 5))

    def test_too_many_to_compare(self) -> None:
        assert "give their generators" in refused(lambda: best_generators(list("abcdefghijklmnop"), 64))


class TestAliases:
    def test_by_hand(self) -> None:
        """c = a xor b: in ±1, with every first level −1, the product a·b·c is −1 in every cell."""
        aliases = aliases_of([cell.levels for cell in cells_of("abc", generators=["c = a*b"])])
        assert aliases is not None
        assert aliases.record == {
            "resolution": 3,
            "defining_relation": ["I = −a × b × c"],
            "main_effects": ["a − b × c", "b − a × c", "c − a × b"],
            "clear_interactions": [],
            "aliased_interactions": [],
        }

    def test_resolution_four(self) -> None:
        record = aliases_of([cell.levels for cell in cells_of("abcd", resolution=4)]).record  # pyright: ignore
        assert record["defining_relation"] == ["I = a × b × c × d"]
        assert record["main_effects"] == ["a", "b", "c", "d"]
        assert record["aliased_interactions"] == ["a × b + c × d", "a × c + b × d", "a × d + b × c"]

    def test_one_interaction_is_clear_and_others_are_not(self) -> None:
        generators = ["f = a * b * c", "g = a * b * d * e"]
        record = aliases_of([cell.levels for cell in cells_of("abcdefg", generators=generators)]).record  # pyright: ignore
        assert record["resolution"] == 4
        assert len(record["clear_interactions"]) == 21 - 6  # the six pairs of a, b, c and f are aliased in three pairs
        assert record["aliased_interactions"] == ["a × b + c × f", "a × c + b × f", "a × f + b × c"]

    def test_the_relation_holds_in_every_cell(self) -> None:
        cells = cells_of("abcdefg", runs=16)
        aliases = aliases_of([cell.levels for cell in cells])
        assert aliases is not None
        assert len(aliases.relation) == 7
        for word, sign in aliases.relation.items():
            for cell in cells:
                assert prod(1 if cell.levels[factor] == "on" else -1 for factor in word) == sign

    def test_no_fraction(self) -> None:
        full = [{"a": x, "b": y} for x in "01" for y in "01"]
        assert aliases_of(full) is None
        assert aliases_of(full[:3]) is None
        assert aliases_of([{"a": "0"}, {"a": "1"}, {"a": "2"}]) is None


class TestDesign:
    def test_cells_are_called_as_a_factorials(self) -> None:
        cells = cells_of("abc", generators=["c = a * b"])
        assert [cell.id for cell in cells] == ["0-base", "1-b_on_c_on", "2-a_on_c_on", "3-a_on_b_on"]
        assert [list(cell.levels) for cell in cells] == [["a", "b", "c"]] * 4

    def test_no_two_cells_are_compared(self) -> None:
        levels = {factor: {"off": {}, "on": {}} for factor in "abc"}
        assert design_cells("fractional", levels, "Base", None, {"runs": 4})[1] == []

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({}, "got none"),
            ({"runs": 4, "resolution": 3}, "got resolution, runs"),
            ({"runs": "many"}, "runs is a whole number"),
            ({"generators": "c = a * b"}, "generators is a list"),
            ({"generators": ["c: a * b"]}, "is no factor"),
            ({"generators": ["c = a * z"]}, "'z' is no factor"),
            ({"generators": ["c = a"]}, "two or more other factors"),
            ({"generators": ["c = a * a"]}, "two or more other factors"),
            ({"generators": ["c = a * c"]}, "two or more other factors"),
            ({"fraction": 2}, "a fractional takes no fraction; it takes generators, resolution, runs"),
        ],
    )
    def test_mistakes(self, options: dict[str, object], words: str) -> None:
        assert words in refused(lambda: cells_of("abc", **options))

    def test_a_generator_from_a_generated_factor(self) -> None:
        texts = ["c = a * b", "d = b * c"]
        assert "c is generated" in refused(lambda: read_generators(texts, list("abcd")))

    def test_another_design_takes_no_generators(self) -> None:
        levels = {factor: {"off": {}, "on": {}} for factor in "abc"}
        message = refused(lambda: design_cells("factorial", levels, "Base", None, {"generators": ["c = a * b"]}))
        assert message == "a factorial takes no generators"


def response(levels: dict[str, str] | object, effects: dict[str, float]) -> float:
    """Half the sum of effects times the product of their factors, as ±1."""
    return sum(e / 2 * prod(1 if levels[f] == "on" else -1 for f in word) for word, e in effects.items())  # type: ignore


class TestEffects:
    def test_what_is_estimated_is_the_named_sum(self) -> None:
        """c = a·b up to sign: the contrast of c is its effect less the interaction of a and b."""
        cells = cells_of("abc", generators=["c = a * b"])
        effects = {"a": 4.0, "b": 2.0, "c": 1.0, "ab": 8.0}
        values = {cell.id: {0: response(cell.levels, effects)} for cell in cells}
        found = factor_effects(cells, values, direction="maximize")
        assert {e.name: e.gain.mean for e in found} == pytest.approx(
            {"a = on − b × c": 4.0, "b = on − a × c": 2.0, "c = on − a × b": -7.0}
        )

    def test_resolution_five_gives_every_two_way_interaction(self) -> None:
        cells = cells_of("abcde", resolution=5)
        effects = {"a": 4.0, "c": -2.0, "bd": 3.0, "ae": -1.0}
        values = {cell.id: {0: response(cell.levels, effects), 1: 1.0} for cell in cells}
        found = {e.name: e.gain.mean * 2 for e in factor_effects(cells, values, direction="maximize")}
        assert len(found) == 5 + 10
        wanted = {"a = on": 4.0, "c = on": -2.0, "b = on × d = on": 3.0, "a = on × e = on": -1.0}
        assert {name: gain for name, gain in found.items() if abs(gain) > 1e-9} == pytest.approx(wanted)

    def test_interactions_that_are_aliased_are_left_out(self) -> None:
        cells = cells_of("abcd", resolution=4)
        values = {cell.id: {0: 1.0} for cell in cells}
        assert [e.name for e in factor_effects(cells, values, direction="maximize")] == [f"{f} = on" for f in "abcd"]
