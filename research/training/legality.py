"""Checks for components that do not work together, although each is accepted by its slot."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from research.component import Component
from research.credit import Credit
from research.objective import Objective
from research.policy import PolicySpec
from research.prompts import NoTarget, PromptData
from research.rewards import NoSteps, Rewards
from research.rollouts import Rollouts
from research.training.critic import CriticSpec
from research.training.iterations import IterationSpec


@runtime_checkable
class Parts(Protocol):
    """A module's parts, under the names that the checks read."""

    spec: PolicySpec
    rollouts: Rollouts
    rewards: Rewards
    credit: Credit
    objective: Objective
    critic_spec: CriticSpec | None
    iterations: IterationSpec | None
    needs: frozenset[str]


def fault(credit: Credit, objective: Objective) -> str | None:
    """The reason for which an objective cannot use a credit; None if it can."""
    advantage, ratio, surrogate = credit.advantage, objective.ratio, objective.surrogate
    for part in (ratio, surrogate):
        if part.per_completion and not advantage.per_completion:
            return (
                f"{type(part).__name__} is written for one advantage a completion, and {type(advantage).__name__} "
                "gives one a token: take a ratio and a surrogate of single tokens"
            )
    return None


def run_fault(module: Parts) -> str | None:
    """The reason for which a module would ignore a setting or lack a quantity; None if there is none."""
    source, surrogate = module.rollouts.source, module.objective.surrogate
    if not source.of_policy and "ratio" in surrogate.needs():
        return (
            f"{type(surrogate).__name__} compares the policy with the one that wrote the completions, and those of "
            f"{type(source).__name__} are not the policy's: take LogLikelihood and NoRatio, or CurrentPolicy"
        )
    if module.rollouts.decoding().truncates and "rollout_logprobs" in module.needs:
        readers = [part for part in module.credit.weights if "rollout_logprobs" in part.needs()]
        return (
            f"{_names(readers)} compares the policy's log-probabilities with the sampler's, which top_p and top_k take "
            "over fewer tokens: leave rollouts.top_p at 1 and top_k at 0, or leave the correction out"
        )
    advantage, critic, iterations = module.credit.advantage, module.critic_spec, module.iterations
    if "values" in module.needs and critic is None:
        return f"{type(advantage).__name__} reads values, and model.critic is null: say how they are learned"
    if "values" not in module.needs and critic is not None:
        return f"model.critic learns values, and {type(advantage).__name__} reads none: take GAE, or set it to null"
    if critic is not None and (gamma := vars(advantage).get("gamma", critic.gamma)) != critic.gamma:
        return f"γ is one number: the advantage has {gamma}, model.critic has {critic.gamma}"
    return None if iterations is None else _iterations_fault(module, iterations)


def _iterations_fault(module: Parts, iterations: IterationSpec) -> str | None:
    for term in module.rewards.shaping if iterations.reward_model is not None else ():
        if term.zero_one:
            return f"{type(term).__name__} is written for an outcome of 1 or 0, and a reward model gives others"
    if iterations.resets_reference and "ref_logprobs" not in module.needs:
        return "model.iterations resets a reference that nothing reads: add a KL penalty, or do not reset it"
    if iterations.resets_reference and module.spec.lora is not None:
        return "model.iterations cannot reset the reference of a policy with LoRA, which is the model without it"
    return None


def rewards_fault(rewards: Rewards, credit: Credit, objective: Objective) -> str | None:
    """The reason for which rewards would be ignored or counted twice; None if there is none."""
    read, advantage = credit.needs(), type(credit.advantage).__name__
    steps, of_steps = type(rewards.steps).__name__, bool(read & {"step_rewards", "step_ends"})
    if rewards.tokens and "token_rewards" not in read:
        return f"{advantage} reads no rewards of tokens, so {_names(rewards.tokens)} would be ignored: leave it out"
    own = credit.advantage.needs()
    if rewards.functions and ("right" in own or not own & {"rewards", "outcomes", "columns"}):
        return (
            f"{advantage} asks only which completions are right, so {_names(rewards.functions)} would be ignored: "
            "leave it out, or take an advantage that reads rewards, such as GroupZScore"
        )
    if rewards.shaping and not read & {"rewards", "columns"}:
        return f"{advantage} reads no shaped rewards, so {_names(rewards.shaping)} would be ignored: leave it out"
    distances = [part for part in [*rewards.shaping, *rewards.tokens, objective.kl] if "ref_logprobs" in part.needs()]
    if len(distances) > 1:
        return f"{_names(distances)} all charge for the distance from the reference, which is counted twice: take one"
    if distances and distances[0] in rewards.shaping and "rewards" not in read:
        return (
            f"{advantage} scales each reward by itself, which cancels the beta of {_names(distances)}: "
            "take another advantage, or a KL in the objective"
        )
    if of_steps and isinstance(rewards.steps, NoSteps):
        return f"{advantage} reads the rewards of steps, and NoSteps gives none: verify them in rewards.steps"
    if not of_steps and not isinstance(rewards.steps, NoSteps):
        return f"{advantage} reads no rewards of steps, so {steps} would be ignored: take NoSteps"
    return None


def data_fault(module: Parts, data: PromptData) -> str | None:
    """The reason for which prompts lack a quantity that a module reads; None if they lack none."""
    if "targets" in module.needs and isinstance(data.targets, NoTarget):
        readers = [term for term in module.rewards.shaping if "targets" in term.needs()]
        return f"{_names(readers)} reads length targets, and the prompts have none: take LengthTarget in data.targets"
    return None


def _names(parts: Sequence[Component]) -> str:
    return " and ".join(type(part).__name__ for part in parts)
