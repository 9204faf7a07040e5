"""One rollout and one update, ours and TRL's, side by side: `python -m benchmarks.step_vs_trl`.

Each system lives in its own process, so that peak memory is its own; they take turns, repetition by repetition, so that
whatever else the machine does reaches both.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.work import Work

Repetition = dict[str, Any]
"""The steps of one repetition, with their seconds and completion tokens, and the peak memory so far."""
RECIPE = Path(__file__).parents[1] / "experiments" / "grpo.yaml"


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    description = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_vs_trl", description=description)
    parser.add_argument("--repetitions", type=int, default=5, help="alternating repetitions of both systems")
    parser.add_argument("--steps", type=int, default=3, help="timed steps in each repetition, after one warm-up step")
    parser.add_argument("--prompts", type=int, default=64, help="prompts in a step")
    parser.add_argument("--completions", type=int, default=8, help="completions of each prompt")
    parser.add_argument("--max-tokens", type=int, default=None, help="longest completion; the recipe's unless given")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads of both systems")
    parser.add_argument("--model", default="builtin", help="folder of a saved model, in place of the warm start")
    help_ = "both run in float32; bfloat16 measures ours in it as well, auto does so where the CPU has AMX"
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto", help=help_)
    help_ = "completions in each of TRL's forward passes; its fastest unless given"
    parser.add_argument("--trl-rows", type=int, default=None, help=help_)
    parser.add_argument("--output", type=Path, default=None, help="JSON file for everything that was measured")
    given = parser.parse_args(words)
    for name in ("repetitions", "steps", "prompts", "threads"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} is at least 1, got {getattr(given, name)}")
    if given.completions < 2:
        parser.error(f"--completions is at least 2, got {given.completions}")
    return given


def main(words: Sequence[str] | None = None) -> None:
    given = arguments(words)
    work = Work(
        recipe=str(RECIPE),
        model=given.model,
        prompts=given.prompts,
        completions=given.completions,
        max_completion_tokens=given.max_tokens,
        repetitions=given.repetitions,
        steps=given.steps,
        threads=given.threads,
    )
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRL_EXPERIMENTAL_SILENCE="1")
    os.environ["OMP_NUM_THREADS"] = str(work.threads)
    console = Console(width=None if sys.stdout.isatty() else 120)
    result = measure(work, bfloat16=wants_bfloat16(given.precision), trl_rows=given.trl_rows, say=console.print)
    show(result, console)
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=2) + "\n")


# --- measuring ---------------------------------------------------------------------------------------------------


def measure(work: Work, *, bfloat16: bool, trl_rows: int | None, say: Callable[[str], None]) -> dict[str, Any]:
    with ExitStack() as children:
        ours = children.enter_context(child("benchmarks.ours", work, "float32"))
        sizes = [trl_rows] if trl_rows else batch_sizes(work)
        peers = {rows: children.enter_context(child("benchmarks.peer", work)) for rows in sizes}
        plan = receive(ours)
        for rows, peer in peers.items():
            peer.send((plan, rows))
        tried = quick(peers)
        rows = min(tried, key=tried.__getitem__) if tried else sizes[0]
        say(f"TRL: {rows} completions in a forward pass" + "".join(f"  [{r}: {s:.2f} s]" for r, s in tried.items()))
        trl = peers.pop(rows)
        for peer in peers.values():
            peer.close()
        systems = {"ours": ours, "trl": trl}
        if bfloat16:
            systems["ours_bfloat16"] = children.enter_context(child("benchmarks.ours", work, "bfloat16"))
            receive(systems["ours_bfloat16"])
        measured = alternate(systems, work, say)
        accounts = {name: closing(connection) for name, connection in systems.items() if name != "trl"}
    check_same_prompts(measured)
    result = {
        "command": " ".join(["python -m benchmarks.step_vs_trl", *sys.argv[1:]]),
        "environment": environment(work),
        "work": {
            **asdict(work),
            "recipe": f"experiments/{RECIPE.name}",
            **{
                name: plan[name]
                for name in ("max_completion_tokens", "temperature", "optimization", "micro_batch_tokens")
            },
            "trl_rows": rows,
            "trl_seconds_by_rows": tried,
        },
        **{name: summary(repetitions) for name, repetitions in measured.items()},
        "ratio": ratios(measured["ours"], measured["trl"]),
        "account": accounts["ours"],
    }
    if bfloat16:
        result["ratio_bfloat16"] = ratios(measured["ours_bfloat16"], measured["trl"])
        result["account_bfloat16"] = accounts["ours_bfloat16"]
    return result


@contextmanager
def child(module: str, *given: Any) -> Iterator[Connection]:
    """A process that serves one system; if it dies, so does the benchmark, with its traceback on the screen."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(module, there, given), daemon=True)
    process.start()
    there.close()
    try:
        yield here
        here.close()
        process.join(timeout=60)
    finally:
        if process.is_alive():
            process.terminate()
            process.join()


def _serve(module: str, connection: Connection, given: tuple[Any, ...]) -> None:
    import_module(module).serve(connection, *given)


def receive(connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        sys.exit("a benchmark process ended early; its error is above")


def closing(connection: Connection) -> dict[str, Any]:
    connection.send("stop")
    return receive(connection)


def alternate(systems: dict[str, Connection], work: Work, say: Callable[[str], None]) -> dict[str, list[Repetition]]:
    """The repetitions of each system, in turns."""
    measured: dict[str, list[Repetition]] = {name: [] for name in systems}
    for k in range(work.repetitions):
        for name, connection in systems.items():
            connection.send("go")
            measured[name].append(receive(connection))
        times = "  ".join(f"{name} {seconds(repetitions[-1]):.3f} s" for name, repetitions in measured.items())
        say(f"repetition {k + 1} of {work.repetitions}: {times} a step")
    return measured


def batch_sizes(work: Work) -> list[int]:
    """What a user would try for the update: everything at once, and smaller batches, accumulated."""
    rows = work.prompts * work.completions
    return sorted({rows, *(n for n in (128, 64, 32) if n < rows and rows % n == 0)}, reverse=True)


def quick(peers: dict[int, Connection]) -> dict[int, float]:
    """TRL's best seconds a step with each batch size, from two repetitions in turns; empty if there is no choice."""
    times: dict[int, float] = {}
    for _ in range(2 if len(peers) > 1 else 0):
        for rows, peer in peers.items():
            peer.send("go")
            best = min(step["seconds"] for step in receive(peer)["steps"])
            times[rows] = min(best, times.get(rows, best))
    return times


# --- judging -----------------------------------------------------------------------------------------------------


def seconds(repetition: Repetition, clock: str = "seconds") -> float:
    return median(step[clock] for step in repetition["steps"])


def seconds_a_kilotoken(repetition: Repetition) -> float:
    steps = repetition["steps"]
    return 1000 * sum(s["seconds"] for s in steps) / sum(s["completion_tokens"] for s in steps)


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def summary(repetitions: list[Repetition]) -> dict[str, Any]:
    steps = [step for repetition in repetitions for step in repetition["steps"]]
    return {
        "seconds_per_step": spread([step["seconds"] for step in steps]),
        "cpu_seconds_per_step": spread([step["cpu_seconds"] for step in steps]),
        "steps_per_second": 1 / median(step["seconds"] for step in steps),
        "completion_tokens_per_step": spread([step["completion_tokens"] for step in steps]),
        "seconds_per_1000_completion_tokens": spread([seconds_a_kilotoken(r) for r in repetitions]),
        "peak_bytes": max(r["peak_bytes"] for r in repetitions),
        "repetitions": repetitions,
    }


def ratios(ours: list[Repetition], trl: list[Repetition]) -> dict[str, Any]:
    """Ours over TRL, repetition by repetition."""
    pairs = list(zip(ours, trl, strict=True))
    return {
        "seconds_per_step": spread([seconds(a) / seconds(b) for a, b in pairs]),
        "cpu_seconds_per_step": spread([seconds(a, "cpu_seconds") / seconds(b, "cpu_seconds") for a, b in pairs]),
        "seconds_per_completion_token": spread([seconds_a_kilotoken(a) / seconds_a_kilotoken(b) for a, b in pairs]),
        "peak_memory": max(a["peak_bytes"] for a in ours) / max(b["peak_bytes"] for b in trl),
    }


def check_same_prompts(measured: dict[str, list[Repetition]]) -> None:
    """Raises: RuntimeError unless every system was given the same prompts at every step."""
    seen = {name: [[s["prompts"] for s in r["steps"]] for r in repetitions] for name, repetitions in measured.items()}
    if any(prompts != seen["ours"] for prompts in seen.values()):
        raise RuntimeError(f"the systems were given different prompts: {seen}")


def cpu() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value}
    return {"model": found.get("model name", platform.processor()), "flags": found.get("flags", "")}


def wants_bfloat16(precision: str) -> bool:
    return precision == "bfloat16" or (precision == "auto" and "amx_bf16" in cpu()["flags"].split())


def environment(work: Work) -> dict[str, Any]:
    flags = cpu()["flags"].split()
    return {
        "cpu": cpu()["model"],
        "instructions": [flag for flag in ("avx2", "avx512f", "amx_bf16") if flag in flags],
        "cores": os.cpu_count(),
        "threads": work.threads,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "lightning", "trl")},
    }


# --- showing -----------------------------------------------------------------------------------------------------


def show(result: dict[str, Any], console: Console) -> None:
    machine = result["environment"]
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))
    console.print(comparison(result))
    ratio = result["ratio"]
    memory = f"peak memory ratio {ratio['peak_memory']:.2f}"
    step, token = _range(ratio["seconds_per_step"]), _range(ratio["seconds_per_completion_token"])
    console.print(f"ours / TRL, by repetition: step {step}, completion token {token}; {memory}")
    console.print(
        f"the same of processor seconds, which other programs disturb less: {_range(ratio['cpu_seconds_per_step'])}"
    )
    for name in ("account", "account_bfloat16"):
        if name in result:
            show_account(result[name], "float32" if name == "account" else "bfloat16", console)


def comparison(result: dict[str, Any]) -> Table:
    work = result["work"]
    size = f"{work['prompts']} prompts × {work['completions']} completions × at most {work['max_completion_tokens']}"
    columns = ["", "seconds a step", "steps/s", "completion tokens a step", "s / 1000 tokens", "peak MiB"]
    table = Table(*columns, title=f"{size} tokens, one update")
    for name in ("ours", "ours_bfloat16", "trl"):
        if name in result:
            one = result[name]
            table.add_row(
                name.replace("_", " "),
                _range(one["seconds_per_step"]),
                f"{one['steps_per_second']:.3f}",
                _range(one["completion_tokens_per_step"], 0),
                f"{one['seconds_per_1000_completion_tokens']['median']:.3f}",
                f"{one['peak_bytes'] / 2**20:.0f}",
            )
    return table


def show_account(account: dict[str, Any], precision: str, console: Console) -> None:
    step, limit = account["step_seconds_mean"], account["limit"]
    phases = Table("phase", "seconds", "percent", title=f"ours, {precision}: where a step goes (mean {step:.3f} s)")
    for name, amount in account["breakdown_seconds"].items():
        phases.add_row(name, f"{amount:.3f}", f"{account['breakdown_percent'][name]:.1f}")
    console.print(phases)
    under = "under" if account["harness_under_5_percent"] else "NOT under"
    console.print(f"the harness's own share is {account['breakdown_percent']['harness']:.1f} %: {under} 5 %")
    title = f"ours, {precision}: distance from the arithmetic limit"
    gap = Table("between the float32 floor and the clock", "seconds", "percent", title=title)
    for name, amount in limit["between_floor_and_measured_seconds"].items():
        gap.add_row(name, f"{amount:.3f}", f"{100 * amount / step:.1f}")
    console.print(gap)
    rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in limit["matmul_flops_per_second"].items())
    flops = ", ".join(f"{name} {amount / 1e9:.1f}" for name, amount in limit["flops"].items())
    floors = ", ".join(f"{name} {amount:.3f}" for name, amount in limit["floor_seconds"].items())
    console.print(f"GFLOP a step: {flops}. float32 GFLOP/s: {rates}. floor, seconds: {floors}.")
    console.print("; ".join(f"{name} {amount:.2f}" for name, amount in limit["padding"].items()))


def _range(spread_: dict[str, float], digits: int = 3) -> str:
    return f"{spread_['median']:.{digits}f} ({spread_['min']:.{digits}f}–{spread_['max']:.{digits}f})"


if __name__ == "__main__":
    main()
