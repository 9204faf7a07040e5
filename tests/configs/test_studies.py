"""Every study file can be planned, and the studies, the recipes and the paper's table speak of the same changes."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import EXPERIMENTS, parse_once, parsed

from research.ablation.nodes import differences
from research.ablation.plan import Plan, make_plan
from research.ablation.spec import StudySpec, at_scale, read_study
from research.recipe import parse
from research.yaml_file import read_yaml

STUDIES = sorted((EXPERIMENTS / "ablations").glob("*.yaml"))
LADDER = EXPERIMENTS / "ablations" / "dapo_ladder.yaml"


@cache
def planned(path: Path) -> Plan:
    """The study's plan; planning composes every cell and parses it, once where several studies have it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("research.ablation.plan.parse", parse_once)
        return make_plan(read_study(path), Path("nowhere"))


class TestEveryStudy:
    def test_there_are_some(self) -> None:
        assert LADDER in STUDIES

    @pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
    def test_can_be_planned(self, path: Path) -> None:
        plan = planned(path)
        spec = plan.spec
        assert len(plan.runs) == len(plan.cells) * len(spec.seeds)
        assert len({run.id for run in plan.runs}) == len(plan.runs)
        assert len({run.recipe.digest for run in plan.runs}) == len(plan.runs)
        for factor, levels in spec.factors.items():
            assert {cell.levels[factor] for cell in plan.cells} == set(levels)
        compared = [] if spec.design == "fractional" else plan.cells[1:]  # a fraction's effects are contrasts
        assert {c.cell for c in plan.comparisons} == {cell.id for cell in compared}
        assert not Path("nowhere").exists()

    @pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
    def test_every_seed_is_run_in_every_cell(self, path: Path) -> None:
        plan = planned(path)
        for cell in plan.cells:
            seeds = [run.recipe.config["model"]["seed"] for run in plan.runs if run.cell is cell]
            assert seeds == plan.spec.seeds
        assert [run.seed for run in plan.runs] == [seed for seed in plan.spec.seeds for _ in plan.cells]

    @pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
    def test_names_a_paper_that_is_there(self, path: Path) -> None:
        spec = read_study(path)
        assert all(spec.resolved(paper.partition("#")[0]).exists() for paper in spec.papers)


class TestDapo:
    def test_the_ladder_ends_at_the_recipe(self) -> None:
        last = next(run for run in planned(LADDER).runs if run.cell is planned(LADDER).cells[-1])
        assert differences(last.recipe.config["model"], parsed("dapo").config["model"]) == []

    def test_the_ladder_begins_at_grpo_without_its_penalty(self) -> None:
        first = planned(LADDER).runs[0].recipe.config["model"]
        changed = differences(parsed("grpo").config["model"], first)
        assert {path.split(".init_args")[0].removesuffix(".class_path") for path in changed} == {"objective.kl"}

    def test_the_recipe_changes_the_papers_list_and_nothing_else(self) -> None:
        changed = differences(parsed("grpo").config, parsed("dapo").config)
        assert {path.removesuffix(".class_path") for path in changed} == {  # clip-higher keeps its lower end
            "model.rollouts.collect.keep",
            "model.rollouts.collect.max_rounds",
            "model.rewards.shaping",
            "model.credit.weights",
            "model.credit.aggregate",
            "model.objective.surrogate.init_args.eps_high",
            "model.objective.kl",
            "model.objective.kl.init_args",
        }

    @pytest.mark.parametrize("path", [p for p in STUDIES if p.stem.startswith("dapo")], ids=lambda path: path.stem)
    def test_every_design_means_the_same_by_a_level(self, path: Path) -> None:
        ladder, spec = read_study(LADDER).factors, read_study(path)
        assert {factor: ladder[factor] for factor in spec.factors} == spec.factors
        held = {path: node for path, node in spec.hold.items() if not path.startswith("run.")}
        assert held == read_study(LADDER).hold

    def test_the_papers_table_speaks_of_the_ladders_levels(self) -> None:
        factors: Mapping[str, Mapping[str, Any]] = read_study(LADDER).factors
        rows = [row for row in read_yaml(EXPERIMENTS / "papers" / "dapo_table1.yaml")["rows"] if "levels" in row]
        for row in rows:
            assert set(row["levels"]) == set(factors)
            assert all(level in factors[factor] for factor, level in row["levels"].items())
        assert [row["levels"] for row in rows] == [dict(cell.levels) for cell in planned(LADDER).cells]


SCALES: Mapping[str, tuple[str, ...]] = {
    "one_gpu": tuple(path.stem for path in STUDIES),
    "paper_dapo": ("dapo_ladder", "dapo_leave_one_out", "dapo_add_one_in", "dapo_factorial"),
    "paper_gtpo": ("entropy_weighting", "gtpo_readings", "gtpo_alpha", "grpo_s_beta"),
    "paper_l1": ("length_control",),
    "paper_dr_grpo": ("length_bias",),
    "paper_deepseekmath": ("grpo_family",),
}
"""Scale → the studies that are laid out at it."""


def at(scale: str, study: str) -> StudySpec:
    return at_scale(
        read_study(EXPERIMENTS / "ablations" / f"{study}.yaml"), EXPERIMENTS / "ablations" / "scales" / f"{scale}.yaml"
    )


class TestEveryScale:
    def test_there_are_no_others(self) -> None:
        assert {path.stem for path in (EXPERIMENTS / "ablations" / "scales").glob("*.yaml")} == set(SCALES)

    @pytest.mark.parametrize("scale", SCALES)
    def test_a_cell_of_it_parses(self, scale: str) -> None:
        spec = at(scale, "length_control" if scale == "one_gpu" else SCALES[scale][0])
        levels = {factor: list(levels)[-1] for factor, levels in spec.factors.items()}
        config = parse(spec.config(levels, spec.seeds[0])).config
        assert config["model"]["policy"]["path"] != "builtin"
        assert config["trainer"]["accelerator"] == "gpu"
        assert "'class_path': 'research.rewards.ExactAnswer'" not in str(config)
        assert "'class_path': 'research.prompts.Arithmetic'" not in str(config)

    @pytest.mark.slow
    @pytest.mark.parametrize(("scale", "study"), [(scale, study) for scale in SCALES for study in SCALES[scale]])
    def test_every_study_of_it_can_be_planned(self, scale: str, study: str) -> None:
        spec = at(scale, study)
        plan = make_plan(spec, Path("nowhere"))
        assert len({run.recipe.digest for run in plan.runs}) == len(plan.runs)
        assert plan.spec.name == f"{study}-{scale}"
