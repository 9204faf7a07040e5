"""Every recipe parses, strictly; a mistake in one is named in one sentence."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import DYNAMIC, EXPERIMENTS, parsed, replaced
from digests import RECIPES, ROOT, recorded

from research.errors import UserError
from research.recipe import Recipe, parse
from research.recipe_file import overlay, override, read_recipe
from research.slots import slots
from research.yaml_file import read_yaml

HARDWARE = sorted((EXPERIMENTS / "hardware").glob("*.yaml"))
SLOTS = (
    "model.rollouts.sampler",
    "model.rollouts.collect.keep",
    "model.credit.advantage",
    "model.credit.aggregate",
    "model.objective.ratio",
    "model.objective.surrogate",
    "model.objective.kl",
    "model.objective.entropy",
    "data.train",
    "data.evaluation",
)


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def without(config: dict[str, Any], path: str) -> dict[str, Any]:
    """The config with the node at a dotted path taken out."""
    changed = deepcopy(config)
    *parents, leaf = path.split(".")
    node = changed
    for parent in parents:
        node = node[parent]
    del node[leaf]
    return changed


@pytest.fixture(scope="module")
def grpo() -> dict[str, Any]:
    return read_recipe([EXPERIMENTS / "grpo.yaml"])


def omitted(config: Any, path: str) -> bool:
    """Whether a config lacks a slot whose parents it has; below a component its class decides."""
    node = config
    for key in path.split("."):
        if not isinstance(node, dict) or "class_path" in node:
            return False
        if key not in node:
            return True
        node = node[key]
    return False


class TestEveryRecipe:
    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
    def test_it_writes_out_every_slot(self, path: Path) -> None:
        config = read_recipe([path])
        paths = {where for slot in slots() for where in slot.paths if where.split(".")[0] in config}
        assert len(paths) > 20
        assert sorted(where for where in paths if omitted(config, where)) == []

    def test_there_are_some(self) -> None:
        assert EXPERIMENTS / "grpo.yaml" in RECIPES

    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
    def test_parses_and_is_complete(self, path: Path) -> None:
        """Every slot is written out; what parsing adds are numbers that have defaults, and Lightning's own settings."""
        written = read_recipe([path])
        recipe = parsed(path.relative_to(EXPERIMENTS).with_suffix("").as_posix())
        for slot in SLOTS:
            node = written
            for key in slot.split("."):
                node = node[key]
            assert set(node) <= {"class_path", "init_args"}, slot
        assert "lora" in written["model"]["policy"]
        assert (recipe.run_settings().steps or 0) % recipe.run_settings().evaluate_every == 0

    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
    def test_parsing_what_was_resolved_changes_nothing(self, path: Path) -> None:
        recipe = parsed(path.relative_to(EXPERIMENTS).with_suffix("").as_posix())
        again = parse(yaml.safe_load(recipe.text))
        assert (again.config, again.text, again.digest) == (recipe.config, recipe.text, recipe.digest)

    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
    def test_trains_what_it_trained(self, path: Path) -> None:
        digest = parsed(path.relative_to(EXPERIMENTS).with_suffix("").as_posix()).digest
        assert recorded().get(str(path.relative_to(ROOT))) == digest, (
            "the recipe trains something else than before; if it should, run python tests/configs/digests.py, "
            "and say why under Numerics in CHANGELOG.md"
        )

    def test_no_digest_is_of_a_recipe_that_is_gone(self) -> None:
        assert set(recorded()) == {str(path.relative_to(ROOT)) for path in RECIPES}

    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
    def test_writes_out_what_the_first_recipe_writes_out(self, path: Path, grpo: dict[str, Any]) -> None:
        written = read_recipe([path])
        for section in ("model", "data"):
            assert set(written[section]) >= set(grpo[section])
            for slot, node in grpo[section].items():
                if isinstance(node, dict) and "class_path" not in node:
                    assert set(written[section][slot]) >= set(node), slot

    @pytest.mark.parametrize("hardware", HARDWARE, ids=lambda path: path.stem)
    def test_composes_with_every_hardware(self, hardware: Path) -> None:
        """An overlay touches what every recipe has in the same place, so two recipes stand for all."""
        assert set(read_yaml(hardware)) <= {"trainer", "model"}
        for name in ("grpo", "ppo"):
            parse(read_recipe([EXPERIMENTS / f"{name}.yaml", hardware]))


class TestMistakes:
    @pytest.mark.parametrize(
        "slot", [*SLOTS[::2], "model.credit.weights", "model.rewards.verifiers", "model.policy.precision"]
    )
    def test_a_slot_that_is_missing(self, slot: str, grpo: dict[str, Any]) -> None:
        assert slot.rpartition(".")[2] in refused(lambda: parse(without(grpo, slot)))

    @pytest.mark.parametrize("section", ["model", "data", "run"])
    def test_a_section_that_is_missing(self, section: str, grpo: dict[str, Any]) -> None:
        assert section in refused(lambda: parse(without(grpo, section)))

    @pytest.mark.parametrize(
        ("slot", "name", "near"),
        [
            ("model.objective.surrogate", "Clipp", "Clip"),
            ("model.credit.aggregate", "TokenMeans", "TokenMean"),
            ("model.objective.kl", "k3", "K3"),
            ("data.train", "Arithmetics", "Arithmetic"),
        ],
    )
    def test_a_component_that_is_misspelt(self, slot: str, name: str, near: str, grpo: dict[str, Any]) -> None:
        message = refused(lambda: parse(replaced(grpo, {slot: {"class_path": name}})))
        assert slot in message
        assert name in message
        assert f" {near}" in message

    def test_a_component_of_another_slot(self, grpo: dict[str, Any]) -> None:
        message = refused(lambda: parse(replaced(grpo, {"model.objective.kl": {"class_path": "TokenMean"}})))
        assert "kl" in message
        assert "TokenMean" in message

    @pytest.mark.parametrize(
        ("path", "key"),
        [
            ("model.objective.surrogate.init_args.eps_hi", "eps_hi"),
            ("model.updates.epoch", "epoch"),
            ("model.optimisation", "optimisation"),
            ("data.prompts", "prompts"),
            ("run.step", "step"),
            ("trainer.device", "device"),
        ],
    )
    def test_a_field_that_is_misspelt(self, path: str, key: str, grpo: dict[str, Any]) -> None:
        assert key in refused(lambda: parse(override(grpo, [f"--{path}=1"])))

    @pytest.mark.parametrize(
        ("path", "value", "key"),
        [
            ("model.objective.surrogate.init_args.eps_low", 1.5, "eps_low"),
            ("model.objective.kl.init_args.beta", 0.0, "beta"),
            ("model.updates.epochs", 0, "epochs"),
            ("model.optimization.learning_rate", -1.0, "learning_rate"),
            ("model.rollouts.completions_per_prompt", 0, "completions_per_prompt"),
            ("model.rollouts.temperature", 0.0, "temperature"),
            ("model.rollouts.collect.max_rounds", 0, "max_rounds"),
            ("model.rewards.verifiers", [], "verifiers"),
            ("model.evaluation.top_p", 2.0, "top_p"),
            ("data.prompts_per_step", 0, "prompts_per_step"),
            ("data.train.init_args.size", 0, "size"),
            ("run.checkpoint_every", 0, "checkpoint_every"),
            ("run.evaluate_every", 7, "evaluate_every"),
        ],
    )
    def test_a_value_out_of_range(self, path: str, value: Any, key: str, grpo: dict[str, Any]) -> None:
        assert key in refused(lambda: parse(replaced(grpo, {path: value})))

    @pytest.mark.parametrize(
        ("path", "value", "key"),
        [
            ("model.updates.epochs", "many", "epochs"),
            ("model.optimization.betas", [0.9], "betas"),
            ("model.policy.precision", "float8", "precision"),
            ("model.credit.denominator", "some", "denominator"),
            ("model.credit.weights", {"class_path": "SkipTruncated"}, "weights"),
            ("model.seed", "zero", "seed"),
        ],
    )
    def test_a_value_of_another_kind(self, path: str, value: Any, key: str, grpo: dict[str, Any]) -> None:
        assert key in refused(lambda: parse(replaced(grpo, {path: value})))

    def test_an_unknown_section(self, grpo: dict[str, Any]) -> None:
        message = refused(lambda: parse({**grpo, "modle": {}}))
        assert "modle" in message
        assert "model" in message

    @pytest.mark.parametrize("text", ["model: [", "- a\n- b", "", "just words"])
    def test_a_file_that_is_no_recipe(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        assert str(path) in refused(lambda: read_yaml(path))

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert "No such file" in refused(lambda: read_yaml(tmp_path / "recipe.yaml"))
        assert "directory" in refused(lambda: read_yaml(tmp_path))


class TestOverrides:
    def test_words_become_values(self) -> None:
        words = ["--model.seed=3", "--run.steps", "20", "--model.policy.lora=null", "--model.betas=[0.9, 0.99]"]
        config = override({"model": {"seed": 0, "policy": {"path": "p"}}}, words)
        assert config == {
            "model": {"seed": 3, "policy": {"path": "p", "lora": None}, "betas": [0.9, 0.99]},
            "run": {"steps": 20},
        }

    def test_the_config_is_left_alone(self) -> None:
        config = {"model": {"seed": 0}}
        override(config, ["--model.seed=3"])
        overlay(config, {"model": {"seed": 4}})
        assert config == {"model": {"seed": 0}}

    def test_an_overlay_merges_mappings_and_replaces_the_rest(self) -> None:
        base = {"trainer": {"devices": 1, "accelerator": "cpu"}, "list": [1, 2]}
        over = {"trainer": {"devices": 2}, "list": [3]}
        assert overlay(base, over) == {"trainer": {"devices": 2, "accelerator": "cpu"}, "list": [3]}

    def test_an_overlay_replaces_a_component_whole(self) -> None:
        base = {"sampler": {"class_path": "Old", "init_args": {"rows": 1}}}
        over = {"sampler": {"class_path": "New", "init_args": {"share": 0.5}}}
        assert overlay(base, over) == over

    @pytest.mark.parametrize(
        "words", [["model.seed=3"], ["--seed=3"], ["--model.seed"], ["--model.seed.deep=1"], ["--model.seed=[1"]]
    )
    def test_words_that_are_no_override(self, words: list[str]) -> None:
        assert "seed" in refused(lambda: override({"model": {"seed": 0}}, words))


class TestDigest:
    @pytest.fixture(scope="class")
    def digest(self, recipe: Callable[..., Recipe]) -> str:
        return recipe("grpo").digest

    @pytest.mark.parametrize(
        "change",
        [
            {"model.seed": 1},
            {"model.policy.path": "builtin"},
            {"model.objective.kl.init_args.beta": 0.05},
            {"model.updates.minibatches": 3},
            {"model.rewards.verifiers": [{"class_path": "ExactAnswer", "init_args": {"marker": "#"}}]},
            {"data.train.init_args.seed": 5},
            {"data.prompts_per_step": 4},
            {"run.steps": 6},
            {"run.evaluate_every": 1},
            dict(DYNAMIC),
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_changes_with_what_is_trained(self, change: dict, digest: str, recipe: Callable[..., Recipe]) -> None:
        assert recipe("grpo", change).digest != digest

    @pytest.mark.parametrize(
        "change",
        [
            {"run.folder": "elsewhere"},
            {"run.tracking": "sqlite:///other.db"},
            {"run.save_policy": True},
            {"run.checkpoint_every": 3},
            {"trainer.devices": 2},
            {"trainer.accelerator": "gpu"},
            {
                "model.objective.kl": {
                    "class_path": "research.objective.K3",
                    "init_args": {"beta": 0.04, "gradient": "value"},
                }
            },
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_does_not_change_with_where_it_runs(self, change: dict, digest: str, recipe: Callable[..., Recipe]) -> None:
        assert recipe("grpo", change).digest == digest
