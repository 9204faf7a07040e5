"""Runs one cell in the current process; every executor calls it."""

import traceback

import torch
from filelock import FileLock

from research.ablation.executors.base import STOP, Job, Outcome
from research.errors import UserError
from research.recipe import Recipe
from research.runs.fit import fit
from research.training.stopping import StopWhenAsked


def run_cell(job: Job, *, threads: int, began: float) -> Outcome:
    """Train the run to its last step, or until it is asked to stop.

    Args:
        job: the run.
        threads: torch threads.
        began: time of its beginning by `time.time`, in seconds; its overhead lasts until the first evaluation or step.
    """
    torch.set_num_threads(threads)
    stop = StopWhenAsked(job.folder / STOP)
    if stop.asked:
        return Outcome(run=job.run, stopped=True)
    stop.listen()
    try:
        with FileLock(job.folder / ".lock"):
            return Outcome(run=job.run, result=fit(Recipe(config=job.config), job.folder, [stop], began=began))
    except UserError as error:
        return Outcome(run=job.run, reason=str(error))
    except (KeyboardInterrupt, SystemExit):
        return Outcome(run=job.run, stopped=stop.asked, reason="" if stop.asked else "it was interrupted")
    except Exception:
        return Outcome(run=job.run, reason=traceback.format_exc())
