"""Designs by hand, composition of whole nodes, and the study file's mistakes."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import EXPERIMENTS, refused

from research.ablation.designs import Cell, Comparison, design_cells
from research.ablation.folder.study_file import Study
from research.ablation.nodes import compose, differences
from research.ablation.plan import Plan, make_plan
from research.ablation.spec import read_study
from research.errors import UserError
from research.recipe import parse
from research.recipe_file import read_recipe

TWO: Mapping[str, Mapping[str, Any]] = {"clip": {"low": {}, "high": {}}, "loss_mean": {"sequence": {}, "token": {}}}
THREE = {**TWO, "penalty": {"none": {}, "soft": {}}}


RECIPES = {"method": {"RFT": {}, "Online RFT": {}, "GRPO": {}}}
RESULTS = EXPERIMENTS.parent / "results"


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), allow_unicode=True))


def levels_of(cells: list[Cell]) -> list[tuple[str, ...]]:
    return [tuple(cell.levels.values()) for cell in cells]


def pairs(comparisons: list[Comparison]) -> list[tuple[str, str]]:
    return [(comparison.cell, comparison.reference) for comparison in comparisons]


class TestLadder:
    def test_each_change_is_kept(self) -> None:
        cells, comparisons = design_cells("ladder", THREE, "Base", {"clip": "Clip-Higher"})
        assert [cell.label for cell in cells] == ["Base", "+ Clip-Higher", "+ loss mean", "+ penalty"]
        assert [cell.id for cell in cells] == ["0-base", "1-clip_higher", "2-loss_mean", "3-penalty"]
        assert levels_of(cells) == [
            ("low", "sequence", "none"),
            ("high", "sequence", "none"),
            ("high", "token", "none"),
            ("high", "token", "soft"),
        ]
        assert [list(cell.levels) for cell in cells] == [list(THREE)] * 4
        assert pairs(comparisons) == [
            ("1-clip_higher", "0-base"),
            ("2-loss_mean", "1-clip_higher"),
            ("3-penalty", "2-loss_mean"),
            ("3-penalty", "0-base"),
        ]

    def test_one_factor_is_compared_once(self) -> None:
        cells, comparisons = design_cells("ladder", {"clip": TWO["clip"]}, "Base")
        assert levels_of(cells) == [("low",), ("high",)]
        assert pairs(comparisons) == [("1-clip", "0-base")]

    def test_another_order(self) -> None:
        cells, comparisons = design_cells("ladder", THREE, "Base", None, {"order": ["penalty", "clip", "loss_mean"]})
        assert [cell.id for cell in cells] == ["0-base", "1-penalty", "2-clip", "3-loss_mean"]
        assert [list(cell.levels) for cell in cells] == [list(THREE)] * 4
        assert levels_of(cells)[1:3] == [("low", "sequence", "soft"), ("high", "sequence", "soft")]
        assert pairs(comparisons)[-1] == ("3-loss_mean", "0-base")

    def test_down(self) -> None:
        cells, comparisons = design_cells("ladder", THREE, "Base", None, {"direction": "down"})
        assert [cell.label for cell in cells] == ["all changes", "− clip", "− loss mean", "Base"]
        assert [cell.id for cell in cells] == ["0-all_changes", "1-without_clip", "2-without_loss_mean", "3-base"]
        assert levels_of(cells) == [
            ("high", "token", "soft"),
            ("low", "token", "soft"),
            ("low", "sequence", "soft"),
            ("low", "sequence", "none"),
        ]
        assert pairs(comparisons) == [
            ("1-without_clip", "0-all_changes"),
            ("2-without_loss_mean", "1-without_clip"),
            ("3-base", "2-without_loss_mean"),
            ("0-all_changes", "3-base"),
        ]

    def test_both_directions_share_their_ends(self) -> None:
        cells, comparisons = design_cells("ladder", THREE, "Base", None, {"direction": "both"})
        assert len(set(levels_of(cells))) == len(cells) == 6
        assert [cell.id for cell in cells[3:]] == ["3-penalty", "4-without_clip", "5-without_loss_mean"]
        assert pairs(comparisons) == [
            ("1-clip", "0-base"),
            ("2-loss_mean", "1-clip"),
            ("3-penalty", "2-loss_mean"),
            ("4-without_clip", "3-penalty"),
            ("5-without_loss_mean", "4-without_clip"),
            ("0-base", "5-without_loss_mean"),
            ("3-penalty", "0-base"),
        ]

    @pytest.mark.parametrize("direction", ["up", "down", "both"])
    def test_one_factor_in_any_direction(self, direction: str) -> None:
        cells, comparisons = design_cells("ladder", {"clip": TWO["clip"]}, "Base", None, {"direction": direction})
        assert sorted(levels_of(cells)) == [("high",), ("low",)]
        assert len(comparisons) == 1

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"order": ["clip"]}, "every factor once"),
            ({"order": ["clip", "clip", "penalty"]}, "every factor once"),
            ({"order": "clip"}, "every factor once"),
            ({"direction": "sideways"}, "got sideways"),
        ],
    )
    def test_mistakes(self, options: dict[str, Any], words: str) -> None:
        assert words in refused(lambda: design_cells("ladder", THREE, "Base", None, options))


class TestAddOneIn:
    def test_each_change_is_alone(self) -> None:
        cells, comparisons = design_cells("add_one_in", THREE, "Base", {"clip": "Clip-Higher"})
        assert [cell.label for cell in cells] == ["Base", "+ Clip-Higher only", "+ loss mean only", "+ penalty only"]
        assert [cell.id for cell in cells] == ["0-base", "1-clip_higher_only", "2-loss_mean_only", "3-penalty_only"]
        assert levels_of(cells) == [
            ("low", "sequence", "none"),
            ("high", "sequence", "none"),
            ("low", "token", "none"),
            ("low", "sequence", "soft"),
        ]
        assert pairs(comparisons) == [(cell.id, "0-base") for cell in cells[1:]]


class TestLeaveOneOut:
    def test_each_change_is_taken_out(self) -> None:
        cells, comparisons = design_cells("leave_one_out", THREE, "Base", {"clip": "Clip-Higher"})
        assert [cell.label for cell in cells] == [
            "all changes",
            "without Clip-Higher",
            "without loss mean",
            "without penalty",
        ]
        assert [cell.id for cell in cells] == [
            "0-all_changes",
            "1-without_clip_higher",
            "2-without_loss_mean",
            "3-without_penalty",
        ]
        assert levels_of(cells) == [
            ("high", "token", "soft"),
            ("low", "token", "soft"),
            ("high", "sequence", "soft"),
            ("high", "token", "none"),
        ]
        assert pairs(comparisons) == [(cell.id, "0-all_changes") for cell in cells[1:]]


class TestFactorial:
    def test_two_by_two(self) -> None:
        cells, comparisons = design_cells("factorial", TWO, "Base", {"clip": "range"})
        assert [cell.label for cell in cells] == [
            "Base",
            "loss mean token",
            "range high",
            "range high, loss mean token",
        ]
        assert [cell.id for cell in cells] == [
            "0-base",
            "1-loss_mean_token",
            "2-range_high",
            "3-range_high_loss_mean_token",
        ]
        assert levels_of(cells) == [("low", "sequence"), ("low", "token"), ("high", "sequence"), ("high", "token")]
        assert pairs(comparisons) == [(cell.id, "0-base") for cell in cells[1:]]

    def test_three_levels_and_three_factors(self) -> None:
        factors = {**TWO, "penalty": {"none": {}, "soft": {}, "hard": {}}}
        cells, comparisons = design_cells("factorial", factors, "Base")
        assert len(cells) == len({cell.id for cell in cells}) == len(set(levels_of(cells))) == 12
        assert levels_of(cells)[:4] == [
            ("low", "sequence", "none"),
            ("low", "sequence", "soft"),
            ("low", "sequence", "hard"),
            ("low", "token", "none"),
        ]
        assert len(comparisons) == 11


class TestDesigns:
    def test_one_that_is_unknown(self) -> None:
        message = refused(lambda: design_cells("staircase", TWO, "Base"))
        assert "staircase" in message
        for design in ("ladder", "add_one_in", "leave_one_out", "factorial"):
            assert design in message

    @pytest.mark.parametrize("design", ["ladder", "add_one_in", "leave_one_out"])
    def test_three_levels_need_the_factorial(self, design: str) -> None:
        factors = {**TWO, "penalty": {"none": {}, "soft": {}, "hard": {}}}
        message = refused(lambda: design_cells(design, factors, "Base"))
        assert "penalty has 3" in message
        assert "factorial" in message


class TestMethods:
    """Whole recipes side by side: same start, same data, same budget, or a sentence that says what differs."""

    STUDY = """
question: Which?
design: methods
seeds: [0]
metric: {name: evaluation/avg_at_k, direction: maximize}
factors:
  method:
    GRPO: GRPO_FILE
    other: other.yaml
"""

    def plan(self, folder: Path, change: Callable[[dict[str, Any]], Any], more: str = "") -> Plan:
        config = read_recipe([EXPERIMENTS / "dr_grpo.yaml"])
        change(config)
        write_yaml(folder / "other.yaml", config)
        path = folder / "study.yaml"
        path.write_text(self.STUDY.replace("GRPO_FILE", str(EXPERIMENTS / "grpo.yaml")) + more)
        return make_plan(read_study(path), folder / "results")

    def test_each_level_is_its_recipe(self, tmp_path: Path) -> None:
        plan = self.plan(tmp_path, lambda config: None)
        assert [cell.label for cell in plan.cells] == ["GRPO", "other"]
        assert pairs(list(plan.comparisons)) == [("1-other", "0-grpo")]
        for run, name in zip(plan.runs, ("grpo", "dr_grpo"), strict=True):
            expected = parse(read_recipe([EXPERIMENTS / f"{name}.yaml"])).config
            assert differences(run.recipe.config, expected) == ["run.save_policy"]

    @pytest.mark.parametrize(
        ("path", "value"),
        [("run.steps", 60), ("data.train.init_args.seed", 7), ("model.evaluation.temperature", 0.5)],
    )
    def test_another_start_or_measure_is_refused(self, path: str, value: Any, tmp_path: Path) -> None:
        def change(config: dict[str, Any]) -> None:
            *parents, leaf = path.split(".")
            reduce(lambda node, key: node[key], parents, config)[leaf] = value

        message = refused(lambda: self.plan(tmp_path, change))
        assert path in message
        assert "hold it" in message
        if path != "run.steps":
            assert self.plan(tmp_path, change, f"hold: {{{path}: {value}}}").runs

    def test_another_budget_is_refused(self, tmp_path: Path) -> None:
        def more_prompts(config: dict[str, Any]) -> None:
            config["data"]["prompts_per_step"] = 64

        assert "256 and 512 completions a step" in refused(lambda: self.plan(tmp_path, more_prompts))

        def as_many_completions(config: dict[str, Any]) -> None:
            more_prompts(config)
            config["model"]["rollouts"]["completions_per_prompt"] = 4

        assert self.plan(tmp_path, as_many_completions).runs

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("design: methods", "design: methods\nbase: a.yaml", "has no base"),
            ("    other: other.yaml", "", "two or more levels"),
            ("    other: other.yaml", "    other: {a: 1}", "level other is not the path"),
            ("factors:", "factors:\n  second: {a: b.yaml, c: d.yaml}", "one factor"),
        ],
    )
    def test_mistakes(self, old: str, new: str, words: str, tmp_path: Path) -> None:
        path = tmp_path / "study.yaml"
        path.write_text(self.STUDY.replace(old, new))
        assert words in refused(lambda: read_study(path))


class TestCompose:
    CONFIG: Mapping[str, Any] = {"model": {"kl": {"class_path": "K3", "init_args": {"beta": 0.04}}, "seed": 0}}

    def test_a_node_is_replaced_whole_and_the_base_is_untouched(self) -> None:
        before, node = deepcopy(self.CONFIG), {"class_path": "NoKL"}
        composed = compose(self.CONFIG, {"model.kl": node}, "level")
        assert composed == {"model": {"kl": {"class_path": "NoKL"}, "seed": 0}}
        assert before == self.CONFIG
        composed["model"]["kl"]["class_path"] = "changed"
        assert node == {"class_path": "NoKL"}

    @pytest.mark.parametrize("path", ["model.kll", "modle.kl", "model.seed.deep", "model.kl.init_args.beta.x", "kl"])
    def test_a_path_that_is_not_there(self, path: str) -> None:
        message = refused(lambda: compose(self.CONFIG, {path: 1}, "factor clip, level high"))
        assert message == f"factor clip, level high: the base recipe has no {path}"


class TestDifferences:
    def test_paths(self) -> None:
        one = {"a": {"b": 1, "c": [1, 2]}, "d": None, "same": {"x": 1}}
        other = {"a": {"b": 2, "c": [1, 3]}, "e": 0, "same": {"x": 1}}
        assert differences(one, other) == ["a.b", "a.c", "e"]
        assert differences(one, deepcopy(one)) == []
        assert differences({"a": {"b": 1}}, {"a": 1}) == ["a"]


STUDY = """
question: Does it matter?
base: recipe.yaml
design: ladder
seeds: [0, 1]
metric: {name: evaluation/avg_at_k, direction: maximize}
factors:
  clip:
    low: {model.clip: {eps: 1}}
    high: {model.clip: {eps: 2}}
  loss:
    sequence: {model.loss: sequence}
    token: {model.loss: token}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


class TestStudyFile:
    def test_one_that_is_right(self, tmp_path: Path) -> None:
        spec = read_study(write(tmp_path, STUDY))
        assert (spec.name, spec.design, spec.seeds) == ("study", "ladder", [0, 1])
        assert (spec.baseline, spec.paper, dict(spec.hold)) == ("base", None, {})
        assert spec.resolved("../x.yaml") == (tmp_path.parent / "x.yaml").resolve()

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("question: Does", "hypothesis: Does", ["no key is called hypothesis", "question"]),
            ("design: ladder\n", "", ["design is missing"]),
            ("    high: {model.clip: {eps: 2}}\n", "", ["factor clip", "fewer than two levels"]),
            ("    low: {model.clip", "    off: {model.clip", ["factor clip", "False", "YAML"]),
            ("    high: {model.clip", "    on: {model.clip", ["factor clip", "True", "YAML"]),
            ("    high: {model.clip", "    2: {model.clip", ["factor clip", "2"]),
            ("high: {model.clip: {eps: 2}}", "high: {model.clop: {eps: 2}}", ["factor clip", "low", "high", "paths"]),
            ("high: {model.clip: {eps: 2}}", "high: {model.clip: 1, model.kl: 2}", ["factor clip", "other paths"]),
            ("high: {model.clip: {eps: 2}}", "high: {}", ["factor clip, level high", "nothing"]),
            ("high: {model.clip: {eps: 2}}", "high: yes", ["factor clip, level high", "nothing"]),
            ("model.loss", "model.clip", ["clip and loss", "both touch model.clip"]),
            ("model.loss", "model.clip.eps", ["clip and loss", "both touch model.clip.eps"]),
            ("model.loss", "model", ["clip and loss", "both touch model.clip"]),
            ("seeds: [0, 1]", "seeds: [0, 0]", ["seeds", "[0, 0]"]),
            ("seeds: [0, 1]", "seeds: [0, 0.5]", ["seeds", "0.5"]),
            ("seeds: [0, 1]", "seeds: [0, true]", ["seeds", "True"]),
            ("seeds: [0, 1]", "seeds: []", ["seeds"]),
            ("seeds: [0, 1]", "seeds: 3", ["seeds", "3"]),
            ("direction: maximize", "direction: up", ["metric", "up", "maximize or minimize"]),
            ("{name: evaluation/avg_at_k, direction: maximize}", "evaluation/avg_at_k", ["metric", "direction"]),
            (", direction: maximize", "", ["metric", "direction"]),
            ("question:", "labels: {klip: clipping}\nquestion:", ["labels", "klip"]),
            ("design: ladder", "design: [", ["not valid YAML"]),
        ],
    )
    def test_a_mistake_is_one_sentence(self, old: str, new: str, words: list[str], tmp_path: Path) -> None:
        assert old in STUDY
        path = write(tmp_path, STUDY.replace(old, new))
        message = refused(lambda: read_study(path))
        for word in [str(path), *words]:
            assert word in message

    @pytest.mark.parametrize("text", ["factors:", "factors: {}", "factors: [clip]", "factors: clip"])
    def test_no_factors(self, text: str, tmp_path: Path) -> None:
        path = write(tmp_path, STUDY.partition("factors:")[0] + text)
        assert "factors" in refused(lambda: read_study(path))

    @pytest.mark.parametrize("key", ["labels", "hold"])
    def test_an_optional_key_left_empty(self, key: str, tmp_path: Path) -> None:
        """Refused in a sentence, or read as not there; never a traceback."""
        (tmp_path / "recipe.yaml").write_text("model: {clip: 1, loss: 2}")
        path = write(tmp_path, f"{key}:\n{STUDY}")
        try:
            spec = read_study(path)
        except UserError as error:
            assert key in str(error)  # noqa: PT017
        else:
            assert spec.base_config == {"model": {"clip": 1, "loss": 2}}
            assert design_cells(spec.design, spec.factors, spec.baseline, spec.labels)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        path = tmp_path / "nowhere.yaml"
        assert str(path) in refused(lambda: read_study(path))

    def test_the_base_recipe_and_what_is_held(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text("model: {clip: 1, loss: 2, kl: 3, seed: 9}")
        spec = read_study(write(tmp_path, f"hold: {{model.kl: {{beta: 0}}}}\n{STUDY}"))
        assert spec.base_config == {"model": {"clip": 1, "loss": 2, "kl": {"beta": 0}, "seed": 9}}
        config = spec.config({"clip": "high", "loss": "token"}, 4, {"model.kl": 7})
        assert config == {"model": {"clip": {"eps": 2}, "loss": "token", "kl": 7, "seed": 4}}
        held = read_study(write(tmp_path, f"hold: {{model.entropy: 0}}\n{STUDY}"))
        assert refused(lambda: held.base_config) == "hold: the base recipe has no model.entropy"


class TestWhatMethodsAreComparedWith:
    def test_each_against_the_first_or_the_previous(self) -> None:
        first = design_cells("methods", RECIPES, "base")[1]
        previous = design_cells("methods", RECIPES, "base", options={"against": "previous"})[1]
        assert pairs(first) == [("1-online_rft", "0-rft"), ("2-grpo", "0-rft")]
        assert pairs(previous) == [("1-online_rft", "0-rft"), ("2-grpo", "1-online_rft")]

    def test_against_nothing_else(self) -> None:
        with pytest.raises(UserError, match="against the first or the previous, got last"):
            design_cells("methods", RECIPES, "base", options={"against": "last"})


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/study.yaml")), ids=lambda path: path.parent.name)
def test_a_study_file_is_written_as_it_was_read(path: Path):
    assert Study.from_yaml(path).to_yaml() == path.read_text()
