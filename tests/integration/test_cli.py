"""The command: a mistake is one line and exit status 2, and what it prints is right."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import EXPERIMENTS, replaced

from research.catalogue import discover
from research.cli import main
from research.evaluation.record import Record
from research.recipe import parse
from research.recipe_file import read_recipe

STUDY: dict[str, Any] = {
    "question": "Does the clip range matter?",
    "base": "recipe.yaml",
    "design": "ladder",
    "baseline": "Plain",
    "seeds": [0, 1],
    "metric": {"name": "evaluation/avg_at_k", "direction": "maximize"},
    "labels": {"clip": "clip-higher"},
    "factors": {
        "clip": {
            "symmetric": {"model.objective.surrogate.init_args.eps_high": 0.2},
            "higher": {"model.objective.surrogate.init_args.eps_high": 0.28},
        },
        "aggregation": {
            "sequence": {"model.credit.aggregate": {"class_path": "SequenceMean"}},
            "token": {"model.credit.aggregate": {"class_path": "TokenMean"}},
        },
    },
}

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default folders are relative: away from the repository, and without the user's own MLflow server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow database for the module: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command that must be refused in one line; gives that line."""

    def run(*words: object) -> str:
        capsys.readouterr()
        status = main([str(word) for word in words])
        printed = capsys.readouterr()
        lines = printed.err.splitlines()
        assert status == 2
        assert len(lines) == 1, printed.err
        assert lines[0].startswith("research: ")
        assert "Traceback" not in printed.err + printed.out
        return lines[0]

    return run


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must succeed; gives its standard output."""

    def run(*words: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def write(small: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """`write(overrides)`: a small recipe's file, with whole nodes replaced."""

    def file(overrides: dict[str, Any] | None = None, without: Sequence[str] = ()) -> Path:
        config = replaced(small("grpo"), overrides or {})
        for path in without:
            *parents, leaf = path.split(".")
            node = config
            for parent in parents:
                node = node[parent]
            del node[leaf]
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return file


@pytest.fixture
def study(write: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """`study(changes)`: a small study's file, beside its recipe."""

    def file(changes: dict[str, Any] | None = None) -> Path:
        write()
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**STUDY, **(changes or {})}, sort_keys=False))
        return path

    return file


def jsonl(path: Path, *lines: str) -> dict[str, Any]:
    """The training prompts of a file."""
    path.write_text("".join(f"{line}\n" for line in lines))
    fields = {"path": str(path), "prompt_field": "question", "answer_field": "answer"}
    return {"data.train": {"class_path": "LocalJsonl", "init_args": fields}}


class TestRecipeMistakes:
    def test_a_component_that_is_misspelt(self, refused: Refused, write: Callable[..., Path]) -> None:
        line = refused("resolve", write({"model.objective.surrogate": {"class_path": "Clipp"}}))
        assert "model.objective.surrogate" in line
        assert "did you mean Clip?" in line

    def test_a_slot_that_is_missing(self, refused: Refused, write: Callable[..., Path]) -> None:
        assert "kl" in refused("fit", write(without=["model.objective.kl"]))

    def test_a_value_out_of_range(self, refused: Refused, write: Callable[..., Path]) -> None:
        assert "epochs" in refused("fit", write({"model.updates.epochs": 0}))

    def test_an_override_that_cannot_be_read(self, refused: Refused, write: Callable[..., Path]) -> None:
        assert "model.seed" in refused("fit", write(), "model.seed=3")

    def test_no_recipe_there(self, refused: Refused, tmp_path: Path) -> None:
        said = {
            "fit": "nowhere.yaml, and no recipe of that name",
            "resolve": "nowhere.yaml, and no recipe or study of that name",
            "ablate": "nowhere.yaml, and no study of that name",
            "evaluate": "nowhere.yaml: No such file",
        }
        for command, sentence in said.items():
            assert sentence in refused(command, tmp_path / "nowhere.yaml")

    def test_no_data_there(self, refused: Refused, write: Callable[..., Path], tmp_path: Path, tracking: str) -> None:
        path = tmp_path / "prompts.jsonl"
        recipe = write(jsonl(path))
        path.unlink()
        assert str(path) in refused("fit", recipe, "--tracking", tracking)

    def test_a_line_that_is_not_json(
        self, refused: Refused, write: Callable[..., Path], tmp_path: Path, tracking: str
    ) -> None:
        path = tmp_path / "prompts.jsonl"
        recipe = write(jsonl(path, '{"question": "1+1=", "answer": "2"}', '{"question": "1+2="'))
        assert f"{path}:2" in refused("fit", recipe, "--tracking", tracking)


class TestFolderMistakes:
    def test_a_file_where_the_folder_should_be(
        self, refused: Refused, write: Callable[..., Path], tmp_path: Path, tracking: str
    ) -> None:
        (tmp_path / "file").write_text("mine")
        folder = tmp_path / "file" / "run"
        assert str(folder) in refused("fit", write(), "--tracking", tracking, f"--run.folder={folder}")

    def test_a_file_where_a_studys_folder_should_be(
        self, refused: Refused, study: Callable[..., Path], tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("mine")
        folder = tmp_path / "file" / "study"
        assert f"cannot write to {folder}" in refused("ablate", study(), "--output", folder)

    def test_nothing_to_report_on(self, refused: Refused, tmp_path: Path) -> None:
        assert str(tmp_path / "nowhere") in refused("report", tmp_path / "nowhere")
        assert str(tmp_path) in refused("report", tmp_path)

    def test_no_checkpoint_to_evaluate(self, refused: Refused, write: Callable[..., Path], tmp_path: Path) -> None:
        folder = tmp_path / "run"
        folder.mkdir()
        assert str(folder) in refused("evaluate", folder)
        (folder / "config.yaml").write_text(write().read_text())
        assert "no checkpoint" in refused("evaluate", folder)

    def test_no_database_to_open(self, refused: Refused, tmp_path: Path) -> None:
        assert "results/mlflow.db" in refused("ui")
        assert "other.db" in refused("ui", "--tracking", f"sqlite:///{tmp_path / 'other.db'}")

    def test_a_store_that_mlflow_no_longer_has(
        self, refused: Refused, write: Callable[..., Path], study: Callable[..., Path], tmp_path: Path
    ) -> None:
        for store in (f"file://{tmp_path / 'mlruns'}", str(tmp_path / "mlruns")):
            line = refused("fit", write(), "--tracking", store)
            assert "database or a server" in line
            assert "sqlite:///" in line
        line = refused("ablate", study(), "--output", tmp_path / "out", "--tracking", f"file://{tmp_path / 'mlruns'}")
        assert "database or a server" in line
        assert not (tmp_path / "mlruns").exists()


class TestStudyMistakes:
    def test_two_factors_on_one_path(self, refused: Refused, study: Callable[..., Path]) -> None:
        factors = {**STUDY["factors"], "mean": STUDY["factors"]["aggregation"]}
        assert "aggregation and mean both touch model.credit.aggregate" in refused(
            "ablate", study({"factors": factors})
        )

    def test_an_unknown_design(self, refused: Refused, study: Callable[..., Path]) -> None:
        assert "staircase" in refused("ablate", study({"design": "staircase"}), "--plan")

    def test_a_level_that_does_not_parse(self, refused: Refused, study: Callable[..., Path]) -> None:
        wrong = {**STUDY["factors"]["aggregation"], "token": {"model.credit.aggregate": {"class_path": "TokenMeans"}}}
        line = refused("ablate", study({"factors": {"aggregation": wrong}, "labels": {}}), "--plan")
        assert "did you mean TokenMean?" in line

    def test_a_base_recipe_that_is_not_there(self, refused: Refused, study: Callable[..., Path]) -> None:
        assert "other.yaml" in refused("ablate", study({"base": "other.yaml"}), "--plan")

    @pytest.mark.parametrize("seeds", ["0,x", "0,0", ","])
    def test_seeds_that_are_none(self, seeds: str, refused: Refused, study: Callable[..., Path]) -> None:
        assert "seeds" in refused("ablate", study(), "--seeds", seeds, "--plan")

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("workers", [0, -1])
    def test_no_workers(self, workers: int, refused: Refused, study: Callable[..., Path], tmp_path: Path) -> None:
        """Not one a core, and no waiting for nobody."""
        assert "workers" in refused("ablate", study(), "--output", tmp_path / "out/study", f"--workers={workers}")


class TestPrints:
    def test_components(self, printed: Callable[..., str]) -> None:
        text = printed("components")
        for entry in discover():
            assert entry.cls.__name__ in text

    def test_a_node_on_the_command_line(self, printed: Callable[..., str], write: Callable[..., Path]) -> None:
        """Its spaces do not make it a file's name."""
        node = "--model.objective.surrogate={class_path: DualClip, init_args: {c: 5.0}}"
        surrogate = yaml.safe_load(printed("resolve", write({}), node))["model"]["objective"]["surrogate"]
        assert surrogate["class_path"].endswith("DualClip")
        assert surrogate["init_args"] == {"eps_low": 0.2, "eps_high": 0.2, "c": 5.0}

    def test_resolve(self, printed: Callable[..., str], write: Callable[..., Path]) -> None:
        recipe = write()
        resolved = printed("resolve", recipe, "--model.seed=3", "--run.steps", "8")
        config = yaml.safe_load(resolved)
        assert (config["model"]["seed"], config["run"]["steps"]) == (3, 8)
        assert parse(config).text == resolved
        plain = yaml.safe_load(printed("resolve", recipe))
        assert parse(plain).digest == parse(read_recipe([recipe])).digest

    def test_resolve_with_hardware_laid_over(self, printed: Callable[..., str], write: Callable[..., Path]) -> None:
        config = yaml.safe_load(printed("resolve", write(), EXPERIMENTS / "hardware" / "one_gpu.yaml"))
        assert config["trainer"]["accelerator"] in ("gpu", "cuda")

    def test_the_plan_of_a_study(self, printed: Callable[..., str], study: Callable[..., Path], tmp_path: Path) -> None:
        file = study()
        there = set(tmp_path.rglob("*"))
        text = printed("ablate", file, "--plan", "--seeds", "0,1,2", "--run.steps=8")
        for word in ("Plain", "+ clip-higher", "+ aggregation", "symmetric", "higher", "sequence", "token"):
            assert word in text
        assert "compares '+ aggregation' with '+ clip-higher'" in text
        assert "9 runs of 8 steps (3 seeds), 0 complete already" in " ".join(text.split())
        assert "6 runs of 4 steps (2 seeds)" in " ".join(printed("resolve", file).split())
        assert set(tmp_path.rglob("*")) == there

    def test_doctor(self, printed: Callable[..., str]) -> None:
        text = printed("doctor")
        for word in ("python", "torch", torch.__version__.partition("+")[0], "lightning", "mlflow", "optuna"):
            assert word in text


class TestFit:
    def test_fit_evaluate_and_fit_again(
        self, printed: Callable[..., str], refused: Refused, write: Callable[..., Path], tmp_path: Path, tracking: str
    ) -> None:
        folder = tmp_path / "runs" / "tiny"
        command = ("fit", write(), "--tracking", tracking, f"--run.folder={folder}", "--threads", 1)
        text = printed(*command)
        result = json.loads((folder / "result.json").read_text())
        value = f"{result['last']['evaluation/avg_at_k']:.1%}"
        assert "4 steps" in text
        assert value in text

        row = next(line for line in printed("evaluate", folder).splitlines() if "avg@2" in line)
        assert f"{result['last']['evaluation/avg_at_k']:.1%}" in row
        kept = Record.read(folder / "evaluations" / "recipe")
        assert kept.settings["step"] == 4
        assert kept.right().mean() == result["last"]["evaluation/avg_at_k"]

        kept_folder = folder / "evaluations" / "recipe"
        compared = printed("compare", "--before", f"{folder}@start", "--after", kept_folder)
        row = next(line for line in compared.splitlines() if "accuracy" in line)
        assert f"{result['start']['evaluation/avg_at_k']:.1%}" in row
        assert f"{result['last']['evaluation/avg_at_k']:.1%}" in row
        hot = ("--model.evaluation.temperature=0.5", "--output", tmp_path / "cold")
        printed("evaluate", folder, *hot)
        assert "differ in temperature" in refused("compare", "--before", tmp_path / "cold", "--after", folder)

        measured, saved = (folder / "metrics.jsonl").read_text(), (folder / "last.ckpt").stat().st_mtime_ns
        assert printed(*command) == text
        assert (folder / "metrics.jsonl").read_text() == measured
        assert (folder / "last.ckpt").stat().st_mtime_ns == saved
        assert json.loads((folder / "result.json").read_text()) == result

        for change in ("--model.optimization.learning_rate=1e-3", "--model.seed=5"):
            line = refused(*command, change)
            assert "holds a run of another recipe" in line
            assert str(folder) in line
        assert (folder / "metrics.jsonl").read_text() == measured

    def test_evaluate_a_recipes_start_and_a_model(
        self,
        printed: Callable[..., str],
        refused: Refused,
        write: Callable[..., Path],
        tiny_policy: str,
        tmp_path: Path,
    ) -> None:
        assert "avg@2" in printed("evaluate", write(), "--output", tmp_path / "start")
        model = ("evaluate", tiny_policy, "--seeds", "0,1")
        assert "avg@2" in printed(*model, "--recipe", write(), "--output", tmp_path / "model")
        assert Record.read(tmp_path / "model").seeds == [0, 1]
        assert "give its recipe with --recipe" in refused(*model)
        assert "there are dapo, dr_grpo, sober_look" in refused(*model, "--recipe", write(), "--protocol", "dap")
