"""Run state in a checkpoint beyond Lightning's own, so that a resumed run equals an uninterrupted one."""

from collections.abc import Mapping
from typing import Any, Protocol, TypedDict, cast, runtime_checkable

from torch import Tensor

from research.errors import UserError
from research.policy import Policy, PolicySpec
from research.seeding import random_states, set_random_states
from research.training.costs import Costs
from research.training.iterations import IterationSpec, RewardModel
from research.training.optimization import NonFiniteGuard
from research.training.saved_groups import Saved, loaded_groups, saved_group
from research.types import Group

REMEDY = "delete it to start the run again, or put an intact copy in its place"


class RunState(TypedDict):
    """The entry `research` of a checkpoint."""

    surplus: list[Saved]
    totals: dict[str, int | float]
    steps_done: int
    guard: tuple[int, int]
    entropy_coefficient: float
    reference: dict[str, Tensor] | None
    history: list[Saved]
    random: dict[str, Any]
    seed: int


_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "surplus": list,
    "totals": dict,
    "steps_done": int,
    "guard": tuple,
    "entropy_coefficient": (float, int),
    "reference": (dict, type(None)),
    "history": list,
    "random": dict,
    "seed": int,
}
"""The types that each entry of a run state may have."""


@runtime_checkable
class Resumes(Protocol):
    """A module whose run state can be saved and restored."""

    spec: PolicySpec
    iterations: IterationSpec | None
    reward_model: RewardModel | None
    guard: NonFiniteGuard
    costs: Costs
    surplus: tuple[Group, ...]
    steps_done: int
    entropy_coefficient: float
    seed: int

    @property
    def model(self) -> Policy:
        """The policy."""
        ...


def run_state(module: Resumes) -> RunState:
    """The module's counters, surplus groups, random states, reference and replayed groups."""
    return {
        "surplus": [saved_group(group) for group in module.surplus],
        "totals": dict(module.costs.totals),
        "steps_done": module.steps_done,
        "guard": (module.guard.skipped, module.guard.in_a_row),
        "entropy_coefficient": module.entropy_coefficient,
        "reference": module.model.reference_state()
        if module.iterations and module.iterations.resets_reference
        else None,
        "history": [saved_group(group) for group in module.reward_model.history] if module.reward_model else [],
        "random": random_states(),
        "seed": module.seed,
    }


def run_state_in(checkpoint: Mapping[str, Any]) -> RunState:
    """The run state of a checkpoint.

    Raises: UserError if the checkpoint was not written by this program, or has been changed since.
    """
    state = checkpoint.get("research") if isinstance(checkpoint, dict) else None
    if state is None:
        raise UserError("the checkpoint was not written by a run of this program, so it cannot be resumed")
    wrong = [
        name for name, kind in _KINDS.items() if not isinstance(state, dict) or not isinstance(state.get(name), kind)
    ]
    if wrong:
        raise UserError(f"the checkpoint's run state is malformed in {', '.join(wrong)}: {REMEDY}")
    return cast(RunState, state)


def restore(module: Resumes, checkpoint: Mapping[str, Any]) -> None:
    """Restore a module from a checkpoint.

    Raises: UserError if the checkpoint has another seed, or was not written by this program.
    """
    state = run_state_in(checkpoint)
    if state["seed"] != module.seed:
        raise UserError(
            f"the checkpoint is of seed {state['seed']}, the run's seed is {module.seed}: resume with the same seed"
        )
    module.surplus, module.steps_done = loaded_groups(state["surplus"]), state["steps_done"]
    module.costs.totals = dict(state["totals"])
    module.guard.skipped, module.guard.in_a_row = state["guard"]
    module.entropy_coefficient = state["entropy_coefficient"]
    if state["reference"] is not None:
        module.model.load_reference(state["reference"])
    if module.reward_model is not None:
        module.reward_model.history = loaded_groups(state["history"])
    try:
        set_random_states(state["random"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"the checkpoint's random states are malformed ({error}): {REMEDY}") from error


def trained_weights(module: Resumes, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that training changes: all, or with LoRA the adapters, the critic and the reward model."""
    if module.spec.lora is None:
        return dict(weights)
    trained = {f"policy.{name}" for name, parameter in module.model.named_parameters() if parameter.requires_grad}
    own = ("critic.", "reward_model.")
    return {name: value for name, value in weights.items() if name in trained or name.startswith(own)}
