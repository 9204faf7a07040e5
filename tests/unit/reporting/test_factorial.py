"""Main effects and interactions of small grids, worked out by hand."""

import pytest

from research.ablation.designs import Cell
from research.reporting.analysis.factorial import factor_effects


def grid(**factors: list[str]) -> list[Cell]:
    levels: list[dict[str, str]] = [{}]
    for factor, names in factors.items():
        levels = [one | {factor: name} for one in levels for name in names]
    return [Cell(id="/".join(one.values()), label="", levels=one) for one in levels]


def test_two_by_two_by_hand():
    cells = grid(clip=["low", "high"], mean=["row", "token"])
    values = {"low/row": {0: 1.0}, "low/token": {0: 2.0}, "high/row": {0: 4.0}, "high/token": {0: 9.0}}
    found = factor_effects(cells, values, direction="maximize")
    # clip: (4 + 9 − 1 − 2)/2 = 5; mean: (2 + 9 − 1 − 4)/2 = 3; clip gains 7 with token and 3 with row: (7 − 3)/2 = 2.
    assert {effect.name: effect.gain.mean for effect in found} == {
        "clip = high": 5.0,
        "mean = token": 3.0,
        "clip = high × mean = token": 2.0,
    }
    down = factor_effects(cells, values, direction="minimize")
    assert [effect.gain.mean for effect in down] == [-5.0, -3.0, -2.0]


def test_seeds_are_paired_and_incomplete_ones_left_out():
    cells = grid(a=["0", "1"], b=["0", "1"])
    values = {cell.id: {0: 1.0, 1: 2.0, 2: 3.0} for cell in cells}
    values["1/1"] = {0: 3.0, 2: 5.0}
    found = factor_effects(cells, values, direction="maximize")
    assert [effect.gain.n for effect in found] == [2, 2, 2]
    assert found[0].gain.mean == pytest.approx(1.0)
    # Three raw p of 0.5 each, corrected to 1.
    assert [effect.p for effect in found] == [1.0, 1.0, 1.0]


def test_three_levels_are_each_compared_with_the_first():
    cells = grid(a=["0", "1", "2"], b=["0", "1"])
    values = {cell.id: {0: float(cell.levels["a"]) + 10 * float(cell.levels["b"])} for cell in cells}
    gains = {e.name: e.gain.mean for e in factor_effects(cells, values, direction="maximize")}
    assert gains == pytest.approx({"a = 1": 1, "a = 2": 2, "b = 1": 10, "a = 1 × b = 1": 0, "a = 2 × b = 1": 0})


def test_a_ladder_is_no_grid():
    cells = grid(a=["0", "1"], b=["0", "1"])[:3]
    assert factor_effects(cells, {cell.id: {0: 1.0} for cell in cells}, direction="maximize") == ()
