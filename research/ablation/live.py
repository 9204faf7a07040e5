"""The view of a running study on the terminal: a table of cells and seeds, progress and the time left."""

import json
import sys
from statistics import median
from time import monotonic

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from research.ablation.executors import Outcome, last_line
from research.ablation.plan import Plan, Run
from research.runs.folder import OVERHEAD
from research.terminal_text import printable, unmarked
from research.tracking import METRICS, RESULT, merged_steps
from research.training.budget import share_in
from research.training.progress import steps_progress


class StudyView:
    """Shows a live table on a terminal; elsewhere it prints a line for each run that ends."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.metric = plan, plan.spec.metric["name"]
        self.console = Console(stderr=True)
        self.notes = {run.id: self._value(run) if run.complete else "·" for run in plan.runs}
        self.size, self.unit = (plan.steps, "steps") if plan.steps else (100, "% of a run")
        self.steps = {run.id: self.size if run.complete else self._steps(run) for run in plan.runs}
        self.overheads: dict[str, float] = {}
        self.bar = steps_progress(self.console)
        self.row = self.bar.add_task(
            self.unit, total=self.size * len(plan.runs), completed=sum(self.steps.values()), note=""
        )
        self.live = (
            Live(self._render(), console=self.console, refresh_per_second=4) if self.console.is_terminal else None
        )

    def __enter__(self) -> "StudyView":
        if self.live:
            self.live.start()
        else:
            done = sum(run.complete for run in self.plan.runs)
            self.say(f"{self.plan.spec.name}: {len(self.plan.runs)} runs, {done} complete already")
        self.began = monotonic()
        self.at_start = sum(self.steps.values())
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def update(self, running: set[str]) -> None:
        """Read the progress of the running runs from their folders, and show it."""
        for run in self.plan.runs:
            if run.id in running:
                self.steps[run.id] = self._steps(run)
                self.notes[run.id] = f"{self.steps[run.id]}/{self.size}"
        self.bar.update(self.row, completed=sum(self.steps.values()))
        if self.live:
            self.live.update(self._render())

    def ended(self, run: Run, outcome: Outcome) -> None:
        """Show the value of an ended run, the step at which it stopped, or its failure."""
        if outcome.result is not None and OVERHEAD in outcome.result.get("seconds", {}):
            self.overheads[run.id] = outcome.result["seconds"][OVERHEAD]
        self.steps[run.id] = self.size if run.complete else self._steps(run)
        stopped = f"stopped at {self.steps[run.id]} of {self.size} {self.unit}"
        self.notes[run.id] = self._value(run) if run.complete else stopped if outcome.stopped else "failed"
        if self.live is None:
            note = self.notes[run.id]
            if note == "failed":
                note = f"failed: {last_line(outcome.reason)}"
            self.say(f"[{self._progress()}] {run.id}: {note}")

    def summary(self) -> None:
        """Print the overhead of the runs: the time from their beginning to their first evaluation or step."""
        if seconds := list(self.overheads.values()):
            self.say(
                f"harness overhead a run, to its first evaluation or step: median {median(seconds):.1f} s, "
                f"at most {max(seconds):.1f} s"
            )

    def say(self, text: str) -> None:
        """Print a line, above the table if there is one."""
        if self.live:
            self.live.console.print(unmarked(text))
        else:
            print(printable(text), file=sys.stderr, flush=True)

    def _progress(self) -> str:
        done, total = sum(self.steps.values()), self.size * len(self.plan.runs)
        rate = (done - self.at_start) / max(1e-9, monotonic() - self.began)
        left = f", about {(total - done) / rate / 60:.0f} min left" if rate > 0 and done < total else ""
        return f"{done}/{total} {self.unit}{left}"

    def _render(self) -> Group:
        table = Table(title=unmarked(self.plan.spec.question, "table.title"))
        table.add_column("cell")
        for seed in self.plan.spec.seeds:
            table.add_column(f"seed {seed}", justify="right")
        for cell in self.plan.cells:
            notes = (self.notes[run.id] for run in self.plan.runs if run.cell.id == cell.id)
            table.add_row(unmarked(cell.label), *notes)
        return Group(table, self.bar)

    def _value(self, run: Run) -> str:
        value = json.loads((run.folder / RESULT).read_text())["last"].get(self.metric)
        return "—" if value is None else f"{value:.3f}"

    def _steps(self, run: Run) -> int:
        if self.plan.steps is None:
            return min(self.size, int(self.size * share_in(self.plan.budget, merged_steps(run.folder))))
        path = run.folder / METRICS
        if not path.exists():
            return 0
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            lines = file.read().splitlines()
        for line in reversed(lines):
            try:
                return json.loads(line)["step"]
            except (ValueError, KeyError):
                continue
        return 0
