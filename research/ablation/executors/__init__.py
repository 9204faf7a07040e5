"""Executors: run a study's cells on this machine or on a cluster. Their names are the values of `--executor`."""

from collections.abc import Mapping
from pkgutil import resolve_name

from research.ablation.executors.base import Executor, Job, Outcome, Resources, last_line
from research.errors import UserError

EXECUTORS: Mapping[str, str] = {
    "local": "research.ablation.executors.local:LocalExecutor",
    "ray": "research.ablation.executors.ray_cluster:RayExecutor",
    "slurm": "research.ablation.executors.slurm:SlurmExecutor",
}
"""Name → module and class, imported on demand, since a cluster's library may not be installed."""

__all__ = ["EXECUTORS", "Executor", "Job", "Outcome", "Resources", "last_line", "make_executor"]


def make_executor(name: str, resources: Resources) -> Executor:
    """The executor of this name.

    Raises: UserError if the name is unknown, its library is not installed, or it cannot be used here.
    """
    if name not in EXECUTORS:
        raise UserError(f"no executor is called {name!r}; there are {', '.join(EXECUTORS)}")
    try:
        kind = resolve_name(EXECUTORS[name])
    except ImportError as error:
        raise UserError(
            f"--executor {name} needs the package {error.name}: pip install 'research-rlvr[{name}]'"
        ) from error
    return kind(resources)
