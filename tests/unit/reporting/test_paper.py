"""Which rows of a paper's table stand beside which cells."""

from pathlib import Path

import pytest
from conftest import EXPERIMENTS

from research.ablation.designs import Cell
from research.errors import UserError
from research.reporting.paper_tables.paper import Counterparts, Paper, match, read_paper

DAPO = EXPERIMENTS / "papers" / "dapo_table1.yaml"
STEPS = {
    "overlong_filtering": ("keep_truncated", "skip_truncated"),
    "clip": ("symmetric", "higher"),
    "overlong_punishment": ("absent", "soft"),
    "aggregation": ("sequence", "token"),
    "dynamic_sampling": ("keep_all", "mixed_outcomes"),
}


@pytest.fixture
def paper() -> Paper:
    return read_paper(DAPO)


def ladder(paper: Paper, factors: list[str]) -> Counterparts:
    """Each factor's second level, added one after another; compared with the row before, then last with first."""
    cells = [
        Cell(id=str(n), label="", levels={f: STEPS[f][i < n] for i, f in enumerate(factors)})
        for n in range(len(factors) + 1)
    ]
    pairs = [(str(n), str(n - 1)) for n in range(1, len(cells))]
    return match(paper, cells, [*pairs, (str(len(factors)), "0")], {f: STEPS[f][0] for f in factors})


def gains(paper: Paper, found: Counterparts) -> dict[tuple[str, str], float]:
    return {pair: paper.gain(*rows) for pair, rows in found.pairs.items()}


def test_the_table_as_printed(paper: Paper):
    assert [row.value for row in paper.rows] == [47, 30, 36, 38, 41, 42, 50]
    assert [bool(row.levels) for row in paper.rows] == [False] + [True] * 6
    assert all(set(row.levels) == set(STEPS) for row in paper.rows if row.levels)
    assert set(paper.setting) == {"model", "data", "budget", "decoding", "seeds"}
    assert len(paper.flags) >= 4


def test_the_whole_ladder(paper: Paper):
    found = ladder(paper, list(STEPS))
    assert [found.rows[str(n)].value for n in range(6)] == [30, 36, 38, 41, 42, 50]
    steps = {("1", "0"): 6, ("2", "1"): 2, ("3", "2"): 3, ("4", "3"): 1, ("5", "4"): 8, ("5", "0"): 20}
    assert gains(paper, found) == steps


def test_a_ladder_without_the_papers_first_change(paper: Paper):
    found = ladder(paper, ["clip", "overlong_punishment", "aggregation", "dynamic_sampling"])
    assert [found.rows[str(n)].value for n in range(5)] == [36, 38, 41, 42, 50]
    assert gains(paper, found)["4", "0"] == 14


@pytest.mark.parametrize(("factor", "gain"), zip(STEPS, [6, 2, 3, 1, 8], strict=True))
def test_one_factor_alone_takes_the_papers_own_step(paper: Paper, factor: str, gain: float):
    assert gains(paper, ladder(paper, [factor])) == {("1", "0"): gain}


def test_no_gain_is_taken_across_contexts(paper: Paper):
    found = ladder(paper, ["clip", "aggregation"])
    # Soft overlong punishment lies between them in the paper, so the two steps stand in different contexts.
    assert gains(paper, found) == {("1", "0"): 2, ("2", "1"): 1}


def test_another_order_has_no_counterpart(paper: Paper):
    found = ladder(paper, ["dynamic_sampling", "clip"])
    assert ("1", "0") not in found.pairs
    assert "1" not in found.rows


def test_a_factor_that_the_paper_lacks_must_stay_at_its_baseline(paper: Paper):
    baseline = {"clip": "symmetric", "advantage": "z_score"}
    cells = [
        Cell(id="a", label="", levels={"clip": "symmetric", "advantage": "z_score"}),
        Cell(id="b", label="", levels={"clip": "higher", "advantage": "z_score"}),
        Cell(id="c", label="", levels={"clip": "higher", "advantage": "mean"}),
    ]
    found = match(paper, cells, [("b", "a"), ("c", "b")], baseline)
    assert set(found.rows) == {"a", "b"}
    assert gains(paper, found) == {("b", "a"): 2}


def test_a_study_without_the_papers_factors_has_no_counterpart(paper: Paper):
    cells = [Cell(id="a", label="", levels={"advantage": "z_score"})]
    assert match(paper, cells, [], {"advantage": "z_score"}) == Counterparts(rows={}, pairs={})


def test_a_malformed_paper_is_a_sentence(tmp_path: Path):
    path = tmp_path / "paper.yaml"
    path.write_text("title: a\nsource: b\nmetric: {name: c}\nsetting: {}\nrows: [{name: d, value: many}]\n")
    with pytest.raises(UserError, match="malformed"):
        read_paper(path)
