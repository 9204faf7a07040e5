"""The one loop of a proof, a search and a study: fill the executor's slots, wait, take what has ended."""

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
    """Run until all is done, or until a request to stop has been followed.

    Args:
        executor: what runs it; it has nothing else to run.
        interrupts: who may ask to stop.
        begin: the next run, or None if there is none now.
        end: takes how a run ended; one that was stopped may be given by `begin` again.
        finished: whether nothing is left, here or with others; asked when nothing is under way here.
        say: prints a line.
        watch: called about once a second, to look at what is under way.

    Raises: KeyboardInterrupt if it was stopped before it was finished; every run is then at a checkpoint.
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
