"""A run that was interrupted, anywhere and however often, ends as one that was not: bit for bit, but for clocks."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DYNAMIC, SMALL
from lightning import Callback

from research.errors import UserError
from research.recipe import Recipe
from research.runs.fit import fit
from research.runs.folder import CHECKPOINT, is_complete
from research.tracking import RESULT

STEPS = SMALL["run.steps"]
POINTS = ("before", "sampled", "updating", "logged", "evaluated")
LEARNERS: Mapping[str, Any] = {
    "model.credit.advantage": {"class_path": "GAE", "init_args": {"gamma": 1.0, "lam": 0.9, "whiten": True}},
    "model.critic": {"learning_rate": 1e-3, "shares_body": False, "lam": 1.0, "value_clip": 0.2, "pretrain_steps": 1},
    "model.iterations": {
        "steps": 2,
        "resets_reference": True,
        "reward_model": {
            "learning_rate": 1e-3,
            "prompts": 6,
            "epochs": 1,
            "groups_per_update": 2,
            "replay": 0.5,
        },
    },
    "model.objective.entropy": {
        "class_path": "AdaptiveEntropyBonus",
        "init_args": {"target": 3.0, "step": 0.01, "initial": 0.0, "largest": 0.1},
    },
    "model.credit.weights": [{"class_path": "CovarianceBand", "init_args": {"share": 0.1, "low": 0.0, "high": 9.0}}],
}
"""Whatever has a state of its own: critic, reward model and its history, reset reference, adaptive bonus, draws."""
CALCULATOR = {"open": "(", "close": ")", "before": "=", "after": "", "failed": "()"}
TOOL: Mapping[str, Any] = {
    **DYNAMIC,
    "model.rollouts.sampler": {
        "class_path": "ToolSampler",
        "init_args": {
            "sampler": {"class_path": "CompactSampler"},
            "tool": {"class_path": "Calculator", "init_args": CALCULATOR},
            "max_calls": 2,
        },
    },
}
EQUATIONS: Mapping[str, Mapping[str, Any]] = {"grpo": {}, "dynamic": DYNAMIC, "learners": LEARNERS, "tool": TOOL}


class Interrupted(Exception):
    """What the tests interrupt a run with."""


class Interrupt(Callback):
    """Raises at one point of one step.

    Points: `before` the step, `sampled` (groups collected, nothing updated), `updating` (one optimizer step of the two
    taken), `logged` (its metrics written, not yet evaluated), `evaluated` (not yet checkpointed).
    """

    def __init__(self, step: int, point: str, error: type[BaseException] = Interrupted) -> None:
        assert point in POINTS
        self.step, self.point, self.error = step, point, error

    def _reach(self, point: str, step: int) -> None:
        if (step, point) == (self.step, self.point):
            raise self.error

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._reach("before", pl_module.steps_done + 1)
        reward, optimizer_step = type(pl_module).reward, type(pl_module).optimizer_step

        def after_sampling(batch: Any) -> Any:
            self._reach("sampled", pl_module.steps_done + 1)
            return reward(pl_module, batch)

        def after_one(learns: bool = True) -> tuple[float, bool] | None:
            result = optimizer_step(pl_module, learns)
            self._reach("updating", pl_module.steps_done + 1)
            return result

        pl_module.reward, pl_module.optimizer_step = after_sampling, after_one

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self._reach("logged", pl_module.steps_done)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._reach("evaluated", pl_module.steps_done)


def disturb() -> None:
    """Move every global generator somewhere else: no run may depend on them."""
    noise = int.from_bytes(os.urandom(4), "big")
    random.seed(noise)
    np.random.seed(noise)  # noqa: NPY002 - the global generator is what is disturbed
    torch.manual_seed(noise)


def interrupted_fit(recipe: Recipe, folder: Path, interruptions: list[tuple[int, str]]) -> None:
    """Run, be interrupted, run again, …, until it ends."""
    for step, point in interruptions:
        disturb()
        with pytest.raises(Interrupted):
            fit(recipe, folder, [Interrupt(step, point)])
        assert not is_complete(folder)
    disturb()
    fit(recipe, folder)


def untimed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.startswith("time/")}


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    return [untimed(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def result_of(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / RESULT).read_text())
    del result["seconds"], result["memory"]
    return {**result, "last": untimed(result["last"])}


def plain(value: Any) -> Any:
    """A checkpoint's value with tensors as (dtype, nested lists), so that == is exact and total."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return plain(vars(value))
    return value


def checkpoint_of(folder: Path) -> dict[str, Any]:
    """All that the last checkpoint carries into a next step, the global generators' states left out."""
    state = torch.load(folder / CHECKPOINT, weights_only=True)
    state["research"].pop("random")
    names = ("state_dict", "optimizer_states", "lr_schedulers", "research", "epoch", "global_step", "PromptData")
    return {name: plain(state[name]) for name in names}


def assert_same_run(folder: Path, whole: Path) -> None:
    assert metrics_of(folder) == metrics_of(whole)
    assert (folder / "items.jsonl").read_bytes() == (whole / "items.jsonl").read_bytes()
    assert result_of(folder) == result_of(whole)
    assert checkpoint_of(folder) == checkpoint_of(whole)


@pytest.fixture(scope="module")
def whole(recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Recipe, Path]]:
    """For each set of equations, a recipe and the folder of its uninterrupted run."""
    runs = {}
    for name, overrides in EQUATIONS.items():
        folder = tmp_path_factory.mktemp("whole") / name
        disturb()
        fit(recipe("grpo", overrides), folder)
        runs[name] = recipe("grpo", overrides), folder
    return runs


@pytest.fixture
def sigint() -> Iterator[Any]:
    """The handler of SIGINT, put back in the end: Lightning ignores the signal from a first interrupt on."""
    handler = signal.getsignal(signal.SIGINT)
    yield handler
    signal.signal(signal.SIGINT, handler)


class TestAnUninterruptedRun:
    def test_covers_what_resuming_could_lose(self, whole: dict[str, tuple[Recipe, Path]]) -> None:
        """Otherwise the comparisons below would hold for nothing."""
        lines = metrics_of(whole["dynamic"][1])
        steps = [line for line in lines if "rewards/accuracy" in line]
        assert [line["step"] for line in steps] == [1, 2, 3, 4]
        assert [line["step"] for line in lines if "evaluation/avg_at_k" in line] == [0, 2, 4]
        assert max(line["rollouts/rounds"] for line in steps) > 1
        assert max(line["rollouts/groups_stale"] for line in steps) > 0
        assert steps[-1]["cost/groups_dropped"] > 0
        assert max(line["objective/ratio_max"] for line in steps) > 1.01

    def test_same_seed_same_run_and_another_seed_another(
        self, whole: dict[str, tuple[Recipe, Path]], recipe: Callable[..., Recipe], tmp_path: Path
    ) -> None:
        again, other = tmp_path / "again", tmp_path / "other"
        disturb()
        fit(whole["dynamic"][0], again)
        assert_same_run(again, whole["dynamic"][1])
        fit(recipe("grpo", {"model.seed": 1}), other)
        assert metrics_of(other)[0] != metrics_of(whole["grpo"][1])[0]
        assert metrics_of(other)[1] != metrics_of(whole["grpo"][1])[1]

    def test_started_again_when_complete_changes_nothing(
        self, whole: dict[str, tuple[Recipe, Path]], tmp_path: Path
    ) -> None:
        """Killed between the last checkpoint and the result: the next start only writes the result."""
        recipe, folder = whole["grpo"]
        for name in (CHECKPOINT, "metrics.jsonl", "items.jsonl", "config.yaml"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        fit(recipe, tmp_path)
        assert_same_run(tmp_path, folder)


OFTEN = [pytest.param(point, marks=[] if point == "updating" else pytest.mark.slow) for point in POINTS]


@pytest.mark.parametrize("point", OFTEN)
def test_interrupted_once_in_every_step(point: str, whole: dict[str, tuple[Recipe, Path]], tmp_path: Path) -> None:
    recipe, folder = whole["dynamic"]
    interrupted_fit(recipe, tmp_path, [(step, point) for step in range(1, STEPS + 1)])
    assert_same_run(tmp_path, folder)


def test_critic_reward_model_and_reference_are_resumed(whole: dict[str, tuple[Recipe, Path]], tmp_path: Path) -> None:
    recipe, folder = whole["learners"]
    interrupted_fit(recipe, tmp_path, [(2, "updating"), (3, "evaluated"), (4, "sampled")])
    assert_same_run(tmp_path, folder)
    state = torch.load(folder / CHECKPOINT, weights_only=True)["research"]
    assert state["history"]
    assert state["reference"] is not None
    assert state["entropy_coefficient"] > 0


def test_turns_and_what_a_tool_wrote_are_resumed(whole: dict[str, tuple[Recipe, Path]], tmp_path: Path) -> None:
    recipe, folder = whole["tool"]
    interrupted_fit(recipe, tmp_path, [(2, "updating"), (3, "evaluated"), (4, "sampled")])
    assert_same_run(tmp_path, folder)
    lines = metrics_of(folder)
    assert all(line["rollouts/tool_calls_mean"] > 0 for line in lines if "rewards/accuracy" in line)
    assert any(line.get("evaluation/tool_failures_mean", 0) > 0 for line in lines)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_interrupted_in_one_step_only(step: int, whole: dict[str, tuple[Recipe, Path]], tmp_path: Path) -> None:
    recipe, folder = whole["grpo"]
    interrupted_fit(recipe, tmp_path, [(step, POINTS[step])])
    assert_same_run(tmp_path, folder)


@pytest.mark.parametrize("every", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_steps_since_the_last_checkpoint_are_done_again(
    every: int, recipe: Callable[..., Recipe], whole: dict[str, tuple[Recipe, Path]], tmp_path: Path
) -> None:
    sparse = recipe("grpo", {**DYNAMIC, "run.checkpoint_every": every})
    interrupted_fit(sparse, tmp_path, [(2, "evaluated"), (3, "updating"), (4, "logged")])
    assert_same_run(tmp_path, whole["dynamic"][1])


def test_keyboard_interrupt(whole: dict[str, tuple[Recipe, Path]], tmp_path: Path, sigint: Any) -> None:
    """It stays what it is, for the caller to report, and a second one is heard as well."""
    recipe, folder = whole["dynamic"]
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path, [Interrupt(3, "updating", KeyboardInterrupt)])
    assert signal.getsignal(signal.SIGINT) is sigint
    fit(recipe, tmp_path)
    assert_same_run(tmp_path, folder)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch, yaml
torch.set_num_threads(1)
from research.recipe import Recipe
from research.runs.fit import fit
from research.training import checkpoint

folder, saved = Path(sys.argv[1]), []

def kill_in_the_middle(state, file):
    saved.append(state)
    if len(saved) == 3:
        file.write(b"half a checkpoint")
        file.flush()
        with (folder / "metrics.jsonl").open("a") as metrics:
            metrics.write('{"step": 4, "rewards/accu')
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, file)

save, checkpoint.torch.save = torch.save, kill_in_the_middle
fit(Recipe(config=yaml.safe_load((folder / "config.yaml").read_text())), folder)
"""


@pytest.fixture(scope="module")
def killed(whole: dict[str, tuple[Recipe, Path]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of a process that was killed while it wrote its third checkpoint, and its exit status."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "config.yaml").write_text(whole["dynamic"][0].text)
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests.parent), str(tests)])
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    return folder, process.returncode


@pytest.mark.process
def test_a_killed_process_is_continued_by_another(
    killed: tuple[Path, int], whole: dict[str, tuple[Recipe, Path]]
) -> None:
    recipe, uninterrupted = whole["dynamic"]
    folder, status = killed
    assert status == -signal.SIGKILL
    assert torch.load(folder / CHECKPOINT, weights_only=True)["research"]["steps_done"] == 2
    fit(recipe, folder)
    assert_same_run(folder, uninterrupted)
    assert not [path for path in folder.iterdir() if path.name.startswith(f".{CHECKPOINT}")]  # it may be gigabytes


class TestRefusals:
    def message(self, recipe: Recipe, folder: Path) -> str:
        with pytest.raises(UserError) as caught:
            fit(recipe, folder)
        message = str(caught.value)
        assert message
        assert "\n" not in message
        return message

    @pytest.fixture
    def copy(self, whole: dict[str, tuple[Recipe, Path]], tmp_path: Path) -> Path:
        """A run's folder without its result."""
        for name in (CHECKPOINT, "metrics.jsonl", "items.jsonl", "config.yaml"):
            (tmp_path / name).write_bytes((whole["grpo"][1] / name).read_bytes())
        return tmp_path

    @pytest.mark.parametrize("change", [{"model.seed": 1}, {"model.objective.kl.init_args.beta": 0.5}])
    def test_a_folder_of_another_recipe(self, change: dict, recipe: Callable[..., Recipe], copy: Path) -> None:
        before = (copy / CHECKPOINT).read_bytes()
        assert "another recipe" in self.message(recipe("grpo", change), copy)
        assert (copy / CHECKPOINT).read_bytes() == before

    def test_a_checkpoint_of_another_seed(self, recipe: Callable[..., Recipe], copy: Path) -> None:
        other = recipe("grpo", {"model.seed": 1})
        (copy / "config.yaml").write_text(other.text)
        message = self.message(other, copy)
        assert "seed 0" in message
        assert "seed is 1" in message

    @pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
    def test_a_checkpoint_that_was_cut(self, kept: float, whole: dict[str, tuple[Recipe, Path]], copy: Path) -> None:
        path = copy / CHECKPOINT
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(int(kept * size) if 0 < kept < 1 else int(kept))
        metrics = (copy / "metrics.jsonl").read_bytes()
        message = self.message(whole["grpo"][0], copy)
        assert str(path) in message
        assert "cannot be read" in message
        assert (copy / "metrics.jsonl").read_bytes() == metrics

    def test_a_checkpoint_of_something_else(self, whole: dict[str, tuple[Recipe, Path]], copy: Path) -> None:
        torch.save({"state_dict": {}}, copy / CHECKPOINT)
        assert "not written by a run of this program" in self.message(whole["grpo"][0], copy)
