"""Seconds from a command to its answer, each time in a fresh process: lists, sentences about mistakes, a first step.

    python -m benchmarks.start_up --output benchmarks/start_up.md

Every command is run once before it counts, so that byte code, files and the built-in warm start are in their caches.
The share of the cores that was in use, by anybody, stands below the table.
"""

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import psutil

from research.provenance import code, cpu_name

HOME = Path(__file__).parents[1]
RECIPE, STUDY = "experiments/grpo.yaml", "experiments/ablations/dapo_ladder.yaml"
ANSWERS: Sequence[tuple[str, str]] = (
    ("help", "--help"),
    ("components", "components"),
    ("one component", "components Clip"),
    ("datasets", "datasets"),
    ("misspelt class", f"fit {RECIPE} --model.objective.surrogate=Clipp"),
    ("misspelt key", f"fit {RECIPE} --model.updates.epoch=2"),
    ("unknown section", f"fit {RECIPE} --modle.seed=1"),
    ("missing file", "fit experiments/nowhere.yaml"),
    ("no such run", "evaluate runs/nowhere"),
    ("misspelt override of a study", f"ablate {STUDY} --run.step=1"),
    ("unknown command", "fti"),
    ("unknown option", "report results/dapo_ladder --fast"),
    ("resolved recipe", f"resolve {RECIPE}"),
)
"""What is asked, and the words that ask it."""
FIRST_LINE, FIRST_STEP = "first line of fit", "first step of fit"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One command, several times."""

    name: str
    words: str
    seconds: tuple[float, ...]


def answered(words: str) -> float:
    """Seconds until the command has ended; 2 is the exit status of a mistake."""
    began = perf_counter()
    done = subprocess.run([*research(), *words.split()], capture_output=True, cwd=HOME, check=False)
    if done.returncode not in (0, 2):
        raise SystemExit(f"research {words} failed: {done.stderr.decode()}")
    return perf_counter() - began


def first_step(recipe: str) -> tuple[float, float]:
    """Seconds until `fit` prints its first line, and until its first step is recorded; then it is ended."""
    with TemporaryDirectory() as home:
        folder = Path(home) / "run"
        words = [recipe, f"--run.folder={folder}", "--tracking", f"sqlite:///{home}/mlflow.db"]
        began = perf_counter()
        with subprocess.Popen(
            [*research(), "fit", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=HOME
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            line = perf_counter() - began
            while '"step": 1,' not in read(folder / "metrics.jsonl"):
                if process.poll() is not None:
                    raise SystemExit(f"research fit {recipe} ended before its first step")
                sleep(0.01)
            step = perf_counter() - began
            process.kill()
    return line, step


def read(path: Path) -> str:
    """A file's text; nothing where there is no file."""
    return path.read_text() if path.exists() else ""


def research() -> list[str]:
    """The command, in this environment."""
    return [sys.executable, "-m", "research.cli"]


def measured(repetitions: int) -> list[Timed]:
    """Every command, in turns."""
    seconds: dict[str, list[float]] = {}
    for repetition in range(repetitions + 1):
        round_ = {name: answered(words) for name, words in ANSWERS}
        round_[FIRST_LINE], round_[FIRST_STEP] = first_step(RECIPE)
        for name, value in round_.items():
            seconds.setdefault(name, [])
            seconds[name] += [value] if repetition else []
    words = {**dict(ANSWERS), FIRST_LINE: f"fit {RECIPE}", FIRST_STEP: f"fit {RECIPE}"}
    return [Timed(name=name, words=words[name], seconds=tuple(values)) for name, values in seconds.items()]


def page(rows: Sequence[Timed], command: str, busy: float) -> str:
    """What was measured, as Markdown."""
    table = "\n".join(
        f"| {row.name} | `research {row.words}` | {median(row.seconds):.2f} "
        f"| {min(row.seconds):.2f} to {max(row.seconds):.2f} |"
        for row in rows
    )
    return f"""# From a command to its answer

`{command}`, commit `{code().commit[:12]}`, {cpu_name()}, {os.cpu_count()} cores,
Python {platform.python_version()}.

| | command | median, s | range, s |
|---|---|--:|--:|
{table}

{len(rows[0].seconds)} fresh processes each, byte code and warm start cached; {busy:.0%} of the cores were in use.
"""


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description="Seconds from a command to its answer.")
    parser.add_argument("--repetitions", type=int, default=5, help="of each command; default 5")
    parser.add_argument("--output", type=Path, help="the page; default: print it")
    known = parser.parse_args()
    psutil.cpu_percent()
    rows = measured(known.repetitions)
    text = page(rows, f"python -m benchmarks.start_up {' '.join(sys.argv[1:])}", psutil.cpu_percent() / 100)
    known.output.write_text(text) if known.output else print(text)


if __name__ == "__main__":
    main()
