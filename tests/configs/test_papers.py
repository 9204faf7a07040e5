"""The papers' tables, their conflicts and the studies speak of the same things."""

from pathlib import Path

import pytest
from conftest import EXPERIMENTS

from research.ablation.designs import Cell
from research.ablation.folder.study_file import Study
from research.ablation.spec import read_study
from research.catalogue import discover
from research.errors import UserError
from research.reporting.paper_tables.conflicts import concerning, read_conflicts
from research.reporting.paper_tables.paper import match, read_paper

CONFLICTS = EXPERIMENTS / "papers" / "conflicts.yaml"
PAPERS = sorted(set((EXPERIMENTS / "papers").glob("*.yaml")) - {CONFLICTS})
STUDIES = sorted((EXPERIMENTS / "ablations").glob("*.yaml"))


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_table_can_be_read_at_every_choice(path: Path) -> None:
    paper = read_paper(path)
    assert "arXiv:" in paper.source
    assert set(paper.setting) == {"model", "data", "budget", "decoding", "seeds"}
    for model in paper.models:
        for position, metric in enumerate(paper.metrics):
            chosen = read_paper(path, f"{model}/{metric}")
            assert (chosen.model, chosen.chosen) == (model, metric)
            for row in chosen.rows:
                assert row.value == (row.values[model][position] if model in row.values else None)
                assert row.value is None or 0 <= row.value <= 100
    if paper.claims and any(row.value is not None for row in paper.rows):
        assert all(better.value is not None and worse.value is not None for better, worse in paper.claims)


@pytest.mark.parametrize(
    ("name", "choice", "row", "value"),
    [
        ("gtpo_table1", "7b/aime24_mean", "GTPO", 34.23),
        ("gtpo_table1", "32b/aime24_pass32", "DAPO", 59.02),
        ("gtpo_table1", "32b/math500_mean", "GRPO-S", 85.79),
        ("deepseekmath_table5", "cot/math", "DeepSeekMath-RL 7B (GRPO)", 51.7),
        ("deepseekmath_table5", "tools/cmath", "DeepSeekMath-Instruct 7B", 84.3),
        ("deepseekmath_table5", "cot/cmath", "Gemini Ultra", None),
        ("dr_grpo_table4", "7b/average", "Oat-Zero-7B (Dr. GRPO)", 51.4),
        ("forking_tokens_table2", "14b/average", "forking tokens, the top 20 %", 64.39),
        ("entropy_mechanism_table2", "32b/olympiad", "Clip-Cov", 57.2),
        ("deepseekmath_figure5", "", "GRPO+PS", None),
    ],
)
def test_numbers_as_printed(name: str, choice: str, row: str, value: float | None) -> None:
    paper = read_paper(EXPERIMENTS / "papers" / f"{name}.yaml", choice)
    assert next(r.value for r in paper.rows if r.name == row) == value


def test_gains_that_follow_from_the_tables() -> None:
    """GTPO over DAPO on AIME 2024 Pass@32 as the paper quotes it, and DeepSeekMath's gain on MATH."""

    def gain(name: str, choice: str) -> float | None:
        paper = read_paper(EXPERIMENTS / "papers" / f"{name}.yaml", choice)
        return paper.gain(*paper.claims[0])

    assert gain("gtpo_table1", "7b/aime24_pass32") == pytest.approx(29.4, abs=0.05)
    assert gain("gtpo_table1", "32b/aime24_pass32") == pytest.approx(9.9, abs=0.05)
    assert gain("deepseekmath_table5", "cot/math") == pytest.approx(4.9)
    assert gain("deepseekmath_figure5", "") is None


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_papers_of_a_study_stand_beside_some_of_its_cells(path: Path) -> None:
    spec = read_study(path)
    levels = [{factor: level} for factor, names in spec.factors.items() for level in names]
    cells = [Cell(id=str(n), label="", levels=level) for n, level in enumerate(levels)]
    if len(spec.factors) > 1:  # every cell has a level of every factor
        first = {factor: next(iter(names)) for factor, names in spec.factors.items()}
        cells = [Cell(id=cell.id, label="", levels=first | dict(cell.levels)) for cell in cells]
    baseline = {factor: next(iter(names)) for factor, names in spec.factors.items()}
    for name in spec.papers:
        file, _, choice = str(spec.resolved(name)).partition("#")
        paper = read_paper(Path(file), choice)
        assert match(paper, cells, (), baseline).rows, name


def test_an_unknown_model_or_metric_is_a_sentence() -> None:
    with pytest.raises(UserError, match="no model or metric '70b'"):
        read_paper(EXPERIMENTS / "papers" / "gtpo_table1.yaml", "70b/aime24_mean")


def test_a_claim_about_an_unknown_row_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "paper.yaml"
    path.write_text("title: a\nsource: b\nmetric: {name: c}\nsetting: {}\nrows: [{name: d}]\nclaims: [[d, e]]\n")
    with pytest.raises(UserError, match="a claim is two of the rows' names"):
        read_paper(path)


def test_values_are_one_a_metric(tmp_path: Path) -> None:
    path = tmp_path / "paper.yaml"
    path.write_text(
        "title: a\nsource: b\nmetrics: {c: {name: c}, d: {name: d}}\nmodels: {m: M}\nsetting: {}\n"
        "rows: [{name: e, values: {m: [1]}}]\n"
    )
    with pytest.raises(UserError, match="one for each metric"):
        read_paper(path)


class TestConflicts:
    def test_they_name_what_there_is(self) -> None:
        components = {entry.name for entry in discover()}
        recipes = {path.stem for path in EXPERIMENTS.glob("*.yaml")}
        for conflict in read_conflicts(CONFLICTS):
            assert conflict.components <= components, conflict.about
            assert conflict.recipes <= recipes, conflict.about
            assert conflict.papers <= {path.stem for path in PAPERS}, conflict.about
            assert conflict.says
            assert conflict.against
            assert conflict.components | conflict.recipes | conflict.papers

    def test_a_study_is_shown_those_of_its_components_recipes_and_papers(self, tmp_path: Path) -> None:
        record = tmp_path / "study.yaml"
        conflicts = read_conflicts(CONFLICTS)

        def about(text: str) -> set[str]:
            record.write_text(f"seeds: [0]\nmetric: {{name: m}}\ncells: [{{id: a}}]\n{text}\n")
            return {conflict.about for conflict in concerning(conflicts, Study.from_yaml(record))}

        gtpo = "normalisation set of GTPO's token rewards"
        assert about("base: ../reinforce_plus_plus.yaml") == set()
        assert gtpo in about("factors: {method: {GRPO: ../grpo.yaml, GTPO: ../gtpo.yaml}}")
        assert gtpo in about("factors: {a: {b: {x: {class_path: research.credit.EntropyShapedTokens}}}}")
        assert gtpo in about("paper: experiments/papers/gtpo_table1.yaml#7b")
        assert gtpo not in about("factors: {method: {GRPO: ../grpo.yaml}}")

    def test_an_unknown_mark_is_a_sentence(self, tmp_path: Path) -> None:
        path = tmp_path / "conflicts.yaml"
        path.write_text("conflicts: [{about: a, mark: rumour, concerns: {recipes: [grpo]}}]\n")
        with pytest.raises(UserError, match="one of conflict, unconfirmed, analysis"):
            read_conflicts(path)
