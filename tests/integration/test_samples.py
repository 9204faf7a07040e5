"""`research samples`: a page of what a run samples now, that changes nothing of the run."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import yaml

from research.cli import main
from research.recipe import Recipe, parse
from research.reporting.pages.samples.draw import draw_samples
from research.reporting.pages.samples.quantities import ADVANTAGE, ENTROPY
from research.runs.fit import fit

SHORT = {"run.steps": 1, "run.evaluate_every": 1}


@pytest.fixture(scope="module")
def run(recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fit(recipe("gtpo", SHORT), folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_runs_page_shows_every_token_and_leaves_the_run_as_it_is(run: Path, capsys: pytest.CaptureFixture[str]):
    before = contents(run)
    assert main(["samples", str(run), "--prompts", "2"]) == 0
    printed = capsys.readouterr()
    after = contents(run)
    html = after.pop("samples.html").decode()
    assert after == before
    assert f"page: {run / 'samples.html'}" in printed.out
    assert html.count("<article") == 2 * 4
    assert html.count("<rect") == html.count('title="token ') > 8
    assert "after 1 step<" in html
    (run / "samples.html").unlink()


def test_the_seed_alone_decides_what_is_sampled(run: Path):
    recipe = parse(yaml.safe_load((run / "config.yaml").read_text()))
    first, again, other = (draw_samples(recipe, run, run / "last.ckpt", prompts=1, seed=k).groups for k in (5, 5, 6))
    assert repr(first) == repr(again)
    assert first[0].prompt != other[0].prompt


def test_a_recipes_start_has_the_recipes_advantages_and_entropies_that_nothing_needs(
    recipe: Callable[..., Recipe], tmp_path: Path
):
    made = recipe("grpo", {"model.updates.minibatches": 1, **SHORT})
    found = draw_samples(made, tmp_path, None, prompts=8, seed=0)
    assert found.steps == 0
    assert list(tmp_path.iterdir()) == []
    at = found.quantities.index(ENTROPY)
    assert all(0 < token[at] < 5 for group in found.groups for s in group.samples for token in s.values)
    at, mixed = found.quantities.index(ADVANTAGE), 0
    for group in found.groups:
        rewards = [sample.reward for sample in group.samples]
        mixed += len(set(rewards)) > 1
        for sample in group.samples:
            expected = (sample.reward - mean(rewards)) / (stdev(rewards) + 1e-6)
            assert [token[at] for token in sample.values] == pytest.approx([expected] * len(sample.texts), abs=1e-4)
    assert mixed > 0


def test_a_group_that_dynamic_sampling_leaves_out_has_no_advantage(recipe: Callable[..., Recipe], tmp_path: Path):
    found = draw_samples(recipe("dapo", SHORT), tmp_path, None, prompts=12, seed=0)
    assert {group.trains for group in found.groups} == {True, False}
    for group in found.groups:
        assert group.trains == (len({sample.right for sample in group.samples}) > 1)
        assert all((sample.advantage == sample.advantage) == group.trains for sample in group.samples)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["{begun}"], "holds no checkpoint", id="no checkpoint"),
        pytest.param(["{missing}"], "cannot read", id="no such file"),
        pytest.param(["{recipe}", "--prompts", "0"], "--prompts is at least 1", id="no prompts"),
        pytest.param(["{recipe}", "--model.policy.path=nobody/nothing"], "cannot load the policy", id="no model"),
        pytest.param(["{recipe}", "--output", "{recipe}/page.html"], "cannot write", id="no place"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str],
    message: str,
    small: Callable[..., dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "begun").mkdir()
    for path in (tmp_path / "recipe.yaml", tmp_path / "begun" / "config.yaml"):
        path.write_text(yaml.safe_dump(small("grpo", SHORT)))
    places = {"begun": tmp_path / "begun", "missing": tmp_path / "none.yaml", "recipe": tmp_path / "recipe.yaml"}
    assert main(["samples", *(word.format(**places) for word in words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("research: ")
    assert message in line
