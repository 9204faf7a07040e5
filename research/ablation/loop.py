"""The loop over runs, for a study, its search and its null run: fill the executor's slots, wait, take outcomes."""

from collections.abc import Callable

from research.ablation.executors import Executor, Job, Outcome
from research.ablation.interrupts import Interrupts


def drive(
    executor: Executor,
    interrupts: Interrupts,
    *,
    begin: Callable[[], Job | None],
    end: Callable[[Outcome], None],
    finished: Callable[[], bool],
    say: Callable[[str], None],
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Run until everything is finished, or until a request to stop has been met.

    Args:
        executor: runs the jobs; it has no other jobs.
        interrupts: may request a stop.
        begin: returns the next run, or None if there is none now.
        end: takes the outcome of a run; `begin` may return a stopped run again.
        finished: returns True if nothing is left, here or with other workers; called when nothing runs here.
        say: prints a line.
        watch: called about once a second, to look at the running runs.

    Raises: KeyboardInterrupt after a stop before the end; every run is then at a checkpoint.
    """
    while True:
        if interrupts.asked:
            interrupts.once(lambda: _stop(executor, say))
        while executor.free and not interrupts.asked and (job := begin()) is not None:
            executor.submit(job)
        if not executor.running and (interrupts.asked or finished()):
            break
        for outcome in executor.wait(seconds=1.0):
            end(outcome)
        watch()
    if interrupts.asked and not finished():
        raise KeyboardInterrupt


def _stop(executor: Executor, say: Callable[[str], None]) -> None:
    say(
        f"stopping: {len(executor.running)} running cells finish their step and write a checkpoint; "
        "once more stops them at once"
    )
    for run in executor.running:
        executor.stop(run)
