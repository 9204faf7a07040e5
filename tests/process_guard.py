"""Fails a test that starts a process without saying so: `make test` is what people run while they work."""

import multiprocessing.util
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import pytest

OPT_IN = ("process", "slow", "gpu", "vllm")
"""The markers of the tests that `make test` leaves out."""
CHEAP: Mapping[str, str] = {
    "uname": "sqlalchemy, where it is first imported, asks once for the processor's name",
    "git": "a run records the commit and whether files differ from it, in a hundredth of a second",
    "worker.py": "verifiers judge in processes that later tests use again: a tenth of a second a test",
    "gym_process.py": "reasoning-gym makes its entries in a process that ends at once: a third of a second",
}
"""Programs, and scripts that Python runs, that any test may start, and why."""
HANGS = 900
"""Seconds after which a test of processes is taken to hang. How long one takes depends on what else the machine does,
and each waits for its own processes with limits of its own, whose sentences say more than this one's."""
FORKS = ("os.fork", "os.forkpty", "os.posix_spawn", "os.system")


def program(command: str | bytes | os.PathLike[str] | Sequence[Any]) -> str:
    """The name of what a command runs: of the script, where Python runs one."""
    words = [command] if isinstance(command, str | bytes | os.PathLike) else command
    name, *others = [os.path.basename(os.fsdecode(word)) for word in words]
    scripts = [other for other in others if other.endswith(".py")] if name.startswith("python") else []
    return (scripts or [name])[0]


class ProcessGuard:
    """A plugin of pytest that notes what the running test and its fixtures start."""

    def __init__(self) -> None:
        self.started: list[str] = []
        sys.addaudithook(self._note)
        multiprocessing.util.spawnv_passfds = self._noted(multiprocessing.util.spawnv_passfds)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            self.started.append(program(arguments[1]))
        elif event in FORKS:
            self.started.append(event)

    def _noted(self, spawn: Callable[..., int]) -> Callable[..., int]:
        """The way in which multiprocessing starts Python, which raises no event."""

        def noting(path: Any, *arguments: Any) -> int:
            self.started.append("multiprocessing")
            return spawn(path, *arguments)

        return noting

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self.started.clear()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        yield
        programs = sorted(set(self.started) - set(CHEAP))
        if programs and isinstance(item, pytest.Function) and not any(map(item.get_closest_marker, OPT_IN)):
            pytest.fail(f"it starts {', '.join(programs)}: mark it @pytest.mark.process", pytrace=False)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if item.get_closest_marker("process") and not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(HANGS))
