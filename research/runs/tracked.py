"""Tracking of a single run in MLflow."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from research.tracking import Tracker
from research.tracking.contents import flattened
from research.tracking.databases import check_uri


@contextmanager
def tracked(
    folder: Path, name: str, uri: str, config: Mapping[str, object], digest: str
) -> Iterator[Callable[[], None]]:
    """Copy the run in this folder to MLflow when the block ends, even by an error; a resumed run keeps its entry.

    An entry in a file is created when it is first copied, because importing MLflow takes seconds. An entry on a server,
    which may be away, is created before anything is trained.
    """

    @cache
    def entry() -> tuple[Tracker, str]:
        tracker = Tracker(uri, "runs", folder.parent / "mlartifacts")
        params = flattened(config)
        run_id = tracker.run(str(folder.resolve()), name=name, params=params, tags={"config_hash": digest})
        tracker.watch(run_id)
        return tracker, run_id

    def mirror() -> None:
        tracker, run_id = entry()
        tracker.mirror(folder, run_id)

    check_uri(uri)
    if not uri.startswith("sqlite:"):
        entry()
    status = "FAILED"
    try:
        yield mirror
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        mirror()
        tracker, run_id = entry()
        tracker.keep(folder, run_id)
        tracker.finish(run_id, status)
