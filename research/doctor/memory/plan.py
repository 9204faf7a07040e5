"""The plan of a recipe on a device: its estimated need of memory, the device's memory, and the verdict."""

from dataclasses import dataclass

from transformers import AutoTokenizer

from research.doctor.memory.device import device_of
from research.doctor.memory.estimate import Estimate, estimate
from research.doctor.memory.workload import Workload, ranks_of
from research.errors import UserError
from research.policy import PolicySpec, character_tokenizer
from research.prompts import PromptData
from research.prompts.arithmetic import ALPHABET
from research.prompts.tokenizer import Tokenizer
from research.recipe import Recipe, constructed
from research.training.warm_start.builtin import BUILTIN

ASSUMED = 512
"""Assumed tokens of the longest prompt, if the data or the tokenizer cannot be read."""
ROOM = 0.9
"""Share of the memory above which a need is tight, since allocators lose some memory between tensors."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The length of the longest prompt."""

    tokens: int
    note: str
    """The origin of the number."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe on a device."""

    work: Workload
    estimate: Estimate
    prompts: Prompts

    @property
    def fits(self) -> bool:
        """True if the device has enough memory, or is not here."""
        memory = self.work.device.memory
        return memory is None or self.estimate.peak <= memory

    @property
    def verdict(self) -> str:
        """The result in a few words."""
        memory = self.work.device.memory
        if memory is None:
            return "no device to compare with: give --memory"
        if not self.fits:
            return "does not fit"
        return "fits" if self.estimate.peak <= ROOM * memory else "fits, with less than a tenth to spare"


def workload(recipe: Recipe, *, memory: str | None, prompts: Prompts | None) -> tuple[Workload, Prompts]:
    """The shapes of the recipe's step on one of its devices, and the longest prompt."""
    module, data = constructed(recipe)
    trainer = recipe.config["trainer"]
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
        prompts: the longest prompt; None measures it, if data and tokenizer can be read.

    Raises: UserError if the model's configuration cannot be read.
    """
    work, prompts = workload(recipe, memory=memory, prompts=prompts)
    return Plan(work=work, estimate=estimate(work), prompts=prompts)


def given_prompts(tokens: int | None) -> Prompts | None:
    """The length that the user gives; None if none is given.

    Raises: UserError if it is below 1.
    """
    if tokens is not None and tokens < 1:
        raise UserError(f"--prompt-tokens is at least 1, got {tokens}")
    return None if tokens is None else Prompts(tokens=tokens, note="given")


def longest_prompt(spec: PolicySpec, data: PromptData) -> Prompts:
    """The longest prompt of the recipe's data; an assumption, if data or tokenizer cannot be read."""
    try:
        tokenizer: Tokenizer = (
            character_tokenizer(ALPHABET)
            if spec.path in BUILTIN
            else AutoTokenizer.from_pretrained(spec.path, trust_remote_code=spec.trust_remote_code)
        )
        data.setup()
        data.attach(tokenizer)
    except (UserError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        return Prompts(tokens=ASSUMED, note=f"assumed, --prompt-tokens sets it ({reason[:120]})")
    texts = [prompt.text for prompt in [*data.train_prompts, *data.evaluation_prompts]]
    return Prompts(tokens=max(map(len, tokenizer(texts)["input_ids"])), note=f"the longest of {len(texts):,}")
