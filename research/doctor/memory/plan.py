"""A recipe's need of memory against what a device has: the estimate, its verdict, and what would fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import AutoTokenizer

from research.doctor.memory.device import device_of
from research.doctor.memory.estimate import Estimate, estimate
from research.doctor.memory.workload import Workload, ranks_of
from research.errors import UserError
from research.policy import PolicySpec, character_tokenizer
from research.prompts import PromptData
from research.prompts.arithmetic import ALPHABET
from research.recipe import Recipe, constructed
from research.training.warm_start.builtin import BUILTIN

ASSUMED = 512
"""Tokens of the longest prompt where neither the data nor the tokenizer is at hand to count them."""
ROOM = 0.9
"""A need above this share of the memory is tight: allocators lose some of it between tensors."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """How long the longest prompt is."""

    tokens: int
    note: str
    """Where that is from."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe on a device."""

    work: Workload
    estimate: Estimate
    prompts: Prompts

    @property
    def fits(self) -> bool:
        """Whether the estimate is at most what the device has."""
        memory = self.work.device.memory
        return memory is None or self.estimate.peak <= memory

    @property
    def verdict(self) -> str:
        """In a word or two."""
        memory = self.work.device.memory
        if memory is None:
            return "no device to compare with: give --memory"
        if not self.fits:
            return "does not fit"
        return "fits" if self.estimate.peak <= ROOM * memory else "fits, with less than a tenth to spare"


def workload(recipe: Recipe, *, memory: str | None, prompts: Prompts | None) -> tuple[Workload, Prompts]:
    """The shapes of the recipe's step on one of its devices, and where the length of the prompts is from."""
    module, data = constructed(recipe)
    trainer: Mapping[str, Any] = recipe.config["trainer"]
    ranks, sharded = ranks_of(trainer)
    prompts = prompts or longest_prompt(module.spec, data)
    device = device_of(trainer, memory)
    return Workload(
        module=module, data=data, prompt=prompts.tokens, device=device, ranks=ranks, sharded=sharded
    ), prompts


def plan(recipe: Recipe, *, memory: str | None = None, prompts: Prompts | None = None) -> Plan:
    """Estimate a recipe, without loading its model.

    Args:
        recipe: parsed.
        memory: of the device, for instance `24GiB`; None takes the one that is here.
        prompts: the longest prompt; None measures it, where data and tokenizer can be read.

    Raises: UserError if the model's configuration cannot be read.
    """
    work, prompts = workload(recipe, memory=memory, prompts=prompts)
    return Plan(work=work, estimate=estimate(work), prompts=prompts)


def given_prompts(tokens: int | None) -> Prompts | None:
    """A length that the user says; None if none is said.

    Raises: UserError if it is below 1.
    """
    if tokens is not None and tokens < 1:
        raise UserError(f"--prompt-tokens is at least 1, got {tokens}")
    return None if tokens is None else Prompts(tokens=tokens, note="given")


def longest_prompt(spec: PolicySpec, data: PromptData) -> Prompts:
    """The longest prompt in tokens: of the recipe's data, if they and the tokenizer can be read; else an assumption."""
    try:
        tokenizer: Any = (
            character_tokenizer(ALPHABET)
            if spec.path in BUILTIN
            else AutoTokenizer.from_pretrained(spec.path, trust_remote_code=spec.trust_remote_code)
        )
        data.setup()
        data.attach(tokenizer)
    except (UserError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        return Prompts(tokens=ASSUMED, note=f"assumed, --prompt-tokens says it ({reason[:120]})")
    texts = [prompt.text for prompt in [*data.train_prompts, *data.evaluation_prompts]]
    return Prompts(tokens=max(map(len, tokenizer(texts)["input_ids"])), note=f"the longest of {len(texts):,}")
