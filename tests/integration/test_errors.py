"""What goes wrong around a run: disks, folders, gradients that are not finite. One sentence, and nothing is lost."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback

from research.errors import UserError
from research.recipe import Recipe
from research.runs.evaluate import evaluate
from research.runs.fit import fit
from research.runs.folder import CHECKPOINT, is_complete
from research.tracking import merged_steps, replace_text
from research.training import checkpoint


def refused(action: Callable[[], Any]) -> str:
    """The one sentence with which an action is refused.

    A limit on file sizes that the action ran under is lifted at once: pytest's own output may be a file.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(UserError) as caught:
            action()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def steps_saved(folder: Path) -> int:
    return torch.load(folder / CHECKPOINT, weights_only=True)["research"]["steps_done"]


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


class AtStep(Callback):
    """Does something when a step begins."""

    def __init__(self, step: int, action: Callable[[Any], None]) -> None:
        self.step, self.action = step, action

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if pl_module.steps_done + 1 == self.step:
            self.action(pl_module)


@pytest.fixture(scope="module")
def grpo(recipe: Callable[..., Recipe]) -> Recipe:
    return recipe("grpo")


class TestDisk:
    @pytest.fixture
    def file_size_limit(self) -> Iterator[Callable[[int], None]]:
        """Lets no file of this process grow beyond so many bytes."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def test_checkpoint_that_does_not_fit(
        self, grpo: Recipe, tmp_path: Path, file_size_limit: Callable[[int], None]
    ) -> None:
        """A real refusal by the operating system, in the middle of the file."""
        message = refused(lambda: fit(grpo, tmp_path, [AtStep(3, lambda _: file_size_limit(64 * 1024))]))
        assert "cannot write the checkpoint" in message
        assert str(tmp_path / CHECKPOINT) in message
        assert steps_saved(tmp_path) == 2
        assert not leftovers(tmp_path)

    def test_run_continues_when_there_is_room_again(
        self, grpo: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save = torch.save

        def full(state: dict[str, Any], file: Any) -> None:
            file.write(b"some of it")
            if state["research"]["steps_done"] == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            file.seek(0)
            save(state, file)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.torch, "save", full)
            assert "No space left on device" in refused(lambda: fit(grpo, tmp_path))
        assert steps_saved(tmp_path) == 2
        assert not leftovers(tmp_path)
        fit(grpo, tmp_path)
        assert is_complete(tmp_path)
        assert sorted(merged_steps(tmp_path)) == [0, 1, 2, 3, 4]

    def test_metrics_that_do_not_fit(
        self, grpo: Recipe, tmp_path: Path, file_size_limit: Callable[[int], None]
    ) -> None:
        """What a step measures is the first thing to meet a full disk."""

        def stop_growing(_: Any) -> None:
            file_size_limit((tmp_path / "metrics.jsonl").stat().st_size + 10)

        message = refused(lambda: fit(grpo, tmp_path, [AtStep(3, stop_growing)]))
        assert "metrics.jsonl" in message
        assert steps_saved(tmp_path) == 2

    def test_replacing_a_file_leaves_the_old_one(self, tmp_path: Path, file_size_limit: Callable[[int], None]) -> None:
        path = tmp_path / "result.json"
        replace_text(path, "old")
        file_size_limit(1000)
        assert str(path) in refused(lambda: replace_text(path, "new" * 1000))
        assert path.read_text() == "old"
        assert not leftovers(tmp_path)


class TestFolders:
    @pytest.mark.parametrize("below", ["", "run", "study/run"])
    def test_a_file_where_a_folder_should_be(self, below: str, grpo: Recipe, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        folder = tmp_path / "file" / below if below else tmp_path / "file"
        assert str(folder) in refused(lambda: fit(grpo, folder))
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
    def test_a_folder_that_is_read_only(self, grpo: Recipe, tmp_path: Path) -> None:
        folder = tmp_path / "read_only"
        folder.mkdir()
        folder.chmod(0o555)
        assert "Permission denied" in refused(lambda: fit(grpo, folder))
        assert "Permission denied" in refused(lambda: fit(grpo, folder / "run"))

    def test_a_folder_that_refuses_even_the_cleaning_up(
        self, grpo: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A read-only file system refuses to open a file and to delete one, also one that is not there."""

        def read_only(*_: Any, **__: Any) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", read_only)
            patch.setattr(Path, "unlink", read_only)
            message = refused(lambda: replace_text(tmp_path / "config.yaml", "text"))
        assert "Read-only file system" in message

    def test_no_checkpoint_to_evaluate(self, grpo: Recipe, tmp_path: Path) -> None:
        assert "no checkpoint" in refused(lambda: evaluate(grpo, tmp_path, tmp_path / CHECKPOINT))

    @pytest.mark.parametrize("path", ["nowhere/at/all", "{empty}"])
    def test_no_policy_there(self, path: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        path = path.format(empty=tmp_path / "empty")
        message = refused(lambda: fit(recipe("grpo", {"model.policy.path": path}), tmp_path / "run"))
        assert path in message
        fit(recipe("grpo", {"run.steps": 2}), tmp_path / "run")  # the mistake put right, in the same folder


@contextmanager
def gradient_of(module: Any, factor: float) -> Iterator[None]:
    """Multiply one parameter's gradient."""
    parameter = next(p for p in module.model.parameters() if p.requires_grad)
    handle = parameter.register_hook(lambda gradient: gradient * factor)
    yield
    handle.remove()


def spoil(updates: set[int], factor: float, seen: list[Any]) -> Callable[[Any], None]:
    """Make the gradient of some of a step's optimizer steps not finite; `seen` gets the state around each of them."""

    def state(module: Any) -> Any:
        weights = [p.detach().clone() for p in module.model.parameters()]
        moments = [v.clone() for s in module.optimizers().state.values() for v in s.values()]
        return [*weights, *moments]

    def begin(module: Any) -> None:
        optimizer_step, backward_rows, count = module.optimizer_step, module.backward_rows, [0]

        def backward(*args: Any) -> None:
            with gradient_of(module, factor if count[0] in updates else 1.0):
                backward_rows(*args)

        def step(*_: Any) -> tuple[float, bool] | None:
            before = state(module)
            result = optimizer_step()
            seen.append((result, before, state(module)))
            count[0] += 1
            return result

        module.backward_rows, module.optimizer_step = backward, step

    return begin


class TestNonFinite:
    @pytest.mark.parametrize("factor", [float("nan"), float("inf")])
    def test_one_update_is_skipped(self, factor: float, grpo: Recipe, tmp_path: Path) -> None:
        seen: list[Any] = []
        fit(grpo, tmp_path, [AtStep(2, spoil({0}, factor, seen))])
        (_, taken), before, after = seen[0]
        assert not taken
        assert len(before) == len(after)
        assert all(torch.equal(b, a) for b, a in zip(before, after, strict=True))
        (norm, taken), before, after = seen[1]
        assert taken
        assert norm < float("inf")
        assert any(not torch.equal(b, a) for b, a in zip(before, after, strict=True))
        steps = merged_steps(tmp_path)
        assert [steps[k]["cost/nonfinite_updates"] for k in (1, 2, 3, 4)] == [0, 1, 1, 1]
        assert [steps[k]["cost/optimizer_steps"] for k in (1, 2, 3, 4)] == [2, 3, 5, 7]

    def test_rewards_that_are_not_finite(self, grpo: Recipe, tmp_path: Path) -> None:
        """What is not finite left of the stop-gradient line is caught as well; NaN itself means a missing reward."""

        def infinite_rewards(module: Any) -> None:
            reward = module.reward
            infinite = torch.tensor(float("inf"))
            module.reward = lambda batch: (b := reward(batch)).with_quantities(rewards=b["rewards"] + infinite)

        def restore(module: Any) -> None:
            del module.reward

        fit(grpo, tmp_path, [AtStep(2, infinite_rewards), AtStep(3, restore)])
        steps = merged_steps(tmp_path)
        assert [steps[k]["cost/nonfinite_updates"] for k in (1, 2, 3, 4)] == [0, 2, 2, 2]

    def test_a_run_of_nothing_else_stops_and_can_be_continued(
        self, recipe: Callable[..., Recipe], tmp_path: Path
    ) -> None:
        """Two skipped in step 1, which is checkpointed; the third in a row ends the run within step 2."""
        limited = recipe("grpo", {"model.optimization.max_nonfinite": 3})
        message = refused(lambda: fit(limited, tmp_path, [AtStep(1, spoil({0, 1, 2, 3}, float("nan"), []))]))
        assert "3 updates in a row" in message
        assert steps_saved(tmp_path) == 1
        fit(limited, tmp_path)
        steps = merged_steps(tmp_path)
        assert [steps[k]["cost/nonfinite_updates"] for k in (1, 2, 3, 4)] == [2, 2, 2, 2]

    def test_the_count_in_a_row_survives_a_resume(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        limited = recipe("grpo", {"model.optimization.max_nonfinite": 3})
        forever = spoil({0, 1, 2, 3}, float("nan"), [])
        refused(lambda: fit(limited, tmp_path, [AtStep(1, forever)]))
        seen: list[Any] = []
        message = refused(lambda: fit(limited, tmp_path, [AtStep(2, spoil({0, 1}, float("nan"), seen))]))
        assert "3 updates in a row" in message
        assert seen == []  # the very first update after the resume was the third in a row
