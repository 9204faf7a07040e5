"""Tracking of a single run in MLflow."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from research.tracking import Tracker
from research.tracking.contents import flattened


@contextmanager
def tracked(
    folder: Path, name: str, uri: str, config: Mapping[str, object], digest: str
) -> Iterator[Callable[[], None]]:
    """Copy the run in this folder to MLflow when the block ends, even by an error; a resumed run keeps its entry."""
    tracker = Tracker(uri, "runs", folder.parent / "mlartifacts")
    params = flattened(config)
    run_id = tracker.run(str(folder.resolve()), name=name, params=params, tags={"config_hash": digest})
    tracker.watch(run_id)
    status = "FAILED"
    try:
        yield lambda: tracker.mirror(folder, run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.mirror(folder, run_id)
        tracker.keep(folder, run_id)
        tracker.finish(run_id, status)
