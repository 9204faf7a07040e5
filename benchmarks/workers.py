"""A study with one worker and with two: seconds from the command to the report, and the harness's own seconds a run.

    python -m benchmarks.workers --output benchmarks/workers.md

Every run has one thread, and the same runs give the same numbers either way, which is checked. The two take turns. On a
machine that does something else at the same time the ratio says nothing; the share of the cores that was to be had
stands beside it.
"""

import argparse
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import pandas as pd
import psutil

from research.provenance import code, cpu_name

STUDY = Path(__file__).parents[1] / "experiments" / "ablations" / "length_bias.yaml"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One study, from the command to its report."""

    workers: int
    seconds: float
    busy: float
    """Share of the machine's cores that was used, by anybody."""
    overheads: tuple[float, ...]
    """Seconds of each run from when it was begun to its first evaluation."""
    values: tuple[float, ...]
    """The metric of each run."""


def measure(workers: int, seeds: str, steps: int) -> Measured:
    """Run the study in a folder of its own."""
    with TemporaryDirectory() as home:
        folder = Path(home) / "study"
        words = ["--workers", str(workers), "--seeds", seeds, f"--run.steps={steps}", f"--run.evaluate_every={steps}"]
        command = [sys.executable, "-m", "research.cli", "ablate", str(STUDY), "--output", str(folder), *words]
        psutil.cpu_percent()
        began = perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=STUDY.parents[2])
        seconds, busy = perf_counter() - began, psutil.cpu_percent() / 100
        runs = pd.read_csv(folder / "runs.csv").sort_values("run")
    return Measured(
        workers=workers,
        seconds=seconds,
        busy=busy,
        overheads=tuple(runs["time/overhead_seconds"]),
        values=tuple(runs["evaluation/avg_at_k"]),
    )


def page(pairs: list[tuple[Measured, Measured]], command: str, runs: int, steps: int) -> str:
    """What was measured, as Markdown."""
    ratios = [two.seconds / one.seconds for one, two in pairs]
    overheads = [seconds for pair in pairs for measured in pair for seconds in measured.overheads]
    rows = "\n".join(
        f"| {k} | {one.seconds:.1f} | {two.seconds:.1f} | {ratio:.2f} | {one.busy:.0%} | {two.busy:.0%} |"
        for k, ((one, two), ratio) in enumerate(zip(pairs, ratios, strict=True), start=1)
    )
    return f"""# One worker and two

`{command}`, commit `{code().commit[:12]}`, {cpu_name()}, {os.cpu_count()} cores,
Python {platform.python_version()}.

`{STUDY.name}`, {runs} runs of {steps} steps with one thread each, from the command to the report; the warm start was
made before. Both give the same numbers.

| repetition | one worker, s | two workers, s | ratio | cores in use, one | two |
|--:|--:|--:|--:|--:|--:|
{rows}

Ratio: {median(ratios):.2f} at the median, {min(ratios):.2f} to {max(ratios):.2f}. The start of the command, the
report and the figures are in both times, by one process.

The harness takes {median(overheads):.1f} s a run at the median, from when it is begun to its first evaluation, at
most {max(overheads):.1f} s. The first run of a worker imports torch.
"""


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description="A study with one worker and with two.")
    parser.add_argument("--seeds", default="0,1", help="of the study's four cells; default 0,1")
    parser.add_argument("--steps", type=int, default=10, help="of each run; default 10")
    parser.add_argument("--repetitions", type=int, default=2, help="of both; default 2")
    parser.add_argument("--output", type=Path, help="the page; default: print it")
    known = parser.parse_args()
    measure(2, "0", 1)  # the warm start, and files in the system's cache
    pairs = [
        (measure(1, known.seeds, known.steps), measure(2, known.seeds, known.steps)) for _ in range(known.repetitions)
    ]
    for one, two in pairs:
        if one.values != two.values:
            raise SystemExit(f"the numbers differ: {one.values} and {two.values}")
    text = page(pairs, f"python -m benchmarks.workers {' '.join(sys.argv[1:])}", len(pairs[0][0].values), known.steps)
    known.output.write_text(text) if known.output else print(text)


if __name__ == "__main__":
    main()
