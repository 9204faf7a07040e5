"""The `trainer` section chooses hardware; every other argument of Lightning's is refused, with ours beside it."""

from inspect import signature

import pytest
from lightning import Trainer

from research.training.trainer_section import ALLOWED, INSTEAD, trainer_fault

OTHERS = sorted(set(signature(Trainer.__init__).parameters) - {"self", *ALLOWED})
UNLIKELY = object()


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_argument_is_refused(name: str) -> None:
    reason = trainer_fault({"accelerator": "cpu", name: UNLIKELY})
    assert reason is not None
    assert reason.startswith(f"trainer.{name} is not a setting here")
    assert ("use " in reason) == (name in INSTEAD)
    assert INSTEAD.get(name, "") in reason


def test_ours_stand_for_arguments_that_there_are() -> None:
    assert set(INSTEAD) <= set(OTHERS)


def test_defaults_say_nothing() -> None:
    defaults = {name: signature(Trainer.__init__).parameters[name].default for name in OTHERS}
    assert trainer_fault({"accelerator": "gpu", "devices": 2, "strategy": "ddp", "num_nodes": 4, **defaults}) is None


def test_a_misspelt_one_is_refused() -> None:
    assert "trainer.acceleratr is not a setting here" in str(trainer_fault({"acceleratr": "gpu"}))
