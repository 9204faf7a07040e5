"""A study that is killed again and again ends as one that was left in peace."""

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

import psutil
import pytest
from studies import FACTORS, Study, check_records, read_rows, write_study

KILLS, SEEDS = 20, [0, 1, 2]


def killed(study: Study, after: float, workers: int) -> tuple[bool, float]:
    """Kill the study's main process at that second; whether it still ran, and how long a child lived on."""
    process, began = study.process(workers), monotonic()
    while monotonic() - began < after and process.poll() is None:
        sleep(0.02)
    if process.poll() is not None:
        assert process.returncode == 0, (study.home / "log.txt").read_text()[-3000:]
        return False, 0.0
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    began = monotonic()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    return True, monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_kills_at_random_moments(small: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Twelve cells: four rungs at three seeds. Kills fall anywhere between importing and the report's writing."""
    third: Mapping[str, Any] = {
        "bonus": {
            "none": {"model.objective.entropy": {"class_path": "NoBonus"}},
            "some": {"model.objective.entropy": {"class_path": "EntropyBonus", "init_args": {"alpha": 0.01}}},
        }
    }
    factors = {**FACTORS, **third}
    file = write_study(tmp_path / "file", small("grpo"), factors=factors, seeds=SEEDS)
    whole = Study(file, tmp_path / "whole")
    began = monotonic()
    process = whole.process(2)
    assert process.wait() == 0, (whole.home / "log.txt").read_text()[-3000:]
    length = monotonic() - began
    runs = [row["run"] for row in whole.rows()]
    assert len(runs) == 12

    study, random, kills, longest = Study(file, tmp_path / "killed"), Random(0), 0, 0.0
    while kills < KILLS:
        was_running, lived_on = killed(study, random.uniform(0.05, 0.75) * length, workers=random.choice((1, 2)))
        kills, longest = kills + was_running, max(longest, lived_on)
        done = len(list((study.folder / "cells").glob("*/result.json")))
        print(f"kill {kills}: {done} cells complete, children gone in {lived_on:.1f} s", flush=True)
    process = study.process(2)
    assert process.wait() == 0, (study.home / "log.txt").read_text()[-3000:]
    check_records(study, runs, factors)
    assert study.numbers() == whole.numbers()
    for table in ("curves.csv", "items.csv.gz"):
        assert read_rows(study.folder / table) == read_rows(whole.folder / table)
    assert longest < 10
    print(f"{kills} kills; {len(runs)} cells; uninterrupted {length:.0f} s; children gone within {longest:.1f} s")
