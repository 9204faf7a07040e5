"""The guard that keeps processes out of `make test`: which program it sees."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from process_guard import CHEAP, ProcessGuard, program


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/bin/git", "rev-parse", "HEAD"], "git"),
        ([sys.executable, "-P", "/somewhere/worker.py", "7"], "worker.py"),
        ([b"python3.12", b"-c", b"pass"], "python3.12"),
        (["initdb", "-D", "folder/settings.py"], "initdb"),
        (Path("/bin/true"), "true"),
    ],
)
def test_the_name_of_a_command(command: Any, name: str) -> None:
    assert program(command) == name


@pytest.mark.process
def test_it_sees_every_way_to_start_one(pytestconfig: pytest.Config) -> None:
    plugins = pytestconfig.pluginmanager.get_plugins()
    (guard,) = [plugin for plugin in plugins if isinstance(plugin, ProcessGuard)]
    guard.started.clear()
    subprocess.run([sys.executable, "-c", ""], check=True)
    subprocess.run("true", shell=True, check=True)
    assert os.system("true") == 0
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    one = multiprocessing.get_context("spawn").Process(target=os.getpid)
    one.start()
    one.join()
    python = os.path.basename(sys.executable)
    assert {python, "sh", "os.system", "os.fork", "multiprocessing"} <= set(guard.started)
    assert not set(guard.started) & set(CHEAP)
