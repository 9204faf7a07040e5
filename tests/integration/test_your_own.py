"""docs/your_own.md, done as it says, in an empty folder."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import EXPERIMENTS

from research.ablation.plan import make_plan
from research.ablation.spec import read_study
from research.catalogue import catalogue
from research.cli import main
from research.recipe import Recipe
from research.runs.fit import fit

PAGE = (EXPERIMENTS.parent / "docs" / "your_own.md").read_text()


def block(begins: str) -> str:
    """The indented block of the page that begins with these words."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE, re.MULTILINE)
    found = next(text for text in blocks if text.lstrip("\n").startswith(f"    {begins}"))
    return "\n".join(line[4:] for line in found.strip("\n").splitlines()) + "\n"


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "grpo", "--copy"]) == 0
    return tmp_path


def test_data(empty: Path, recipe: Callable[..., Recipe]) -> None:
    lines = [{"question": f"{a}+{b}=", "answer": str(a + b)} for a in range(2, 8) for b in range(2, 8)]
    assert json.loads(block('{"question"').splitlines()[0]).keys() == lines[0].keys()
    Path("train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:30]))
    Path("held_out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[30:]))
    source = yaml.safe_load(block("train:"))["train"]
    held_out = {**source, "init_args": {**source["init_args"], "path": "held_out.jsonl"}}
    changed = recipe("grpo", {"data.train": source, "data.evaluation": held_out})
    result = fit(changed, empty / "run")
    assert result["data_counts"]["train"]["kept"] == 30
    assert result["data_counts"]["evaluation"]["loaded"] == 6


@pytest.mark.process
def test_reward(empty: Path, recipe: Callable[..., Recipe]) -> None:
    Path("my_rewards.py").write_text(block("def short"))
    functions = yaml.safe_load(block("functions:"))["functions"]
    result = fit(recipe("grpo", {"model.rewards.functions": functions}), empty / "run")
    assert any("short" in name or "FunctionReward" in name for name in result["last"] if name.startswith("rewards/"))


def test_trick_and_its_study(empty: Path, recipe: Callable[..., Recipe]) -> None:
    Path("my_tricks.py").write_text(block("from dataclasses"))
    assert "MedianAdvantage" in {entry.name for entry in catalogue(empty)}
    node = yaml.safe_load(block("advantage:"))["advantage"]
    result = fit(recipe("grpo", {"model.credit.advantage": node}), empty / "run")
    assert result["last"]["credit/advantage_abs_mean"] > 0
    Path("mad.yaml").write_text(block("question:"))
    plan = make_plan(read_study(Path("mad.yaml")), empty / "study")
    assert [cell.label for cell in plan.cells] == ["base", "+ baseline only"]
    assert len(plan.runs) == 4
