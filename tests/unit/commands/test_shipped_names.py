"""Recipes and studies by name, in an empty folder; the length of a run in one word; the trainer's own arguments."""

from pathlib import Path

import pytest
from conftest import EXPERIMENTS, refused

from research.ablation.plan import make_plan
from research.ablation.spec import read_study
from research.cli import main
from research.commands.recipes import checked, with_steps
from research.recipe import parse
from research.recipe_file import read_recipe


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_recipe_and_an_overlay_by_name() -> None:
    config = checked([Path("dapo"), Path("one_gpu")], ["--model.seed=3"])
    assert config["trainer"] == {"accelerator": "gpu", "devices": 1}
    assert config["model"]["seed"] == 3


def test_recipes_are_listed_shown_and_copied(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(word in listed for word in ("dapo_ladder", "grpo_s", "one_gpu", "DAPO: Yu et al. 2025"))
    assert main(["recipes", "dapo"]) == 0
    assert capsys.readouterr().out == (EXPERIMENTS / "dapo.yaml").read_text()
    assert main(["recipes", "dapo", "--copy"]) == 0
    assert (empty / "dapo.yaml").read_text() == (EXPERIMENTS / "dapo.yaml").read_text()
    assert "research fit dapo.yaml" in capsys.readouterr().out
    assert main(["recipes", "dapo", "--copy"]) == 2
    assert "dapo.yaml exists already" in capsys.readouterr().err


def test_a_copied_study_finds_its_recipes_and_its_paper(empty: Path) -> None:
    assert main(["recipes", "dapo_ladder", "--copy"]) == 0
    spec = read_study(empty / "dapo_ladder.yaml")
    assert spec.base_config["data"] == read_recipe([EXPERIMENTS / "grpo.yaml"])["data"]
    assert spec.resolved(spec.papers[0]) == EXPERIMENTS / "papers" / "dapo_table1.yaml"
    choice = "../papers/gtpo_table1.yaml#32b/aime24_mean"
    assert str(spec.resolved(choice)) == f"{EXPERIMENTS}/papers/gtpo_table1.yaml#32b/aime24_mean"


@pytest.mark.parametrize(
    ("steps", "every", "expected"), [(4, 10, 4), (20, 10, 10), (30, 20, 15), (7, 3, 1), (1, 10, 1)]
)
def test_evaluations_follow_the_number_of_steps(steps: int, every: int, expected: int) -> None:
    config = {"run": {"steps": 100, "tokens": 9, "evaluate_every": every, "checkpoint_every": 5}}
    assert with_steps(config, steps) == {"run.steps": steps, "run.evaluate_every": expected, "run.tokens": None}
    assert with_steps(config, None) == {}


def test_no_steps() -> None:
    assert refused(lambda: with_steps({"run": {}}, 0)) == "--steps is at least 1, got 0"


def test_a_study_of_four_steps(empty: Path) -> None:
    spec = read_study(EXPERIMENTS / "ablations" / "dapo_ladder.yaml")
    assert make_plan(spec, empty / "study", with_steps(spec.base_config, 4)).steps == 4


def test_lightnings_own_arguments_are_refused() -> None:
    config = read_recipe([EXPERIMENTS / "grpo.yaml"])
    config["trainer"] = {**config["trainer"], "precision": "bf16-mixed"}
    assert "trainer.precision is not a setting here: use model.policy.precision" in refused(lambda: parse(config))


def test_a_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["fit", "models/gsm8k_qwen2.5_0.5b"]) == 2
    assert "lay the overlay experiments/hardware/cpu.yaml over it" in capsys.readouterr().err
