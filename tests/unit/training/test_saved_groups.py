"""Groups in a checkpoint: they come back as they were, as data that torch reads without unpickling objects."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import refused

from research.training.checkpoint import AtomicCheckpointIO, foreign
from research.training.saved_groups import loaded_groups, saved_group
from research.types import Completion, Group, Prompt, ToolCall

NAN = float("nan")


def group(**changes: Any) -> Group:
    meta = {"target": 3, "entry": {"pairs": [(1, 2)], "seen": {1, 2}, "note": None}}
    first = Completion(
        token_ids=(1, 2**40),
        rollout_logprobs=(-0.1, -1e-300),
        text="a\x00ü",
        finish_reason="stop",
        tool_calls=(ToolCall(start=0, tokens=1, failed=True),),
    )
    second = Completion(token_ids=(3,), rollout_logprobs=(-2.5,), text="", finish_reason="length")
    fields: dict[str, Any] = {
        "prompt": Prompt(id="0", text="1 + 1", answer="2", meta=meta),
        "prompt_ids": (4, 5),
        "completions": (first, second),
        "outcomes": (1.0, NAN),
        "right": (True, False),
        "columns": ((0.1 + 0.2, NAN),),
        "faults": (None, "timeout"),
        "step_rewards": ((None, 0.5), (None,)),
        "annotations": {"old_logprobs": (torch.tensor([-0.5, -0.25]), torch.tensor([-1.0]))},
        "step": 7,
    }
    return Group(**{**fields, **changes})


def through_a_file(value: object) -> Any:
    file = BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_group_comes_back_as_it_was() -> None:
    (back,) = loaded_groups(through_a_file([saved_group(group())]))
    kept, was = vars(back) | {"annotations": None}, vars(group()) | {"annotations": None}
    assert repr(kept) == repr(was)  # NaN differs from itself
    for found, expected in zip(back.annotations["old_logprobs"], group().annotations["old_logprobs"], strict=True):
        assert torch.equal(found, expected)


def test_a_group_before_its_verdicts_comes_back() -> None:
    bare = group(outcomes=(), right=(), columns=(), faults=(), step_rewards=(), annotations={}, step=0)
    assert loaded_groups(through_a_file([saved_group(bare)])) == (bare,)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("outcomes", [1.0], id="a reward is missing"),
        pytest.param("outcomes", [1, 0], id="other numbers"),
        pytest.param("prompt_ids", torch.tensor([0.5]), id="no tokens"),
        pytest.param("prompt_ids", [4, 5], id="no tensor"),
        pytest.param("completions", [{}], id="no completion"),
        pytest.param("prompt", None, id="no prompt"),
        pytest.param("step", "7", id="no step"),
    ],
)
def test_another_form_is_refused(key: str, value: object) -> None:
    assert "malformed" in refused(lambda: loaded_groups([{**saved_group(group()), key: value}]))


def test_a_checkpoint_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"steps": 1}, path)
    held = {"research": {"surplus": [{"meta": {"made": Path("x")}}]}}
    message = refused(lambda: AtomicCheckpointIO().save_checkpoint(held, path))
    assert "at research.surplus.0.meta.made" in message
    assert AtomicCheckpointIO().load_checkpoint(path) == {"steps": 1}


def test_numbers_of_numpy_are_foreign() -> None:
    assert foreign({"totals": {"cost": torch.tensor(1.0).numpy()[()]}}) == "a float32 at totals.cost"
