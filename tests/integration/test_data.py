"""Prompts in whole runs: public datasets, chats and filters from a recipe, and what a run's result says of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from research.cli import main
from research.errors import UserError
from research.prompts.datasets.catalogue import DATASETS
from research.recipe import Recipe, parse
from research.runs.fit import fit

DATA = Path(__file__).parents[1] / "data" / "datasets"


def named(name: str, split: str, **more: Any) -> dict[str, Any]:
    arguments = {"name": name, "split": split, "path": str(DATA / f"{name}.jsonl"), **more}
    return {"class_path": "NamedDataset", "init_args": arguments}


@pytest.fixture(scope="module")
def chat_policy(tiny_policy: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny policy with a chat template, in the characters that it knows."""
    folder = tmp_path_factory.mktemp("chat")
    for path in Path(tiny_policy).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{% for m in messages %}({{ m.content }}){% endfor %}{% if add_generation_prompt %};{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


class TestRun:
    def test_a_chat_run_counts_and_hashes_what_it_used(
        self, recipe: Callable[..., Recipe], chat_policy: str, tmp_path: Path
    ) -> None:
        chosen = [
            {"class_path": "MaxLength", "init_args": {"unit": "tokens", "longest": 10}},
            {"class_path": "DistinctQuestions"},
        ]
        chat = {"class_path": "ChatTemplate", "init_args": {"system": "+"}}
        with_chat = {"model.policy.path": chat_policy, "data.chat": chat, "data.filters": chosen}
        chats = fit(recipe("grpo", with_chat), tmp_path / "chat")
        plain = fit(recipe("grpo", {"model.policy.path": chat_policy}), tmp_path / "plain")
        assert chats["data_hashes"]["evaluation"] != plain["data_hashes"]["evaluation"]
        counts = chats["data_counts"]["train"]
        assert list(counts) == ["loaded", "evaluation questions", "1. MaxLength", "2. DistinctQuestions", "kept"]
        assert counts["loaded"] - counts["kept"] == sum(list(counts.values())[1:-1])
        assert counts["1. MaxLength"] > 0  # `(+)(…=);` is 6 tokens beside the sum: longer sums than 4 characters go
        assert json.loads((tmp_path / "chat" / "result.json").read_text())["data_counts"] == chats["data_counts"]

    def test_a_policy_without_a_chat_template(self, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
        with pytest.raises(UserError, match="the policy's tokenizer has no chat template"):
            fit(recipe("grpo", {"data.chat": {"class_path": "ChatTemplate"}}), tmp_path)


class TestRecipes:
    def test_every_source_and_filter_parses(self, small: Callable[..., dict[str, Any]]) -> None:
        nodes = {
            "data.train": {
                "class_path": "Together",
                "init_args": {"sources": [named("gsm8k", "train"), named("math", "train", limit=2, distinct=True)]},
            },
            "data.evaluation": named("math_500", "test", template="qwen_math"),
            "data.filters": [
                {"class_path": "FieldRange", "init_args": {"field": "level", "low": 3, "high": 5, "missing": "keep"}},
                {"class_path": "NoOverlap", "init_args": {"n": 13, "shortest": 8, "against": [named("cmath", "test")]}},
                {"class_path": "DropLongest", "init_args": {"unit": "characters"}},
            ],
        }
        once = parse(small("grpo", nodes))
        assert parse(dict(once.config)).digest == once.digest
        against = once.config["data"]["filters"][1]["init_args"]["against"]
        assert against[0]["init_args"]["name"] == "cmath"

    def test_a_copy_of_another_shape_parses(self, small: Callable[..., dict[str, Any]]) -> None:
        extraction = {"class_path": "research.prompts.LastBoxed"}
        fields = {"question": "q", "answer": "a", "extraction": extraction}
        parsed = parse(small("grpo", {"data.train": named("math", "train", fields=fields)}))
        assert parsed.config["data"]["train"]["init_args"]["fields"]["question"] == "q"

    @pytest.mark.parametrize(
        ("nodes", "says"),
        [
            ({"data.train": named("gsm9k", "train")}, "no dataset is called 'gsm9k': there are gsm8k, math"),
            ({"data.filters": [{"class_path": "DropLongst"}]}, "DropLongst"),
            ({"data.chat": {"class_path": "ChatTemplat"}}, "ChatTemplat"),
        ],
    )
    def test_mistakes(self, small: Callable[..., dict[str, Any]], nodes: dict[str, Any], says: str) -> None:
        with pytest.raises(UserError) as caught:
            parse(small("grpo", nodes))
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_command_lists_every_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in DATASETS)
    assert "1,791,700" in text
