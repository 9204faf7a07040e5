"""Public datasets by name, on small files of their schema; where there is no network, one sentence and no waiting."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from research.errors import UserError
from research.prompts import Fields, Formula, LastBoxed, NamedDataset, Pattern, WholeField, WholeNumber
from research.prompts.datasets.catalogue import DATASETS
from research.prompts.templates import TEMPLATES

DATA = Path(__file__).parents[2] / "data" / "datasets"

ANSWERS = {
    "gsm8k": ["22", "1,350"],
    "math": [r"\frac{3}{2}", "2", r"\left(-2,\,2\right)"],
    "math_500": ["(x-1)(x+1)", r"90^\circ"],
    "aime_2024": ["1", "204"],
    "aime_2024_dapo": ["20", "64", "20"],
    "aime_2025": ["56", "242"],
    "amc_2023": ["28", "-7"],
    "minerva_math": ["9", r"2\cos 2t"],
    "olympiad_bench": ["3,-3", "5"],
    "dapo_math_17k": ["23", "1024", "23", "29"],
    "dapo_math_17k_processed": ["23"],
    "openr1_math": [r"5\sqrt{2}"],
    "openmathreasoning_mini": ["6", r"\frac{1}{6}"],
    "countdown": ["24", "50"],
    "mgsm_zh": ["17", "72"],
    "cmath": ["4", "2/8"],
}


def named(name: str, **changed: Any) -> NamedDataset:
    """The dataset on its small file."""
    split = next(iter(DATASETS[name].splits))
    return NamedDataset(**{"name": name, "split": split, "path": str(DATA / f"{name}.jsonl"), **changed})


def refused(action: Callable[[], Any], kind: type[Exception] = UserError) -> str:
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestEveryDataset:
    def test_all_have_a_small_file(self) -> None:
        assert set(ANSWERS) == set(DATASETS) == {path.stem for path in DATA.glob("*.jsonl")}

    @pytest.mark.parametrize("name", DATASETS)
    def test_questions_and_answers(self, name: str) -> None:
        prompts, counts = named(name).counted()
        split = next(iter(DATASETS[name].splits))
        assert [prompt.answer for prompt in prompts] == ANSWERS[name]
        assert [prompt.id for prompt in prompts] == [f"{name}/{split}/{n}" for n in range(len(prompts))]
        assert counts == {"rows": len(prompts), "unreadable": 0, "repeated": 0, "contradicting": 0}
        template = TEMPLATES[DATASETS[name].template]
        for prompt in prompts:
            assert prompt.text != prompt.question
            assert prompt.question not in template
            assert prompt.text.startswith(template.partition("{")[0])

    @pytest.mark.parametrize("name", DATASETS)
    def test_a_parquet_copy_and_a_saved_one_read_the_same(self, name: str, tmp_path: Path) -> None:
        rows = datasets.Dataset.from_list([json.loads(line) for line in (DATA / f"{name}.jsonl").open()])
        datasets.disable_progress_bars()
        rows.to_parquet(tmp_path / "rows.parquet")
        rows.save_to_disk(tmp_path / "saved")
        datasets.enable_progress_bars()
        expected = [(p.id, p.text, p.answer) for p in named(name).load()]
        for copy in ("rows.parquet", "saved"):
            read = named(name, path=str(tmp_path / copy)).load()
            assert [(p.id, p.text, p.answer) for p in read] == expected

    @pytest.mark.parametrize("name", DATASETS)
    def test_what_is_known_is_complete(self, name: str) -> None:
        entry = DATASETS[name]
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.hub)
        assert entry.template in TEMPLATES
        assert entry.verifier in {"number", "mathematics", "answer line", "equation"}
        assert entry.licence
        assert entry.source
        assert all(rows > 0 for rows in entry.splits.values())

    @pytest.mark.parametrize("name", DATASETS)
    def test_the_page_says_the_same(self, name: str) -> None:
        entry = DATASETS[name]
        place = entry.hub + (f", {entry.config}" if entry.config else "")
        splits = ", ".join(f"{split} {rows:,}" for split, rows in entry.splits.items())
        row = f"| {name} | {place} | {splits} | {entry.verifier} | {entry.template} | {entry.licence} |"
        assert row in (DATA.parents[2] / "docs" / "datasets.md").read_text("utf-8").splitlines()


class TestRows:
    def test_the_hubs_template_is_taken_off_and_put_on_again(self) -> None:
        rows = [json.loads(line) for line in (DATA / "dapo_math_17k.jsonl").open()]
        prompts = named("dapo_math_17k").load()
        assert [prompt.text for prompt in prompts] == [row["prompt"][0]["content"] for row in rows]
        assert prompts[0].question == "Find the least prime above $20$."
        assert named("dapo_math_17k", template="plain").load()[0].text == "Find the least prime above $20$."
        processed = named("dapo_math_17k_processed").load()[0]
        assert (processed.text, processed.question) == (prompts[0].text, prompts[0].question)

    def test_context_stands_before_the_question_where_there_is_one(self) -> None:
        first, second = named("olympiad_bench", template="plain").load()
        assert first.text == "Find all real $x$ with $x^2=9$."
        assert second.text == "Let $T=4$.\n\nCompute $T+1$."
        assert second.meta["unit"] == "cm"
        assert second.meta["solution"] == "$T=4$ gives $5$."

    def test_countdown_names_its_numbers_and_its_goal(self) -> None:
        prompt = named("countdown").load()[0]
        assert prompt.text.startswith("Using the numbers [3, 8, 1], create an equation that equals 24. ")
        assert prompt.meta["numbers"] == [3, 8, 1]
        assert prompt.meta["goal"] == 24
        assert prompt.question == "numbers [3, 8, 1], goal 24"
        custom = named("countdown", template="{goal} from {numbers}?").load()[0]
        assert custom.text == "24 from [3, 8, 1]?"

    def test_repeated_questions_are_counted(self) -> None:
        prompts, counts = named("dapo_math_17k", distinct=True).counted()
        assert [prompt.answer for prompt in prompts] == ["23", "1024"]
        assert [prompt.id for prompt in prompts] == ["dapo_math_17k/train/0", "dapo_math_17k/train/1"]
        assert counts == {"rows": 4, "unreadable": 0, "repeated": 2, "contradicting": 1}

    def test_limit_counts_prompts_not_rows(self) -> None:
        prompts, counts = named("dapo_math_17k", distinct=True, limit=1).counted()
        assert len(prompts) == 1
        assert counts["rows"] == 1

    def test_another_shape(self) -> None:
        fields = Fields(question="prompt.0.content", answer="extra_info.index")
        prompts = named("dapo_math_17k", fields=fields).load()
        assert [prompt.answer for prompt in prompts] == ["a", "b", "a", "c"]

    def test_a_row_without_an_answer_is_named_or_skipped_and_counted(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        lines = (DATA / "math.jsonl").read_text().splitlines()
        path.write_text("\n".join([lines[0], json.dumps({"problem": "p", "solution": "no box"}), lines[1]]))
        message = refused(named("math", path=str(path)).load)
        assert message.startswith(f"{path}:2: the last \\boxed{{…}} finds no answer in field 'solution'")
        prompts, counts = named("math", path=str(path), unreadable="skip").counted()
        assert [prompt.id for prompt in prompts] == ["math/train/0", "math/train/2"]
        assert counts == {"rows": 3, "unreadable": 1, "repeated": 0, "contradicting": 0}

    def test_rows_of_another_dataset(self) -> None:
        message = refused(named("gsm8k", path=str(DATA / "math.jsonl")).load)
        assert message.endswith("math.jsonl:1: no field 'question'; there are: problem, level, solution, type")
        skipped = refused(named("gsm8k", path=str(DATA / "math.jsonl"), unreadable="skip").load)
        assert skipped.startswith("gsm8k: no row can be read of 3")
        wrapped = refused(named("dapo_math_17k", path=str(DATA.parent / "messages.jsonl")).load)
        assert "no field 'prompt.0.content'" in wrapped

    def test_a_question_without_its_template(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        row = {"prompt": [{"content": "Find $1+1$."}], "reward_model": {"ground_truth": "2"}}
        path.write_text(json.dumps(row))
        message = refused(named("dapo_math_17k", path=str(path)).load)
        assert "field 'prompt.0.content' is not written with its template 'Solve the following math problem" in message

    def test_no_such_file(self, tmp_path: Path) -> None:
        message = refused(named("gsm8k", path=str(tmp_path / "none.jsonl")).load)
        assert message.startswith(f"gsm8k: no file or folder '{tmp_path / 'none.jsonl'}'; set path to a local copy")


class TestHub:
    def test_out_of_reach_names_the_dataset_the_files_and_the_option(self) -> None:
        assert refused(NamedDataset(name="gsm8k", split="test").load) == (
            "dataset 'openai/gsm8k' (config 'main') is neither cached on this machine nor reachable on the hub: "
            "connect to the network once, so that it is cached, or set path to a local copy of its split 'test': "
            "a .jsonl, .json, .parquet, .csv or .arrow file, or a folder that `datasets` reads or has saved, "
            "whose rows have the fields question, answer"
        )

    def test_a_hub_that_does_not_answer_is_asked_once_and_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked, offline = [], []

        def unreachable(self: object, id: str, *, timeout: float) -> None:
            asked.append((id, timeout))
            raise TimeoutError("no answer")

        def load(*args: object, **kwargs: object) -> None:
            offline.append(datasets.config.HF_HUB_OFFLINE)
            raise ConnectionError("offline")

        monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets, "load_dataset", load)
        assert "neither cached" in refused(NamedDataset(name="cmath", split="test").load)
        assert asked == [("weitianwen/cmath", 5.0)]
        assert offline == [True]
        assert datasets.config.HF_HUB_OFFLINE is False

    def test_a_named_file_is_read_without_a_configuration(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`datasets` refuses a configuration's name beside a file, so a local copy stands for the hub."""
        rows = datasets.Dataset.from_list([json.loads(line) for line in (DATA / "mgsm_zh.jsonl").open()])
        (tmp_path / "zh" / "test").mkdir(parents=True)
        rows.to_parquet(tmp_path / "zh" / "test" / "0000.parquet")
        load = datasets.load_dataset
        monkeypatch.setattr(
            datasets, "load_dataset", lambda id, config, revision, **more: load(str(tmp_path), config, **more)
        )
        assert [prompt.answer for prompt in NamedDataset(name="mgsm_zh", split="test").load()] == ANSWERS["mgsm_zh"]

    def test_what_the_hub_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def load(*args: object, **kwargs: object) -> Any:
            asked.append((args, kwargs))
            return datasets.Dataset.from_list([json.loads(line) for line in (DATA / "mgsm_zh.jsonl").open()])

        monkeypatch.setattr(datasets, "load_dataset", load)
        prompts = NamedDataset(name="mgsm_zh", split="test").load()
        assert [prompt.answer for prompt in prompts] == ANSWERS["mgsm_zh"]
        files = {"test": "zh/test/0000.parquet"}
        revision = "refs/convert/parquet"
        assert asked == [(("juletxara/mgsm", None), {"split": "test", "data_files": files, "revision": revision})]


class TestRefusals:
    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"name": "gsm9k"}, "no dataset is called 'gsm9k': there are gsm8k, math, "),
            ({"split": "dev"}, "gsm8k has no split 'dev': there are train, test"),
            ({"limit": 0}, "limit is at least 1, got 0"),
            ({"template": "solve it"}, "template is one of plain, boxed, .* or a text with {prompt}, got 'solve it'"),
        ],
    )
    def test_settings(self, changed: dict[str, Any], says: str) -> None:
        with pytest.raises(ValueError, match=says):
            NamedDataset(**{"name": "gsm8k", "split": "train", **changed})


class TestExtraction:
    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            (r"$\boxed{1}$ then $\boxed{2}$", "2"),
            (r"\boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
            (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
            (r"\boxed{\left\{x\right.}", r"\left\{x\right."),
            (r"\boxed {7}", "7"),
            (r"is $\boxed 5$.", "5"),
            (r"is \fbox{9}", "9"),
            (r"\boxed{ }", None),
            (r"\boxed{1", None),
            (r"\boxedtext{1}", None),
            ("no box", None),
        ],
    )
    def test_last_boxed(self, text: str, answer: str | None) -> None:
        assert LastBoxed()(text) == answer

    @pytest.mark.parametrize(
        ("extraction", "text", "answer"),
        [
            (WholeNumber(), "025", "25"),
            (WholeNumber(), " -7 ", "-7"),
            (WholeNumber(), "000", "0"),
            (WholeNumber(), "2.5", None),
            (WholeNumber(), "", None),
            (Formula(), "$x+1$", "x+1"),
            (Formula(), "$1$ or $2$", "$1$ or $2$"),
            (Formula(), "$$", "$$"),
            (Formula(), " 5 ", "5"),
            (WholeField(), " a ", "a"),
            (WholeField(), " ", None),
            (Pattern(regex="#### (.*)"), "1\n#### 2 ", "2"),
            (Pattern(regex="#### (.*)"), "#### ", None),
            (Pattern(regex="(a)?b"), "b", None),
        ],
    )
    def test_others(self, extraction: Any, text: str, answer: str | None) -> None:
        assert extraction(text) == answer
