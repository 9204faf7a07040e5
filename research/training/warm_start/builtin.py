"""Warm starts of the built-in model: supervised training on worked solutions, cached by a hash of its settings."""

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import torch
from filelock import FileLock
from lightning import Trainer
from transformers import PreTrainedTokenizerBase

from research.policy.builtin import TinyModel, character_tokenizer, tiny_model
from research.prompts.arithmetic import ALPHABET, Difficulty, draw_chain, worked_solution
from research.rollouts import Answer, Calculator
from research.rollouts.sampler import end_token
from research.rollouts.tool import pieces_of, tokenized
from research.seeding import derive_seed
from research.training.progress import StepProgress, hush_lightning
from research.training.warm_start.sft import Demonstration, SFTModule, SFTSettings, batches
from research.types import own_tokens


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """All settings of a warm start; their hash is the name of the cached folder."""

    model: TinyModel = field(default_factory=TinyModel)
    difficulty: Difficulty = field(default_factory=Difficulty)
    check_probability: float = 0.4
    """Probability that a demonstrated step is followed by its check."""
    slip_probability: float = 0.3
    """Probability that a demonstrated step is wrong by 1 to 3. A policy that imitates a fallible teacher samples less
    accurate completions than it could, which leaves room for reinforcement learning."""
    demonstrations: int = 20_000
    sft: SFTSettings = field(default_factory=lambda: SFTSettings(steps=700, batch=24, learning_rate=3e-3))
    seed: int = 0

    def solution(self, text: str, random: Random) -> list[str | Answer]:
        """A demonstrated completion, in pieces that the policy is to write and pieces that a tool writes."""
        steps = range(self.difficulty.operators[1])
        checks = [random.random() < self.check_probability for _ in steps]
        slips = [random.choice((-3, -2, -1, 1, 2, 3)) * (random.random() < self.slip_probability) for _ in steps]
        return [worked_solution(text, checks, slips)]

    def digest(self) -> str:
        """Twelve hexadecimal digits of a hash of the settings and the versions of torch and transformers."""
        text = json.dumps([asdict(self), version("torch"), version("transformers")], sort_keys=True)
        return sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class CalculatorStart(WarmStart):
    """A warm start whose teacher calls a calculator for some of the sums."""

    difficulty: Difficulty = field(default_factory=lambda: Difficulty(largest=99))
    check_probability: float = 0.0
    """Always 0: brackets are for calls only."""
    call_probability: float = 0.5
    """Probability that a step is a call; only the other steps have slips."""
    tool: Calculator = field(default_factory=lambda: Calculator(open="(", close=")", before="=", after="", failed="()"))

    def solution(self, text: str, random: Random) -> list[str | Answer]:
        """A demonstrated completion, in which the tool's answers are pieces that are not imitated."""
        steps = range(self.difficulty.operators[1])
        calls = [random.random() < self.call_probability for _ in steps]
        slips = [random.choice((-3, -2, -1, 1, 2, 3)) * (random.random() < self.slip_probability) for _ in steps]
        return pieces_of(worked_solution(text, slips=slips, calls=calls), self.tool)


BUILTIN: Mapping[str, WarmStart] = {"builtin": WarmStart(), "builtin-calculator": CalculatorStart()}
"""The warm starts that a recipe may name as its policy's path."""


def cache_folder() -> Path:
    """The folder of warm starts: $RESEARCH_CACHE, or ~/.cache/research."""
    return Path(os.environ.get("RESEARCH_CACHE", Path.home() / ".cache" / "research"))


def resolve_path(path: str) -> str:
    """The path itself, or for a name in `BUILTIN` the folder of that warm start, which is made if it is missing."""
    return str(warm_start(BUILTIN[path])) if path in BUILTIN else path


def warm_start(settings: WarmStart) -> Path:
    """The folder of a warm start, with a transformers model and its tokenizer; made if it is missing.

    Only one process makes it, while others wait. An interruption leaves no incomplete folder under this name.
    """
    folder = cache_folder() / f"warm_start-{settings.digest()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            _make(settings, folder)
    return folder


def demonstrations(settings: WarmStart, tokenizer: PreTrainedTokenizerBase) -> list[Demonstration]:
    """Worked solutions of randomly drawn problems, as the teacher writes them."""
    random = Random(derive_seed(settings.seed, "demonstrations"))
    made = []
    for _ in range(settings.demonstrations):
        text = draw_chain(random, settings.difficulty)
        completion, calls = tokenized(settings.solution(text, random), tokenizer)
        completion = (*completion, end_token(tokenizer))
        made.append(
            Demonstration(
                prompt_ids=tuple(tokenizer(text)["input_ids"]),
                completion_ids=completion,
                own=own_tokens(len(completion), calls),
            )
        )
    return made


def _make(settings: WarmStart, folder: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more threads would change the rounding, and gain little
    hush_lightning()
    tokenizer = character_tokenizer(ALPHABET)
    model = tiny_model(settings.model, tokenizer, settings.seed).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            callbacks=[StepProgress("warm start", settings.sft.steps)],
            num_sanity_val_steps=0,
        )
        trainer.fit(
            SFTModule(model, settings.sft), batches(demonstrations(settings, tokenizer), settings.sft, settings.seed)
        )
    torch.set_num_threads(threads)
    unfinished = Path(mkdtemp(dir=folder.parent, prefix=folder.name))
    model.eval().save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    (unfinished / "warm_start.json").write_text(json.dumps(asdict(settings), indent=2))
    try:
        unfinished.replace(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
