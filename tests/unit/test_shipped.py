"""Recipes and studies by name, from any folder."""

from pathlib import Path

import pytest
from conftest import EXPERIMENTS, refused

from research.shipped import find, shipped


@pytest.mark.parametrize(
    ("typed", "kinds", "file"),
    [
        ("dapo", ("recipe",), "dapo.yaml"),
        ("dapo.yaml", ("recipe",), "dapo.yaml"),
        ("experiments/dapo.yaml", ("recipe",), "dapo.yaml"),
        ("gsm8k_qwen2.5_0.5b", ("recipe",), "models/gsm8k_qwen2.5_0.5b.yaml"),
        ("models/gsm8k_qwen2.5_0.5b", ("recipe",), "models/gsm8k_qwen2.5_0.5b.yaml"),
        ("one_gpu", ("overlay",), "hardware/one_gpu.yaml"),
        ("one_gpu", ("scale",), "ablations/scales/one_gpu.yaml"),
        ("dapo_ladder", ("study",), "ablations/dapo_ladder.yaml"),
        ("experiments/ablations/dapo_ladder.yaml", ("study",), "ablations/dapo_ladder.yaml"),
    ],
)
def test_a_name_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, kinds: tuple[str, ...], file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(Path(typed), *kinds) == EXPERIMENTS / file


def test_a_file_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dapo.yaml").write_text("model: {}\n")
    assert find(Path("dapo.yaml"), "recipe") == Path("dapo.yaml")


def test_a_near_name_is_offered() -> None:
    assert "did you mean dapo_ladder?" in refused(lambda: find(Path("dapo_lader"), "study"))
    assert "`research recipes` lists" in refused(lambda: find(Path("xyz"), "recipe"))


def test_every_one_says_in_a_sentence_what_it_is() -> None:
    for one in shipped():
        assert 20 < len(one.summary) < 320, one.path
    assert {one.path for one in shipped("recipe")} == {*EXPERIMENTS.glob("*.yaml"), *EXPERIMENTS.glob("models/*.yaml")}
