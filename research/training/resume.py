"""What a checkpoint holds beyond Lightning's own: all that a run needs to go on as if it had never stopped."""

from typing import Any

from research.errors import UserError
from research.seeding import random_states, set_random_states


def run_state(module: Any) -> dict[str, Any]:
    """The surplus of dynamic sampling, counters, every random state, what an iteration renewed."""
    return {
        "surplus": module.surplus,
        "totals": dict(module.costs.totals),
        "steps_done": module.steps_done,
        "guard": (module.guard.skipped, module.guard.in_a_row),
        "entropy_coefficient": module.entropy_coefficient,
        "reference": module.model.reference_state()
        if module.iterations and module.iterations.resets_reference
        else None,
        "history": module.reward_model.history if module.reward_model is not None else (),
        "random": random_states(),
        "seed": module.seed,
    }


def restore(module: Any, state: dict[str, Any] | None) -> None:
    """Put the module where `run_state` found it.

    Raises: UserError if the checkpoint is of a run with another seed, or was not written by this program.
    """
    if state is None:
        raise UserError("the checkpoint was not written by a run of this program, so it cannot be resumed")
    if state["seed"] != module.seed:
        raise UserError(
            f"the checkpoint is of seed {state['seed']}, the run's seed is {module.seed}: resume with the same seed"
        )
    module.surplus, module.steps_done = state["surplus"], state["steps_done"]
    module.costs.totals = dict(state["totals"])
    module.guard.skipped, module.guard.in_a_row = state["guard"]
    module.entropy_coefficient = state["entropy_coefficient"]
    if state["reference"] is not None:
        module.model.load_reference(state["reference"])
    if module.reward_model is not None:
        module.reward_model.history = state["history"]
    set_random_states(state["random"])


def trained_weights(module: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """The weights that training changes: all of them, or the adapters with the critic and the reward model."""
    if module.spec.lora is None:
        return weights
    trained = {f"policy.{name}" for name, parameter in module.model.named_parameters() if parameter.requires_grad}
    own = ("critic.", "reward_model.")
    return {name: value for name, value in weights.items() if name in trained or name.startswith(own)}
