"""Prompts from files, datasets and reasoning-gym, each on data small enough to read."""

import json
import os
import random
import sys
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pytest
import reasoning_gym

from research.errors import UserError
from research.prompts import HubDataset, LocalJsonl, ReasoningGym
from research.prompts import gym as gym_source
from research.prompts.gym_process import generate, plain

DATA = Path(__file__).parents[1] / "data"
WORKED = {"prompt_field": "question", "answer_field": "answer", "answer_pattern": "#### (.*)"}
PLAIN = {"prompt_field": "question", "answer_field": "answer"}
NESTED = {"prompt_field": "prompt.0.content", "answer_field": "reward_model.ground_truth"}
NESTED_ROWS = [
    {
        "data_source": "own",
        "prompt": [{"role": "user", "content": f"What is {n} + {n}?"}],
        "reward_model": {"ground_truth": str(2 * n), "style": "rule"},
        "extra_info": {"index": n},
    }
    for n in range(3)
]


def write(path: Path, *lines: object) -> str:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return str(path)


def message_of(source: object) -> str:
    with pytest.raises(UserError) as caught:
        source.load()
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestLocalJsonl:
    def test_reads_questions_answers_and_other_fields(self) -> None:
        prompts = LocalJsonl(path=str(DATA / "worked.jsonl"), **WORKED).load()
        assert [p.answer for p in prompts] == ["7", "1,500", "12"]
        assert [p.id for p in prompts] == ["worked.jsonl/1", "worked.jsonl/2", "worked.jsonl/4"]
        assert prompts[0].text == "Mia has 12 pens and gives away 5. How many are left?"
        assert [dict(p.meta) for p in prompts] == [{"grade": 2}, {"grade": 4}, {"grade": 3}]

    def test_dotted_fields_reach_into_lists_and_meta_keeps_only_scalars(self) -> None:
        source = LocalJsonl(path=str(DATA / "messages.jsonl"), prompt_field="messages.0.content", answer_field="answer")
        prompts = source.load()
        assert prompts[1].text == "一本书 20 元，两本书多少元？"
        assert [p.answer for p in prompts] == ["7", "40"]
        assert dict(prompts[0].meta) == {"set": "own", "checked": True, "note": None}

    def test_template_reads_no_brace_but_the_prompts(self) -> None:
        source = LocalJsonl(
            path=str(DATA / "worked.jsonl"), template="{prompt} Answer in \\boxed{}.", limit=1, **WORKED
        )
        (prompt,) = source.load()
        assert prompt.text == "Mia has 12 pens and gives away 5. How many are left? Answer in \\boxed{}."

    def test_limit_stops_before_a_malformed_line(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.jsonl", {"question": "q", "answer": "1"}, "{")
        assert len(LocalJsonl(path=path, limit=1, **PLAIN).load()) == 1

    def test_line_separators_inside_text_and_a_byte_order_mark_are_no_line_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_bytes("\ufeff".encode() + '{"question": "a\u2028b", "answer": "1"}\r\n'.encode())
        (prompt,) = LocalJsonl(path=str(path), **PLAIN).load()
        assert prompt.text == "a\u2028b"

    def test_a_name_written_with_dots_comes_before_a_path(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.jsonl", {"q.text": "flat", "q": {"text": "nested"}, "answer": "1"})
        (prompt,) = LocalJsonl(path=path, prompt_field="q.text", answer_field="answer").load()
        assert prompt.text == "flat"

    @pytest.mark.parametrize(
        ("value", "text"),
        [("  a b ", "a b"), (7, "7"), (-3, "-3"), (142.0, "142"), (0.5, "0.5"), (True, "True")],
    )
    def test_answers_become_text(self, tmp_path: Path, value: object, text: str) -> None:
        path = write(tmp_path / "a.jsonl", {"question": "q", "answer": value})
        assert LocalJsonl(path=path, **PLAIN).load()[0].answer == text

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ('{"question": "q", "answer" 1}', "not JSON: Expecting ':' delimiter at column 28"),
            ("[1, 2]", "a JSON list, not an object with fields"),
            ("[" * 100_000, "not JSON that can be read"),
            ('{"question": "q", "gold": "1", "x": {"y": 1}}', "no field 'answer'; there are: question, gold, x.y"),
            ("{}", "no field 'question'; there are: none"),
            ('{"question": "q", "answer": null}', "field 'answer' is None, neither text nor a finite number"),
            ('{"question": "q", "answer": NaN}', "field 'answer' is nan, neither text nor a finite number"),
            ('{"question": " ", "answer": 1}', "field 'question' is empty"),
            ('{"question": "\\ud800", "answer": 1}', "field 'question' holds half of a surrogate pair"),
            ('{"question": [], "answer": 1}', "field 'question' is a list, not text; and it is empty"),
            (
                '{"question": [{"role": "user", "content": "q"}], "answer": 1}',
                "field 'question' is a list, not text; name a field inside it: question.0.role, question.0.content",
            ),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path: Path, line: str, says: str) -> None:
        path = write(tmp_path / "a.jsonl", {"question": "q", "answer": "1"}, line)
        message = message_of(LocalJsonl(path=path, **PLAIN))
        assert message.startswith(f"{path}:2: ")
        assert says in message

    def test_many_fields_are_listed_only_in_part(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.jsonl", {f"f{n}": n for n in range(30)})
        assert message_of(LocalJsonl(path=path, **PLAIN)).endswith("f18, f19, …")

    @pytest.mark.parametrize("answer", ["no mark", "#### "])
    def test_a_pattern_that_finds_no_answer(self, tmp_path: Path, answer: str) -> None:
        path = write(tmp_path / "a.jsonl", {"question": "q", "answer": answer})
        message = message_of(LocalJsonl(path=path, **WORKED))
        assert message.startswith(f"{path}:1: answer_pattern '#### (.*)' finds no answer in field 'answer'")

    def test_missing_empty_binary_and_folder(self, tmp_path: Path) -> None:
        message = message_of(LocalJsonl(path=str(tmp_path / "none.jsonl"), **PLAIN))
        assert message == f"no file {tmp_path / 'none.jsonl'}: correct the path, or put the file there"
        assert message_of(LocalJsonl(path=write(tmp_path / "e.jsonl", "", " "), **PLAIN)).startswith(
            f"{tmp_path / 'e.jsonl'} is empty"
        )
        (tmp_path / "b.jsonl").write_bytes(b'{"question": "caf\xe9", "answer": "1"}\n')
        message = message_of(LocalJsonl(path=str(tmp_path / "b.jsonl"), **PLAIN))
        assert message.startswith(f"{tmp_path / 'b.jsonl'}:1: not UTF-8 text")
        assert f"{tmp_path} cannot be read" in message_of(LocalJsonl(path=str(tmp_path), **PLAIN))

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Path, mode: str) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        assert message_of(LocalJsonl(path="secret.jsonl", **PLAIN)).startswith("no permission to read secret.jsonl")

    @pytest.mark.parametrize("source", [LocalJsonl, HubDataset])
    @pytest.mark.parametrize(
        ("field", "says"),
        [
            ({"limit": 0}, "limit is at least 1"),
            ({"template": "no place"}, "template must contain {prompt}"),
            ({"answer_pattern": "(a"}, "no regular expression"),
            ({"answer_pattern": "a"}, "has no group"),
        ],
    )
    def test_fields_out_of_range(self, source: type, field: dict, says: str) -> None:
        where = {"path": "a"} if source is LocalJsonl else {"id": "a", "split": "train"}
        with pytest.raises(ValueError, match=says.replace("{", r"\{")):
            source(**where, **PLAIN, **field)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("offline")
class TestHubDataset:
    def test_reads_a_parquet_file_with_nested_fields(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "nested.parquet"
        rows = datasets.Dataset.from_list(NESTED_ROWS)
        datasets.disable_progress_bars()
        rows.to_parquet(path)
        datasets.enable_progress_bars()
        capfd.readouterr()
        prompts = HubDataset(id=str(path), split="train", limit=2, **NESTED).load()
        assert capfd.readouterr().err == ""
        assert not datasets.are_progress_bars_disabled()
        assert [(p.id, p.text, p.answer) for p in prompts] == [
            ("nested.parquet/train/0", "What is 0 + 0?", "0"),
            ("nested.parquet/train/1", "What is 1 + 1?", "2"),
        ]
        assert dict(prompts[0].meta) == {"data_source": "own"}

    def test_agrees_with_local_jsonl_on_the_same_file(self) -> None:
        path = str(DATA / "worked.jsonl")
        ours, theirs = LocalJsonl(path=path, **WORKED).load(), HubDataset(id=path, split="train", **WORKED).load()
        assert [(p.text, p.answer, p.meta) for p in ours] == [(p.text, p.answer, p.meta) for p in theirs]

    def test_reads_a_folder_with_a_file_for_each_split(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        for split in ("train", "test"):
            write(folder / f"{split}.jsonl", {"question": f"a {split} question", "answer": 1})
        (prompt,) = HubDataset(id=str(folder), split="test", **PLAIN).load()
        assert (prompt.id, prompt.text) == ("folder/test/0", "a test question")
        message = message_of(HubDataset(id=str(folder), split="tset", **PLAIN))
        assert 'Unknown split "tset". Should be one of' in message
        assert "'other' not found" in message_of(HubDataset(id=str(folder), config="other", split="test", **PLAIN))

    def test_reads_saved_datasets_by_split(self, tmp_path: Path) -> None:
        rows = datasets.Dataset.from_list([{"question": "q", "answer": 142.0}])
        rows.save_to_disk(tmp_path / "one")
        datasets.DatasetDict({"test": rows}).save_to_disk(tmp_path / "many")
        assert HubDataset(id=str(tmp_path / "one"), split="train", **PLAIN).load()[0].answer == "142"
        assert HubDataset(id=str(tmp_path / "many"), split="test", **PLAIN).load()[0].id == "many/test/0"
        for name, split, known in (("one", "test", "train"), ("many", "train", "test")):
            message = message_of(HubDataset(id=str(tmp_path / name), split=split, **PLAIN))
            assert message == f"{tmp_path / name} has no split {split!r}; there are: {known}"
        message = message_of(HubDataset(id=str(tmp_path / "one"), config="main", split="train", **PLAIN))
        assert "has no configurations: leave config out instead of 'main'" in message

    def test_offline_and_not_cached(self) -> None:
        message = message_of(HubDataset(id="someone/numbers", config="main", split="train", **PLAIN))
        assert message == (
            "dataset 'someone/numbers' (config 'main') is neither cached on this machine nor reachable on the hub: "
            "connect to the network once, so that it is cached, or set id to the path of a local copy "
            "(a file or folder that `datasets` reads or has saved)"
        )

    def test_not_on_the_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def not_found(*args: object, **kwargs: object) -> None:
            raise datasets.exceptions.DatasetNotFoundError("Dataset 'someone/numbers' doesn't exist on the Hub.")

        monkeypatch.setattr(datasets, "load_dataset", not_found)
        message = message_of(HubDataset(id="someone/numbers", split="train", **PLAIN))
        assert message.startswith(
            "dataset 'someone/numbers' cannot be read: Dataset 'someone/numbers' doesn't exist on"
        )
        assert "set id to the path of a local copy" in message

    def test_a_bad_file_or_row_is_named(self, tmp_path: Path) -> None:
        missing = str(tmp_path / "none.parquet")
        assert message_of(HubDataset(id=missing, split="train", **PLAIN)).startswith(f"no file or folder {missing!r}")
        text = write(tmp_path / "notes.txt", "words")
        assert "ends in .jsonl, .json, .parquet" in message_of(HubDataset(id=text, split="train", **PLAIN))
        (tmp_path / "broken.parquet").write_bytes(b"not parquet")
        broken = message_of(HubDataset(id=str(tmp_path / "broken.parquet"), split="train", **PLAIN))
        assert "cannot be read" in broken
        row = message_of(
            HubDataset(id=str(DATA / "worked.jsonl"), split="train", prompt_field="q", answer_field="answer")
        )
        assert row.endswith("worked.jsonl, split train, row 0: no field 'q'; there are: question, answer, grade")
        beyond = message_of(HubDataset(id=str(DATA / "worked.jsonl"), split="train[:0]", **WORKED))
        assert beyond.endswith("corresponds to no data!; correct id, config or split")


class TestReasoningGym:
    @pytest.mark.parametrize("task", ["leg_counting", "countdown", "zebra_puzzles", "knights_knaves", "arc_agi"])
    def test_the_reference_answer_scores_one(self, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gym_source, "_entries", lambda request: generate(**request))
        prompts = ReasoningGym(task=task, size=3, seed=5).load()
        scorer = reasoning_gym.get_score_answer_fn(task)
        assert [scorer(p.answer, p.meta["entry"]) for p in prompts] == [1.0, 1.0, 1.0]
        assert scorer("certainly not", prompts[0].meta["entry"]) < 1.0
        assert [p.id for p in prompts] == [f"{task}/5/{n}" for n in range(3)]
        assert {p.meta["task"] for p in prompts} == {task}
        assert prompts[0].text == prompts[0].meta["entry"]["question"]
        json.dumps([dict(p.meta) for p in prompts])

    def test_a_task_that_hashes_strings_is_the_same_in_every_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        source = ReasoningGym(task="ransom_note", size=4, seed=5)
        drawn = []
        for hash_seed in ("1", "2"):
            monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
            drawn.append(source.load())
        assert drawn[0] == drawn[1]

    def test_a_task_that_draws_from_the_global_generator_is_repeatable(self) -> None:
        random.seed(0)
        first = ReasoningGym(task="list_functions", size=3, seed=1).load()
        random.seed(1)
        assert ReasoningGym(task="list_functions", size=3, seed=1).load() == first

    def test_an_unknown_task_is_told_its_neighbours(self) -> None:
        message = message_of(ReasoningGym(task="leg_countin", size=1, seed=0))
        assert message.startswith("reasoning-gym has no task 'leg_countin'; the nearest names are leg_counting")

    @pytest.mark.parametrize(
        ("task", "config", "says"),
        [
            ("composite", {}, "no task 'composite'"),
            ("§§§", {}, "there are ab, acre, "),
            ("leg_counting", {"animals": 3}, "no setting 'animals'; there are max_animals, max_instances, min_animals"),
            ("leg_counting", {"min_animals": 30}, "refuses config {'min_animals': 30}: max_animals must be >= min"),
        ],
    )
    def test_what_a_task_refuses(self, task: str, config: dict, says: str) -> None:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared below, without a pattern)
            generate(task, 1, 0, config)
        assert says in str(caught.value)

    def test_settings_reach_the_task(self) -> None:
        (entry,) = generate("leg_counting", 1, 0, {"min_animals": 2, "max_animals": 2})
        assert entry["metadata"]["num_animals"] == 2

    @pytest.mark.process
    def test_a_process_that_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/bin/false" if os.path.exists("/bin/false") else "/usr/bin/false")
        message = message_of(ReasoningGym(task="gcd", size=1, seed=0))
        assert message == "reasoning-gym failed to generate task 'gcd': no message"

    def test_plain_keeps_tuples_and_takes_numpy_out(self) -> None:
        value = plain({np.str_("a"): (np.int64(1), [np.float64(0.5)], np.array([1, 2]), None)})
        assert value == {"a": (1, [0.5], [1, 2], None)}
        assert type(next(iter(value))) is str
        assert type(value["a"][0]) is int

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"size": 0, "seed": 0}, "size is at least 1"),
            ({"size": 1, "seed": -1}, "seed is at least 0"),
            ({"size": 1, "seed": 0, "config": {"seed": 3}}, "seed stand beside config"),
        ],
    )
    def test_fields_out_of_range(self, fields: dict, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            ReasoningGym(task="gcd", **fields)
