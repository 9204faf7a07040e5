"""What a scale does to a study: nodes replaced, components adapted wherever they stand, levels left out."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import refused

from research.ablation.scale import Scale, read_scale
from research.ablation.spec import StudySpec, at_scale, read_study

RECIPE: dict[str, Any] = {
    "model": {
        "policy": "builtin",
        "kl": {"class_path": "K3", "init_args": {"beta": 0.04}},
        "shaping": [{"class_path": "OverlongPenalty", "init_args": {"max_length": 32, "buffer": 10}}],
        "critic": None,
        "steps": {"class_path": "NoSteps"},
        "seed": 0,
    }
}
STUDY = """
question: Does it matter?
base: recipe.yaml
design: factorial
seeds: [0, 1]
metric: {name: evaluation/avg_at_k, direction: maximize}
factors:
  kl:
    none: {model.kl: {class_path: NoKL}}
    k3: {model.kl: {class_path: K3, init_args: {beta: 0.04}}}
    off_policy: {model.kl: {class_path: ImportanceWeightedK3, init_args: {beta: 0.04}}}
"""
SCALE: dict[str, Any] = {
    "scale": "a large model",
    "seeds": [7],
    "hold": {"model.policy": "large"},
    "where": {"model.critic.learning_rate": 1e-5},
    "components": {
        "OverlongPenalty": {"init_args": {"max_length": 512, "buffer": None}},
        "K3": {"class_path": "K1"},
    },
    "lacks": {"ImportanceWeightedK3": "there is no such thing"},
}


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "study.yaml").write_text(STUDY)
    return read_study(tmp_path / "study.yaml")


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "large.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**SCALE, **changes}.items() if value is not None}))
    return path


def test_a_study_at_a_scale(spec: StudySpec, tmp_path: Path) -> None:
    large = at_scale(spec, written(tmp_path))
    assert (large.name, large.scale, large.seeds) == ("study-large", "a large model", [7])
    assert list(large.factors["kl"]) == ["none", "k3"]
    assert large.left_out == ["kl = off_policy is left out, for its ImportanceWeightedK3: there is no such thing"]
    model = large.config({"kl": "k3"}, 7)["model"]
    assert model == {
        "policy": "large",
        "kl": {"class_path": "K1", "init_args": {"beta": 0.04}},
        "shaping": [{"class_path": "OverlongPenalty", "init_args": {"max_length": 512}}],
        "critic": None,
        "steps": {"class_path": "NoSteps"},
        "seed": 7,
    }
    assert spec.config({"kl": "k3"}, 0)["model"] == RECIPE["model"]


def test_what_is_set_only_where_it_is_there(tmp_path: Path) -> None:
    scale = read_scale(written(tmp_path))
    assert scale.adapt({"model": {"critic": {"learning_rate": 1.0}}})["model"]["critic"] == {"learning_rate": 1e-5}


def test_what_a_recipe_gives(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    scale = read_scale(written(tmp_path, recipe="recipe.yaml", take=["model.policy", "model.steps"]))
    assert scale.nodes == {"model.policy": "large", "model.steps": {"class_path": "NoSteps"}}


def test_a_level_of_the_scales_own(spec: StudySpec, tmp_path: Path) -> None:
    nodes = {"model.kl": {"class_path": "K2"}}
    large = at_scale(spec, written(tmp_path, factors={"kl": {"k3": nodes}, "of_another_study": {"on": {}}}))
    assert large.factors["kl"]["k3"] == nodes
    for level in ({"k4": nodes}, {"k3": {"model.critic": None}}):
        path = written(tmp_path, factors={"kl": level})
        assert "not a level of the study with the same paths" in refused(lambda path=path: at_scale(spec, path))


def test_a_path_that_is_lacking() -> None:
    scale = Scale(path="large.yaml", lacks={"model.critic": "no critic"})
    assert scale.lacking({"model": {"critic": {"learning_rate": 1}}}) == "model.critic: no critic"
    assert scale.lacking({"model.critic": {"learning_rate": 1}}) == "model.critic: no critic"
    assert scale.lacking({"model": {"critic": None}}) is None
    assert scale.lacking({"model": {}}) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"holds": {}}, "no key is called holds"),
        ({"hold": ["model.policy"]}, "hold holds keys"),
        ({"take": ["model.policy"]}, "give both, or neither"),
        ({"components": {"OverlongPenality": {}}}, "no component is called OverlongPenality"),
        ({"lacks": {"Stepps": "none"}}, "no component is called Stepps"),
        ({"recipe": "recipe.yaml", "take": ["model.nowhere"]}, "recipe.yaml has no model.nowhere"),
        ({"hold": {"model.nowhere": 1}}, "the base recipe has no model.nowhere"),
        ({"seeds": [0, 0]}, "seeds is a list of different whole numbers"),
        ({"lacks": {"K3": "no", "NoKL": "no"}}, "kl has fewer than two levels here"),
    ],
)
def test_mistakes(changes: dict[str, Any], words: str, spec: StudySpec, tmp_path: Path) -> None:
    path = written(tmp_path, **changes)
    assert words in refused(lambda: at_scale(spec, path).base_config)
