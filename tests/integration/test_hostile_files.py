"""Files and texts that try to do harm, each with what happens to it; docs/security.md has the same list as a table.

A payload does harm if it creates the file `harm`, except where a test says what else harm would be.
"""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import EXPERIMENTS, replaced
from rich.console import Console

from research.ablation.folder.study_file import STUDY, Study
from research.ablation.folder.tables import write_csv
from research.ablation.spec import read_study
from research.errors import UserError
from research.evaluation.comparison import compare
from research.evaluation.record import Record
from research.policy import PolicySpec
from research.policy.loading import load_pretrained
from research.recipe import Recipe, parse
from research.recipe_file import read_recipe
from research.reporting import terminal_table, write_report
from research.reporting.pages.comparison import comparison_page
from research.reporting.pages.samples.draw import Sample, SampledGroup, Samples, draw_samples
from research.reporting.pages.samples.page import page, samples_table
from research.reporting.pages.samples.quantities import ADVANTAGE, ENTROPY
from research.rewards.pool import Pool
from research.runs.evaluate import evaluate, find_target
from research.runs.fit import fit
from research.runs.folder import CHECKPOINT
from research.tracking import CONFIG, RESULT
from research.training.warm_start.builtin import BUILTIN, resolve_path
from research.types import Prompt

PAGE = EXPERIMENTS.parent / "docs" / "security.md"
METRIC = "evaluation/avg_at_k"
SCRIPT = '<script>alert("1")</script>'
LINK = "[link](javascript:alert(1))"
IMAGE = "![seen](https://example.org/seen.png)"
MARKUP = "\\[link=https://example.org]label[/link] \x1b]0;title\x07\x1b[2J"
FORMULA = "=cmd|' /C calc'!A0"


@dataclass(frozen=True, kw_only=True)
class World:
    """What an attempt works with."""

    folder: Path
    """An empty folder."""
    harm: Path
    """The file that a payload creates."""
    recipe: Callable[..., Recipe]
    small: Callable[..., dict[str, Any]]
    policy: Path
    """A saved model."""
    run: Path
    """A complete run whose result was removed."""
    monkeypatch: pytest.MonkeyPatch

    @property
    def pickled(self) -> "Harm":
        """An object that creates the file when it is unpickled."""
        return Harm(f"touch {self.harm}")

    @property
    def tag(self) -> str:
        """A YAML value that creates the file when a loader obeys it."""
        return f"!!python/object/apply:os.system ['touch {self.harm}']"

    def model(self, *, weights: bool) -> Path:
        """A copy of the saved model, with its weights or without."""
        copy = self.folder / "model"
        shutil.copytree(self.policy, copy)
        if not weights:
            (copy / "model.safetensors").unlink()
        return copy


class Harm:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One row of the page's table."""

    where: str
    what: str
    outcome: str
    action: Callable[[World], object]


ATTEMPTS: dict[str, Attempt] = {}


def attempt(where: str, what: str, outcome: str) -> Callable[[Callable[[World], object]], Callable[[World], object]]:
    """Add a row to the table; the function makes the attempt, and checks what happens."""

    def add(action: Callable[[World], object]) -> Callable[[World], object]:
        ATTEMPTS[getattr(action, "__name__", "")] = Attempt(where=where, what=what, outcome=outcome, action=action)
        return action

    return add


def message(action: Callable[[], object]) -> str:
    """The one sentence with which an action is refused."""
    with pytest.raises(UserError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- checkpoints and models -----------------------------------------------------------------------------------------


def hostile_checkpoint(world: World) -> Path:
    state = torch.load(world.run / CHECKPOINT, weights_only=True)
    torch.save({**state, "callbacks": {"BudgetWatch": world.pickled}}, world.folder / CHECKPOINT)
    return world.folder / CHECKPOINT


@attempt("`last.ckpt`, when a run continues", "a pickle that runs a command", "refused")
def checkpoint_of_a_run(world: World) -> None:
    hostile_checkpoint(world)
    assert "names Python code" in message(lambda: fit(world.recipe("grpo"), world.folder))


@attempt("`last.ckpt`, in `research evaluate`", "the same", "refused")
def checkpoint_that_is_evaluated(world: World) -> None:
    path = hostile_checkpoint(world)
    assert "names Python code" in message(lambda: evaluate(world.recipe("grpo"), world.folder, path))


@attempt("`last.ckpt`, in `research samples`", "the same", "refused")
def checkpoint_that_is_shown(world: World) -> None:
    show = partial(draw_samples, world.recipe("grpo"), world.folder, hostile_checkpoint(world), prompts=1, seed=0)
    assert "names Python code" in message(show)


@attempt("`last.ckpt`", "a pickle in the place of the whole file", "refused")
def pickle_for_a_checkpoint(world: World) -> None:
    (world.folder / CHECKPOINT).write_bytes(pickle.dumps(world.pickled))
    assert "cannot be read" in message(lambda: fit(world.recipe("grpo"), world.folder))


@attempt("`last.ckpt`", "a random generator's position beyond its memory", "refused")
def position_beyond_the_memory(world: World) -> None:
    state = torch.load(world.run / CHECKPOINT, weights_only=True)
    name, keys, _, *rest = state["research"]["random"]["numpy"]
    state["research"]["random"]["numpy"] = (name, keys, 10**9, *rest)
    torch.save(state, world.folder / CHECKPOINT)
    assert "random states are malformed" in message(lambda: fit(world.recipe("grpo"), world.folder))


@attempt("`last.ckpt`", "surplus groups of another form", "refused")
def groups_of_another_form(world: World) -> None:
    state = torch.load(world.run / CHECKPOINT, weights_only=True)
    state["research"]["surplus"] = [{"prompt": 5}]
    torch.save(state, world.folder / CHECKPOINT)
    assert "groups of completions are malformed" in message(lambda: fit(world.recipe("grpo"), world.folder))


def load(path: Path | str) -> object:
    return load_pretrained(PolicySpec(path=str(path), lora=None, precision="float32"))


@attempt("`pytorch_model.bin` of a policy", "a pickle that runs a command", "refused")
def pickled_weights(world: World) -> None:
    folder = world.model(weights=False)
    torch.save({"lm_head.weight": world.pickled}, folder / "pytorch_model.bin")
    assert "cannot load the policy" in message(lambda: load(folder))


@attempt("`pytorch_model.bin`, `optimizer.pt`, `training_args.bin` beside safetensors", "the same", "never opened")
def pickles_beside_safetensors(world: World) -> None:
    folder = world.model(weights=True)
    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(world.pickled))
    load(folder)


@attempt("the cache of warm starts", "a model whose weights are such a pickle", "refused")
def pickled_warm_start(world: World) -> None:
    world.monkeypatch.setenv("RESEARCH_CACHE", str(world.folder))
    folder = world.model(weights=False).rename(world.folder / f"warm_start-{BUILTIN['builtin'].digest()}")
    torch.save({"lm_head.weight": world.pickled}, folder / "pytorch_model.bin")
    assert resolve_path("builtin") == str(folder)
    assert "cannot load the policy" in message(lambda: load(resolve_path("builtin")))


@attempt("`adapter_model.bin` of a LoRA adapter", "the same", "refused")
def pickled_adapter(world: World) -> None:
    adapter = {"peft_type": "LORA", "base_model_name_or_path": str(world.policy), "r": 2, "target_modules": ["q_proj"]}
    folder = world.model(weights=True)
    (folder / "adapter_config.json").write_text(json.dumps({**adapter, "task_type": "CAUSAL_LM"}))
    torch.save({"base_model.model.lm_head.weight": world.pickled}, folder / "adapter_model.bin")
    assert "cannot load the policy" in message(lambda: load(folder))


@attempt("`config.json` of a policy", "its own Python code, by `auto_map`", "refused")
def code_of_a_model(world: World) -> None:
    folder = world.model(weights=True)
    mapped = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    config = {**json.loads((folder / "config.json").read_text()), "model_type": "own", "auto_map": mapped}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(world.harm)!r}, 'w')\n")
    assert "trust_remote_code" in message(lambda: load(folder))


# --- recipes, studies, results folders ------------------------------------------------------------------------------


@attempt("a recipe", "`!!python/object/apply:os.system`", "refused")
def tag_in_a_recipe(world: World) -> None:
    path = world.folder / "recipe.yaml"
    path.write_text(f"model: {world.tag}\n")
    assert "not valid YAML" in message(lambda: read_recipe([path]))


@attempt("a study file", "the same", "refused")
def tag_in_a_study_file(world: World) -> None:
    path = world.folder / "study.yaml"
    path.write_text(f"question: {world.tag}\nbase: recipe.yaml\n")
    assert "not valid YAML" in message(lambda: read_study(path))


@attempt("`study.yaml` of a results folder", "the same", "refused")
def tag_in_results(world: World) -> None:
    path = results(world) / STUDY
    path.write_text(f"{path.read_text()}question: {world.tag}\n")
    assert "not valid YAML" in message(lambda: write_report(path.parent))


@attempt("`config.yaml` of a run", "the same", "refused")
def tag_in_a_run(world: World) -> None:
    shutil.copy(world.run / CHECKPOINT, world.folder)
    (world.folder / CONFIG).write_text(f"model: {world.tag}\n")
    assert "not valid YAML" in message(lambda: find_target(str(world.folder), None))
    assert "not valid YAML" in message(lambda: fit(world.recipe("grpo"), world.folder))


@attempt("a slot of a recipe", "`class_path: subprocess.Popen` or `os.system`", "refused: not of the slot's kind")
def class_of_another_kind(world: World) -> None:
    for name, arguments in (("subprocess.Popen", {"args": ["touch", str(world.harm)]}), ("os.system", {})):
        node = {"class_path": name, "init_args": arguments}
        config = replaced(world.small("grpo"), {"model.objective.kl": node})
        assert "kl" in message(lambda config=config: parse(config))


def results(world: World, *, label: str = "base", run: str = "0-base-s0", paper: str | None = None) -> Path:
    """A study's results folder, as a stranger may send it."""
    folder = world.folder / "results"
    folder.mkdir()
    study: Mapping[str, Any] = {
        "name": label,
        "question": label,
        "design": "ladder",
        "base": "experiments/grpo.yaml",
        "seeds": [0, 1],
        "metric": {"name": METRIC, "direction": "maximize"},
        "scale": "small",
        "paper": paper,
        "steps": 4,
        "cells": [{"id": "0-base", "label": label, "levels": {"clip": label}}],
    }
    (folder / STUDY).write_text(yaml.safe_dump(study))
    rows = [{"run": run, "cell": "0-base", "seed": 0, "status": "complete", METRIC: 0.5}]
    rows += [{"run": "0-base-s1", "cell": "0-base", "seed": 1, "status": f"missing: {label}"}]
    write_csv(folder / "runs.csv", rows)
    return folder


@attempt("`runs.csv` of a results folder", "`run: ../../x`", "printed as text: a report opens no file by it")
def path_for_a_run(world: World) -> None:
    folder = results(world, run="../../x")
    before = {path for path in world.folder.rglob("*") if not path.is_relative_to(folder)}
    write_report(folder)
    assert before == {path for path in world.folder.rglob("*") if not path.is_relative_to(folder)}
    assert "../../x" in (folder / "report.md").read_text()


@attempt("`study.yaml` of a results folder", "`paper: ../../etc/passwd` or `/etc/passwd`", "refused")
def path_for_a_paper(world: World) -> None:
    folder = results(world)
    text = (folder / STUDY).read_text()
    for name in ("/etc/passwd", "../../../../../../../../etc/passwd"):
        (folder / STUDY).write_text(text.replace("paper: null", f"paper: {name}"))
        assert "leads out of the checkout" in message(lambda: write_report(folder))


@attempt("`papers/` of a results folder", "a link to `/etc/passwd`", "refused")
def link_for_a_paper(world: World) -> None:
    folder = results(world, paper="passwd")
    (folder / "papers").mkdir()
    (folder / "papers" / "passwd").symlink_to("/etc/passwd")
    assert "there is no table" in message(lambda: write_report(folder))


@attempt("`tables` of a results folder", "a link to another folder, whose tables a report would replace", "refused")
def link_for_the_tables(world: World) -> None:
    folder, other = results(world), world.folder / "other"
    other.mkdir()
    (other / "mine.md").write_text("mine")
    (folder / "tables").symlink_to(other)
    assert "is a link" in message(lambda: write_report(folder))
    assert (other / "mine.md").read_text() == "mine"


# --- texts ----------------------------------------------------------------------------------------------------------


@attempt("prompts and completions, on the page of `research samples`", "HTML with a script", "shown as text")
def script_on_the_page_of_samples(world: World) -> None:
    html = page(samples_of(SCRIPT), title=SCRIPT, facts={"run": SCRIPT})
    assert "<script" not in html
    assert "&lt;script" in html


def samples_of(text: str) -> Samples:
    """One completion, with the text in every place."""
    sample = Sample(
        right=None,
        fault=text,
        truncated=False,
        rewards=(1.0,),
        reward=1.0,
        advantage=0.0,
        texts=(text,),
        own=(True,),
        values=((0.5, 0.25),),
    )
    prompt = Prompt(id=text, text=text, answer=text, meta={"question": text})
    return Samples(
        steps=1,
        columns=(text,),
        quantities=(ENTROPY, ADVANTAGE),
        components={text: text},
        groups=(SampledGroup(prompt=prompt, trains=True, samples=(sample,)),),
    )


@attempt("prompts and completions, on the page of `research compare`", "the same", "shown as text")
def script_on_the_page_of_a_comparison(world: World) -> None:
    settings = {"completions_per_prompt": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_completion_tokens": 4}
    settings |= {
        "seeds": [0],
        "prompts": "cafe",
        "target": SCRIPT,
        "metrics": [{}],
        "policy": SCRIPT,
        "step": 1,
        "config": SCRIPT,
    }

    def record(right: bool) -> Record:
        done = {"text": SCRIPT, "tokens": 1, "truncated": False, "right": right, "answer": SCRIPT}
        items: list[Any] = [
            {"seed": 0, "prompt": f"{SCRIPT}{n}", "text": SCRIPT, "reference": SCRIPT, "completions": [done]}
            for n in range(4)
        ]
        return Record(settings=settings, items=items)

    before, after = record(False), record(True)
    html = comparison_page(before, after, compare(before, after), command=SCRIPT)
    assert "<script" not in html
    assert "&lt;script" in html


@attempt("names, labels and reasons of failure, in `report.html`", "an image of another site", "not loaded: a link")
def image_in_a_report(world: World) -> None:
    folder = results(world, label=IMAGE)
    write_report(folder)
    html = (folder / "report.html").read_text()
    assert "<img" not in html
    assert '!<a href="https://example.org/seen.png">seen</a>' in html


@attempt("names, labels and reasons of failure, in `report.html`", "a script, a link that runs one", "shown as text")
def script_in_a_report(world: World) -> None:
    folder = results(world, label=f"{SCRIPT} {LINK}")
    write_report(folder)
    html = (folder / "report.html").read_text()
    assert SCRIPT not in html
    assert html.count("<script") == 1, "the page's own, which sorts its tables"
    assert 'href="javascript' not in html
    assert "&lt;script" in html


@attempt("prompt ids, levels and reasons, in the tables of a study", f"`{FORMULA}`", "text behind a `'`")
def formula_in_a_table(world: World) -> None:
    path = world.folder / "items.csv"
    texts = (FORMULA, "@SUM(1)", f"+{FORMULA[1:]}", "\t=1", " =1")
    write_csv(path, [{"prompt": text, FORMULA: 1.5, "right": -1} for text in texts])
    head, *lines = path.read_text().splitlines()
    assert head == f"prompt,'{FORMULA},right"
    assert lines == [f"'{text},1.5,-1" for text in texts]
    write_csv(path, [{"label": "+ clip-higher", "gain": -0.5, "low": "-0.5"}])
    assert path.read_text() == "label,gain,low\n+ clip-higher,-0.5,-0.5\n"


@attempt("labels and levels, in `tables/*.csv` beside a report", f"`{FORMULA}`", "text behind a `'`")
def formula_in_the_tables_of_a_report(world: World) -> None:
    folder = results(world, label=FORMULA)
    write_report(folder)
    first = (folder / "tables" / "main.csv").read_text().splitlines()[1]
    assert first.startswith(f"0-base,'{FORMULA},'{FORMULA},{METRIC},0.5,")


@attempt("prompts, on the terminal", "links, a window's title", "printed as text")
def markup_of_a_prompt_on_the_terminal(world: World) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=300)
    console.print(samples_table(samples_of(MARKUP)))
    assert isinstance(console.file, StringIO)
    printed = console.file.getvalue()
    assert "\x1b]" not in printed
    assert "[link=https://example.org]label[/link]" in printed


@attempt("names, labels and reasons of failure, on the terminal", "links, a window's title", "printed as text")
def markup_on_the_terminal(world: World) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=200)
    folder = results(world)
    study = yaml.safe_load((folder / STUDY).read_text())
    study["name"] = study["cells"][0]["label"] = MARKUP
    (folder / STUDY).write_text(yaml.safe_dump(study))
    assert Study.from_yaml(folder / STUDY).name == MARKUP
    console.print(terminal_table(folder))
    assert isinstance(console.file, StringIO)
    printed = console.file.getvalue()
    assert "\x1b]" not in printed
    assert "\x1b[2J" not in printed
    assert "[link=https://example.org]label[/link] ␛]0;title␇␛[2J" in printed


@attempt("a worker process that judges completions", "a pickle in the place of its reply", "no verdict; worker ended")
def pickled_reply(world: World) -> None:
    (world.folder / "own_reward.py").write_text(
        "import os, pickle, sys\n"
        "from multiprocessing.connection import Connection\n"
        "class Harm:\n"
        "    def __reduce__(self):\n"
        f"        return os.system, ('touch {world.harm}',)\n"
        "def judge():\n"
        "    Connection(int(sys.argv[1])).send(Harm())\n"
        "    return 1.0\n"
    )
    world.monkeypatch.setattr(sys, "path", [*sys.path, str(world.folder)])
    pool = Pool("function", ("own_reward.judge",), 1, 2048)
    try:
        assert pool({}, 30.0).kind == "crash"
    finally:
        pool.close()


# --- the tests ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fit(recipe("grpo"), folder)
    (folder / RESULT).unlink()
    return folder


MARKED = [pytest.param(name, marks=[pytest.mark.process] * (name == "pickled_reply")) for name in ATTEMPTS]


@pytest.mark.parametrize("name", MARKED)
def test_does_no_harm(
    name: str,
    recipe: Callable[..., Recipe],
    small: Callable[..., dict[str, Any]],
    tiny_policy: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harm, folder = tmp_path / "harm", tmp_path / "folder"
    folder.mkdir()
    world = World(
        folder=folder,
        harm=harm,
        recipe=recipe,
        small=small,
        policy=Path(tiny_policy),
        run=run,
        monkeypatch=monkeypatch,
    )
    ATTEMPTS[name].action(world)
    assert not harm.exists()


@pytest.mark.process
def test_the_payloads_would_do_harm(tmp_path: Path) -> None:
    """Otherwise the tests above would hold for nothing."""
    for number, read in enumerate((pickle.loads, lambda data: yaml.unsafe_load(data.decode()))):
        harm = tmp_path / str(number)
        command = f"touch {harm}"
        read((pickle.dumps(Harm(command)), f"!!python/object/apply:os.system ['{command}']".encode())[number])
        assert harm.exists()


def test_the_page_lists_every_attempt() -> None:
    rows = [f"| {one.where} | {one.what.replace('|', chr(92) + '|')} | {one.outcome} |" for one in ATTEMPTS.values()]
    found = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "| where |" not in line]
    assert found == rows, "the table of docs/security.md:\n" + "\n".join(rows)
