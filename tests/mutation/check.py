"""Change one thing at a time in credit/ and objective/, in memory, and see whether some test fails.

One process imports everything that tests import but the package itself, learns from one run of the tests which of them
enter which function, and forks a child for each mutant. The child imports the package with that one module changed and
runs the tests that enter the changed function, the quickest first, until one fails. No file of the package is touched.

    python tests/mutation/check.py                                # all, well within an hour on one core
    python tests/mutation/check.py research/credit/moments.py     # some files
    python tests/mutation/check.py --again                        # what survived the last time, unexplained

It writes `build/mutation/results.jsonl`, and fails if a mutant survives that `accepted.yaml` does not explain.
"""

import argparse
import ast
import doctest
import gc
import importlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import SourceFileLoader
from itertools import accumulate
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "golden")]

# What the tests import, so that a child need not.
import accelerate  # noqa: E402, F401
import datasets  # noqa: E402, F401
import hypothesis  # noqa: E402
import jsonargparse  # noqa: E402, F401
import lightning  # noqa: E402, F401
import mlflow  # noqa: E402, F401
import optuna  # noqa: E402, F401
import pandas  # noqa: E402, F401
import peft  # noqa: E402, F401
import pytest  # noqa: E402
import rich.console  # noqa: E402, F401
import scipy.stats  # noqa: E402, F401
import torch  # noqa: E402
import transformers  # noqa: E402, F401
import yaml  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402
from mutants import Mutant, mutants  # noqa: E402

STAGES = ("credit", "objective")
TESTS = (
    *("tests/golden", "tests/contract/test_components.py", "tests/property", "tests/unit/credit"),
    *("tests/unit/objective", "tests/unit/test_ranges.py", "tests/unit/test_promises.py"),
    *("tests/unit/test_edges_of_batches.py", "research/credit", "research/objective"),
)
LEFT_OUT = ("tests/golden/test_trl_parity.py", "tests/golden/test_statistics.py", "tests/golden/test_length_values.py")
"""TRL's import alone takes seconds; the others are about other stages."""
LIKELY = tuple(
    f"tests/{name}.py"
    for name in (
        *("golden/test_slow_reference", "golden/test_defaults", "golden/test_clamps", "golden/test_precision"),
        *("unit/test_ranges", "unit/test_promises", "unit/test_edges_of_batches"),
        *("unit/credit/test_covariance", "unit/credit/test_moments", "unit/objective/test_gates"),
    )
)
"""The tables that kill most."""
PLAIN = [
    *("-q", "-x", "--doctest-modules", "-o", "addopts=", "-W", "ignore", "--tb=no"),
    *(word for name in ("cacheprovider", "unraisableexception", "threadexception") for word in ("-p", f"no:{name}")),
]
FIRST, LIMIT = 40, 120.0
"""How many tests run alone before all others are collected; seconds that a mutant may take."""
UNCHANGED = (
    "types",
    "component",
    "errors",
    "seeding",
    "policy",
    "prompts.arithmetic",
    "rewards",
    "rollouts",
    "catalogue",
)
"""What imports no stage that is changed: imported once, for all mutants."""
BUILD = ROOT / "build" / "mutation"

Place = tuple[str, int]
"""A file and the first line of a function in it, or 0 for the code outside functions."""


def sources() -> list[str]:
    return [
        str(path.relative_to(ROOT)) for stage in STAGES for path in sorted((ROOT / "research" / stage).glob("*.py"))
    ]


def functions(file: str) -> list[tuple[int, int]]:
    """First and last line of each outermost function or method; decorators belong to it."""
    found = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                found.append((min([child.lineno, *(d.lineno for d in child.decorator_list)]), child.end_lineno or 0))
            else:
                visit(child)

    visit(ast.parse((ROOT / file).read_text()))
    return found


class Entered:
    """A pytest plugin: which test enters which function of the stages, how long it takes, and whether it passes."""

    def __init__(self) -> None:
        self.starts = {str(ROOT / file): (file, functions(file)) for file in sources()}
        self.tests: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        entered, began = set(), time.perf_counter()

        def profile(frame: Any, event: str, _: Any) -> None:
            if event == "call" and (known := self.starts.get(frame.f_code.co_filename)):
                entered.update((known[0], low) for low, high in known[1] if low <= frame.f_code.co_firstlineno <= high)

        sys.setprofile(profile)
        result = yield
        sys.setprofile(None)
        about = {"seconds": time.perf_counter() - began, "entered": sorted(entered)}
        self.tests.setdefault(item.nodeid, {"passed": True}).update(about)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.tests.setdefault(report.nodeid, {})["passed"] = False


class Only:
    """A pytest plugin: run these tests in this order, and remember the one that failed."""

    def __init__(self, names: list[str]) -> None:
        self.order, self.failed = {name: at for at, name in enumerate(names)}, ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.order), key=lambda i: self.order[i.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed = f"collecting {report.nodeid}"


def in_child(work: Callable[[], Any], limit: float) -> Any:
    """What the work returns in a forked process, as JSON; None if it took too long or the process died."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        quiet = os.open(BUILD / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            os.write(writes, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writes)
    ends, read = time.monotonic() + limit, b""
    with os.fdopen(reads, "rb") as pipe:
        os.set_blocking(pipe.fileno(), False)
        while time.monotonic() < ends:
            if (part := pipe.read()) == b"":
                break
            read += part or b""
            time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return json.loads(read) if read else None


def coverage() -> dict[str, dict[str, Any]]:
    plugin = Entered()
    arguments = [word for word in PLAIN if word != "-x"]
    pytest.main([*arguments, *(f"--ignore={path}" for path in LEFT_OUT), *TESTS], plugins=[plugin])
    (BUILD / "coverage.json").write_text(json.dumps(plugin.tests))
    return {}


def change(mutant: Mutant) -> None:
    """Let the mutant's text stand for the file when it is imported."""
    path = str(ROOT / mutant.file)
    read, stats = SourceFileLoader.get_data, SourceFileLoader.path_stats

    def get_data(self: SourceFileLoader, name: str) -> bytes:
        return mutant.source.encode() if name == path else read(self, name)

    def path_stats(self: SourceFileLoader, name: str) -> Mapping[str, Any]:
        if name == path:
            raise OSError  # so that no compiled file is read or written
        return stats(self, name)

    SourceFileLoader.get_data, SourceFileLoader.path_stats = get_data, path_stats  # pyright: ignore


def killer(mutant: Mutant, tests: list[str]) -> str:
    """The first test that fails on the mutant, or an empty text."""
    change(mutant)
    try:  # before pytest, which reads the files of doctests itself
        for stage in STAGES:
            importlib.import_module(f"research.{stage}")
    except Exception as error:
        return f"import: {error!r}"
    module = importlib.import_module(mutant.file.removesuffix(".py").replace("/", "."))
    if doctest.testmod(module).failed:
        return f"doctest: {mutant.file}"
    likely = [name for name in tests if name.startswith(LIKELY)]
    for names, option in ((likely[:FIRST], ["--noconftest"]), (tests, [])):
        plugin = Only(names)
        if names:
            pytest.main([*PLAIN, *option, *dict.fromkeys(name.split("::")[0] for name in names)], plugins=[plugin])
        if plugin.failed:
            return plugin.failed
    return ""


def covering(mutant: Mutant, tests: Mapping[str, Mapping[str, Any]], budget: float) -> list[str]:
    """The tests that enter the mutant's function, or for code outside functions the file; quickest first."""
    place = [low for low, high in functions(mutant.file) if low <= mutant.line <= high]
    entered = {
        name: about["seconds"]
        for name, about in tests.items()
        if about.get("passed")
        and (
            any(file == mutant.file and (not place or line == place[0]) for file, line in about["entered"])
            or (not place and name.startswith(("tests/golden/test_defaults", "tests/unit/test_promises")))
        )
    }
    quickest = sorted(entered, key=entered.__getitem__)
    return [
        name for name, spent in zip(quickest, accumulate(map(entered.get, quickest)), strict=True) if spent <= budget
    ]


def accepted() -> dict[tuple[str, str, str], str]:
    """The survivors that are explained: file, line before and line after → reason."""
    rows = yaml.safe_load((Path(__file__).parent / "accepted.yaml").read_text()) or []
    return {(row["file"], row["before"], row["after"]): row["reason"] for row in rows}


def prepare(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Import what no mutant changes, and find out which test enters what."""
    os.chdir(ROOT)
    BUILD.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    hypothesis.settings.register_profile("mutation", derandomize=True, database=None)
    hypothesis.settings.load_profile("mutation")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    install_import_hook(["research"], "beartype.beartype")
    changed = {file.split("/")[1] for file in options.files}
    for module in [*UNCHANGED, *(stage for stage in STAGES if stage not in changed)]:
        importlib.import_module(f"research.{module}")
    for path in sorted((ROOT / "tests" / "golden").glob("reference*.py")):
        importlib.import_module(path.stem)
    gc.disable()
    gc.freeze()
    record = BUILD / "coverage.json"
    if not options.known_tests or not record.exists():
        in_child(coverage, 3600.0)
    tests = json.loads(record.read_text())
    broken = [name for name, about in tests.items() if not about.get("passed")]
    print(f"{len(tests)} tests; left out because they fail unchanged: {broken}", flush=True)
    return tests


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutation check of research/credit and research/objective.")
    parser.add_argument("files", nargs="*", default=sources(), help="files to change; default: all of both stages")
    parser.add_argument("--again", action="store_true", help="only what survived unexplained the last time")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of tests that a mutant may take, unchanged")
    parser.add_argument("--known-tests", action="store_true", help="take the last run's record of what tests enter")
    options = parser.parse_args()
    tests, explained, began = prepare(options), accepted(), time.monotonic()
    results = BUILD / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if options.again else []
    killers = {(row["file"], row["line"], row["operator"], row["after"]): row["killer"] for row in rows}
    verdicts = []
    with results.open("w") as log:
        for mutant in (mutant for file in options.files for mutant in mutants(ROOT, file)):
            by = killers.get((mutant.file, mutant.line, mutant.operator, mutant.after), "")
            reason = explained.get((mutant.file, mutant.before, mutant.after), "")
            if not by and not (options.again and reason):
                names = covering(mutant, tests, options.budget)
                found = in_child(lambda m=mutant, n=names: killer(m, n), LIMIT)
                by = "no end, or a crash" if found is None else found
            verdicts.append("killed" if by else "explained" if reason else "survives")
            row = {key: value for key, value in vars(mutant).items() if key != "source"}
            print(json.dumps(row | {"killer": by, "reason": reason}), file=log, flush=True)
            if verdicts[-1] == "survives":
                print(
                    f"{mutant.file}:{mutant.line} {mutant.operator}\n  - {mutant.before}\n  + {mutant.after}",
                    flush=True,
                )
    print(f"{len(verdicts)} mutants in {time.monotonic() - began:.0f} s:", Counter(verdicts))
    return 1 if "survives" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
