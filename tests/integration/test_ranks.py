"""Two processes train as one does: the same gradient, checkpoints that either can go on from."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ranks.worker import AGGREGATES, found
from torch import Tensor

from research.recipe import Recipe
from research.runs.fit import fit
from research.tracking import merged_steps
from research.training.ranks import Ranks

pytestmark = pytest.mark.process
TESTS, ROOT = Path(__file__).parents[1], Path(__file__).parents[2]
LORA = {"model.policy.lora": {"rank": 2, "alpha": 4.0}}


def environment() -> dict[str, str]:
    """Of a process of its own: the package and the tests' verifier can be imported, nothing is inherited from ranks."""
    kept = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
    return {**kept, "PYTHONPATH": f"{ROOT}:{TESTS}", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def recipes(recipe: Callable[..., Recipe]) -> dict[str, Recipe]:
    return {"full": recipe("grpo"), "lora": recipe("grpo", LORA)}


@pytest.fixture(scope="module")
def of_two(recipes: dict[str, Recipe], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each of two ranks found, by recipe."""
    folder = tmp_path_factory.mktemp("ranks")
    for name, recipe in recipes.items():
        (folder / f"{name}.yaml").write_text(recipe.text)
    command = [sys.executable, str(TESTS / "ranks" / "worker.py"), str(folder)]
    running = [
        subprocess.Popen([*command, str(rank)], env=environment(), stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-2000:]
    return {name: [torch.load(folder / f"{name}-{rank}.pt") for rank in (0, 1)] for name in recipes}


@pytest.fixture(scope="module")
def of_one(recipes: dict[str, Recipe]) -> dict[str, dict[str, Tensor]]:
    """What one rank finds of the same batch."""
    return {name: found(recipe, Ranks(), sharded=False) for name, recipe in recipes.items()}


@pytest.mark.parametrize("weights", ["full", "lora"])
@pytest.mark.parametrize("kind", ["plain", "sharded"])
class TestGradient:
    @pytest.mark.parametrize("aggregate", AGGREGATES)
    def test_of_two_ranks_is_that_of_one(
        self, aggregate: str, kind: str, weights: str, of_one: dict[str, Any], of_two: dict[str, Any]
    ) -> None:
        whole = of_one[weights][aggregate]
        assert whole.norm() > 0
        for rank in of_two[weights]:
            assert (rank[kind][aggregate] - whole).norm() < 1e-5 * whole.norm()  # float32, sums in another order
            assert rank[kind][f"{aggregate} tokens"] == of_one[weights][f"{aggregate} tokens"]

    def test_reads_every_row_once(
        self, kind: str, weights: str, of_one: dict[str, Any], of_two: dict[str, Any]
    ) -> None:
        for name in ("annotated", "reference"):
            for rank in of_two[weights]:
                torch.testing.assert_close(rank[kind][name], of_one[weights][name], rtol=0, atol=1e-5)


def command(recipe: Path, folder: Path, strategy: str) -> list[str]:
    overlay = ROOT / "experiments" / "hardware" / f"{strategy}.yaml"
    return [
        *(sys.executable, "-m", "research.cli", "fit", str(recipe), str(overlay), "--trainer.devices=2"),
        *(f"--run.folder={folder}", "--tracking", f"sqlite:///{folder.parent}/mlflow.db"),
    ]


@pytest.mark.parametrize("strategy", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_one_rank_goes_on_from_a_checkpoint_of_two(
    strategy: str, small: Callable[..., dict[str, Any]], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    path, folder = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(small("grpo", {"run.steps": 2, "run.evaluate_every": 1})))
    done = subprocess.run(
        command(path, folder, strategy), env=environment(), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("accuracy, held-out prompts") == 1  # the other rank is silent
    two = merged_steps(folder)
    assert sorted(two) == [0, 1, 2]
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    assert checkpoint["optimizer_states"][0]["state"][0]["exp_avg"].abs().sum() > 0

    longer = recipe("grpo", {"run.steps": 4, "run.evaluate_every": 1})
    (folder / "result.json").unlink()
    (folder / "config.yaml").write_text(longer.text)
    fit(longer, folder)
    one = merged_steps(folder)
    assert sorted(one) == [0, 1, 2, 3, 4]
    assert {step: one[step] for step in two} == two
    assert one[4]["cost/optimizer_steps"] == 8
    assert one[3]["cost/prompts_drawn"] == 9  # the prompts after those of the two ranks' steps
