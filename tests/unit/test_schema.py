"""A config checked against the source: what is misspelt is named with what is meant; the parser's yes is never a no."""

import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import EXPERIMENTS, replaced

from research.ablation.spec import at_scale, read_study
from research.cli import main
from research.commands.recipes import check_study
from research.errors import UserError
from research.recipe import parse
from research.recipe_file import override, read_recipe
from research.schema import check
from research.slots import component_names, nearest, slots

STUDIES = sorted((EXPERIMENTS / "ablations").glob("*.yaml"))
SCALES = sorted((EXPERIMENTS / "ablations" / "scales").glob("*.yaml"))


@pytest.fixture
def grpo() -> dict[str, Any]:
    return read_recipe([EXPERIMENTS / "grpo.yaml"])


def refused(config: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        check(config)
    return str(caught.value)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("modle.seed=1", "no section is called modle; did you mean model?"),
        ("model.optimisation=1", "model has no key optimisation; did you mean optimization?"),
        ("model.updates.epoch=1", "model.updates has no key epoch; did you mean epochs?"),
        ("model.policy.lora={rnk: 8}", "model.policy.lora has no key rnk; did you mean rank?"),
        ("run.step=1", "run has no key step; did you mean steps?"),
        ("trainer.device=1", "trainer has no key device; did you mean devices?"),
        ("data.chat.class_pth=PlainText", "data.chat has no key class_pth; did you mean class_path?"),
        ("model.objective.surrogate.eps_high=0.3", "model.objective.surrogate has no key eps_high: write init_args"),
        (
            "model.objective.surrogate.init_args.eps_hi=1",
            "init_args has no key eps_hi; did you mean eps_high?",
        ),
        ("model.objective.surrogate=Clipp", "model.objective.surrogate: nothing is called Clipp; did you mean Clip?"),
        ("model.objective.kl=research.objective.k3", "nothing is called research.objective.k3; did you mean K3?"),
        (
            "model.objective.kl={class_path: TokenMean}",
            "kl: TokenMean does not belong here; there are: ",
        ),
        ("model.credit.weights=[{class_path: TopEntropi}]", "model.credit.weights: nothing is called TopEntropi"),
        ("data.train.init_args.difficulty.operator=1", "difficulty has no key operator; did you mean "),
        ("data.filters=[{class_path: NoOverlap, init_args: {against: [{class_path: Ham}]}}]", "nothing is called Ham"),
        ("model.objective.kl={class_path: K3}", "model.objective.kl.init_args.beta is missing"),
        ("model.objective.kl=null", "model.objective.kl is missing: there are ImportanceWeightedK3, K1, "),
        ("data.chat={init_args: {opening: a}}", "data.chat.class_path is missing: there are ChatTemplate, PlainText"),
        ("model=null", "model is missing"),
    ],
)
def test_a_mistake_is_named_with_what_is_meant(word: str, sentence: str, grpo: dict[str, Any]) -> None:
    config = override(grpo, [f"--{word}"]) if "." in word.partition("=")[0] else {**grpo, "model": None}
    assert sentence in refused(config)


def test_a_mistake_before_is_said_to_be_there(grpo: dict[str, Any]) -> None:
    assert refused({**grpo, "after": {**grpo, "modle": {}}}).startswith("after: no section is called modle")


@pytest.mark.parametrize(
    "word",
    [
        "model.critic=null",
        "model.objective.kl={class_path: NoKL, init_args: {}, dict_kwargs: {}}",
        "model.objective.kl=NoKL",
        "model.objective.kl=research.objective.kl.NoKL",
        "model.unknown={}",
        "trainer.logger={class_path: some.where.Logger, init_args: {any: thing}}",
        "model.rewards.verifiers+=[{class_path: ExactAnswer}]",
        "model.rewards.verifiers=[{class_path: elsewhere.Verifier, init_args: {mine: 1}}]",
    ],
)
def test_what_the_parser_judges_is_left_to_it(word: str, grpo: dict[str, Any]) -> None:
    check(override(grpo, [f"--{word}"]))


def test_nothing_is_refused_that_the_parser_accepts(grpo: dict[str, Any]) -> None:
    """Each key of the recipe is taken out, and each is emptied; wherever the check refuses, so does the parser."""
    judged = 0
    for path in paths(grpo):
        *parents, leaf = path
        for change in ("take out", "empty"):
            config = deepcopy(grpo)
            node: Any = config
            for key in parents:
                node = node[key]
            if change == "empty":
                node[leaf] = {} if isinstance(node[leaf], dict) else None
            elif isinstance(node, dict):
                del node[leaf]
            try:
                check(config)
            except UserError:
                judged += 1
                if judged % 8 == 0:  # parsing takes a tenth of a second
                    with pytest.raises(UserError):
                        parsed_without_check(config)
    assert judged > 50


def parsed_without_check(config: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("research.recipe.check", lambda _: None)
        parse(config)


def paths(node: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path for key, value in items for path in [(*above, key), *paths(value, (*above, key))]]


def test_every_study_passes_at_every_scale() -> None:
    for path in STUDIES:
        spec = read_study(path)
        assert check_study(spec, {}) >= 2
        for scale in SCALES:
            try:
                scaled = at_scale(spec, scale)
            except UserError:
                continue
            check_study(scaled, {})


@pytest.mark.process
def test_a_component_of_ones_own_may_be_named_and_is_checked(
    grpo: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_mine.py").write_text(
        "from dataclasses import dataclass\nfrom research.credit import GroupMean, Advantage\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Mine(Advantage):\n    scale: float = 1.0\n\n"
        "    def __call__(self, *, rewards, mask):\n        return GroupMean()(rewards=rewards, mask=mask)\n"
    )
    monkeypatch.chdir(tmp_path)
    mine = {"class_path": "of_mine.Mine", "init_args": {"scale": 2.0}}
    recipe = parse(replaced(grpo, {"model.credit.advantage": mine}))
    assert recipe.config["model"]["credit"]["advantage"] == mine
    assert "of_mine.Min; did you mean Mine?" in refused(replaced(grpo, {"model.credit.advantage": "of_mine.Min"}))
    assert "Mine is written of_mine.Mine" in refused_if_not_imported(grpo)
    assert "Mine" in component_names("model.credit.advantage")


def refused_if_not_imported(grpo: dict[str, Any]) -> str:
    """In a process that has not imported the class: there the parser knows it too, by its last word."""
    code = (
        "import sys, yaml; from research.schema import check; from research.errors import UserError\n"
        "try: check(yaml.safe_load(sys.stdin))\nexcept UserError as error: print(error)"
    )
    text = yaml.safe_dump(replaced(grpo, {"model.credit.advantage": "Mine"}))
    root = str(EXPERIMENTS.parent)
    ran = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True, env={"PYTHONPATH": root}
    )
    return ran.stdout


def test_a_near_name_is_near_in_whatever_case() -> None:
    assert nearest("k3", ["K1", "K3"]) == "K3"
    assert nearest("clip", ["Clip", "DualClip"]) == "Clip"
    assert nearest("whatever", ["Clip"]) is None


def test_slots_are_where_the_type_hints_say() -> None:
    places = {path: slot.base.name for slot in slots() for path in slot.paths}
    assert places["model.credit.advantage"] == "Advantage"
    assert places["model.rollouts.sampler.tool"] == "Tool"
    assert places["data.filters.against"] == "PromptSource"
    assert "model.policy" not in places


@pytest.mark.process
@pytest.mark.parametrize(
    "words",
    [
        ["fit", "{grpo}", "--model.updates.epoch=1"],
        ["resolve", "{grpo}", "--modle.seed=1"],
        ["evaluate", "{grpo}", "--run.step=1"],
        ["ablate", "{ladder}", "--run.step=1"],
        ["doctor", "{grpo}", "--run.step=1"],
        ["fit", "nowhere.yaml"],
        ["evaluate", "nowhere"],
        ["compare", "--before", "nowhere", "--after", "nowhere"],
        ["samples", "nowhere"],
        ["report", "nowhere"],
        ["components", "Clop"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_found_before_anything_heavy_is_imported(words: list[str]) -> None:
    files = {"grpo": EXPERIMENTS / "grpo.yaml", "ladder": EXPERIMENTS / "ablations" / "dapo_ladder.yaml"}
    code = f"import sys; from research.cli import main; print(main({[w.format(**files) for w in words]!r}))\n"
    code += "print(sorted(set(sys.modules) & {'torch', 'lightning', 'transformers', 'numpy', 'pandas'}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-2:] == ["2", "[]"]
    assert len(ran.stderr.splitlines()) == 1


def test_fit_says_at_once_what_it_does(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: Any) -> None:
        raise UserError("here")

    monkeypatch.setattr("research.recipe.parse", stop)
    recipe = EXPERIMENTS / "grpo.yaml"
    assert main(["fit", str(recipe), "--model.seed=3"]) == 2
    assert capsys.readouterr().out == f"{recipe}: trained in runs/grpo-s3\n"
