"""The built-in model's warm start: supervised on worked solutions, made once, cached by what went into it."""

import json
import os
import shutil
import warnings
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import torch
from filelock import FileLock
from lightning import Trainer

from research.policy.builtin import TinyModel, character_tokenizer, tiny_model
from research.prompts.arithmetic import ALPHABET, Difficulty, draw_chain, worked_solution
from research.seeding import derive_seed
from research.training.progress import StepProgress
from research.training.sft import Demonstration, SFTModule, SFTSettings, batches

BUILTIN = "builtin"


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Everything that the warm start depends on; its hash names the cached folder."""

    model: TinyModel = field(default_factory=TinyModel)
    difficulty: Difficulty = field(default_factory=Difficulty)
    check_probability: float = 0.4
    """How often a demonstrated step is followed by its check."""
    slip_probability: float = 0.3
    """How often a demonstrated step is wrong by 1 to 3: the teacher is fallible, so that the policy that imitates it
    knows more than it shows when it is sampled, which is what reinforcement learning can bring out."""
    demonstrations: int = 20_000
    sft: SFTSettings = field(default_factory=lambda: SFTSettings(steps=700, batch=24, learning_rate=3e-3))
    seed: int = 0

    def digest(self) -> str:
        """Twelve hexadecimal digits of the settings and of torch's version."""
        text = json.dumps([asdict(self), version("torch"), version("transformers")], sort_keys=True)
        return sha256(text.encode()).hexdigest()[:12]


def cache_folder() -> Path:
    """Where warm starts are kept: $RESEARCH_CACHE, or ~/.cache/research."""
    return Path(os.environ.get("RESEARCH_CACHE", Path.home() / ".cache" / "research"))


def resolve_path(path: str) -> str:
    """The path itself, or, for `builtin`, the folder of the cached warm start, made now if it is not there."""
    return str(warm_start(WarmStart())) if path == BUILTIN else path


def warm_start(settings: WarmStart) -> Path:
    """The folder of the warm start, a saved transformers model and tokenizer.

    Processes that ask for it at once wait for the one that makes it; an interrupted making leaves nothing behind.
    """
    folder = cache_folder() / f"warm_start-{settings.digest()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            _make(settings, folder)
    return folder


def demonstrations(settings: WarmStart, tokenizer) -> list[Demonstration]:
    """Worked solutions of freshly drawn chains, some of their steps checked, some of them wrong."""
    random = Random(derive_seed(settings.seed, "demonstrations"))
    made = []
    for _ in range(settings.demonstrations):
        text = draw_chain(random, settings.difficulty)
        checks = [random.random() < settings.check_probability for _ in range(settings.difficulty.operators[1])]
        slips = [random.choice((-3, -2, -1, 1, 2, 3)) * (random.random() < settings.slip_probability) for _ in checks]
        prompt, completion = tokenizer(text)["input_ids"], tokenizer(worked_solution(text, checks, slips))["input_ids"]
        made.append(Demonstration(prompt_ids=tuple(prompt), completion_ids=(*completion, tokenizer.eos_token_id)))
    return made


def _make(settings: WarmStart, folder: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # a second thread gains little here, loses much on a busy machine, and changes the rounding
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
