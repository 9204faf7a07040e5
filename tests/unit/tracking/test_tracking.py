"""The run folder's files, and their mirror in MLflow."""

import json
import os
from pathlib import Path
from time import sleep

import pytest
import yaml

from research.errors import UserError
from research.tracking import RunLogger, Tracker, merged_steps, read_lines, replace_text
from research.tracking.views import compare_view

GSM8K = {"class_path": "NamedDataset", "init_args": {"name": "gsm8k"}}


class TestRunLogger:
    @pytest.fixture
    def logger(self, tmp_path: Path) -> RunLogger:
        logger = RunLogger(tmp_path)
        logger.log_metrics({"evaluation/avg_at_k": 0.25}, step=0)
        for step in (1, 2, 3):
            logger.log_metrics({"objective/loss": step / 10}, step=step)
        logger.log_metrics({"evaluation/avg_at_k": 0.5}, step=3)
        logger.log_items([{"prompt": "a", "right": 1}], step=0)
        logger.log_items([{"prompt": "a", "right": 2}], step=3)
        return logger

    def test_one_line_each_time(self, logger: RunLogger) -> None:
        lines = (logger.folder / "metrics.jsonl").read_text().splitlines()
        assert json.loads(lines[1]) == {"step": 1, "objective/loss": 0.1}
        assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3, 3]
        assert [line["items"][0]["right"] for line in read_lines(logger.folder / "items.jsonl")] == [1, 2]

    def test_lines_of_one_step_become_one(self, logger: RunLogger) -> None:
        assert merged_steps(logger.folder)[3] == {"objective/loss": 0.3, "evaluation/avg_at_k": 0.5}
        assert list(merged_steps(logger.folder)) == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        ("after", "metrics", "items"), [(-1, [], []), (2, [0, 1, 2], [0]), (3, [0, 1, 2, 3, 3], [0, 3])]
    )
    def test_forgets_later_steps(self, after: int, metrics: list[int], items: list[int], logger: RunLogger) -> None:
        logger.log_samples([{"prompt": "a"}], step=3)
        logger.forget_after(after)
        assert [line["step"] for line in read_lines(logger.folder / "samples.jsonl")] == [3] * (after >= 3)
        assert [line["step"] for line in read_lines(logger.folder / "metrics.jsonl")] == metrics
        assert [line["step"] for line in read_lines(logger.folder / "items.jsonl")] == items

    def test_forgetting_leaves_what_is_kept_as_it_was(self, logger: RunLogger) -> None:
        before = (logger.folder / "metrics.jsonl").read_bytes()
        logger.forget_after(3)
        assert (logger.folder / "metrics.jsonl").read_bytes() == before

    def test_a_last_line_that_was_cut_is_left_out_and_goes_when_the_run_resumes(self, logger: RunLogger) -> None:
        path = logger.folder / "metrics.jsonl"
        with path.open("a") as file:
            file.write('{"step": 4, "objective/lo')
        assert list(merged_steps(logger.folder)) == [0, 1, 2, 3]
        logger.forget_after(3)
        logger.log_metrics({"objective/loss": 0.4}, step=4)
        assert merged_steps(logger.folder)[4] == {"objective/loss": 0.4}

    def test_no_file_has_no_steps(self, tmp_path: Path) -> None:
        assert merged_steps(tmp_path) == {}
        RunLogger(tmp_path / "new").forget_after(-1)
        assert (tmp_path / "new/metrics.jsonl").read_text() == ""


def test_replace_text_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep/er/result.json"
    replace_text(path, "one")
    assert path.read_text() == "one"

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", power_cut)
    with pytest.raises(KeyboardInterrupt):
        replace_text(path, "two")
    assert path.read_text() == "one"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A database's address and the folder around it; made once, because MLflow takes seconds to lay its tables."""
    folder = tmp_path_factory.mktemp("mlflow")
    return f"sqlite:///{folder}/below/mlflow.db", folder


def tracker(store: tuple[str, Path]) -> Tracker:
    return Tracker(store[0], "study", store[1] / "artifacts")


def history(store: tuple[str, Path], run_id: str, name: str) -> list[tuple[int, float]]:
    """What MLflow has: also what it has twice."""
    return [(m.step, m.value) for m in tracker(store).client.get_metric_history(run_id, name)]


class TestTracker:
    def log(self, folder: Path, *steps: int) -> None:
        for step in steps:
            values = {"objective/loss": step / 10, "time/step_seconds": 1.0}
            RunLogger(folder).log_metrics(values, step=step)

    def test_parent_and_child(self, store: tuple[str, Path]) -> None:
        mine = tracker(store)
        parent = mine.run("study", name="study")
        child = mine.run(
            "study/a/0", name="a s0", parent=parent, params={"clip": "higher"}, tags={"config_hash": "abc"}
        )
        run = mine.client.get_run(child)
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert run.data.tags["config_hash"] == "abc"
        assert run.data.params == {"clip": "higher"}
        assert run.info.run_name == "a s0"
        assert "mlflow.parentRunId" not in mine.client.get_run(parent).data.tags

    def test_a_resumed_run_finds_its_own(self, store: tuple[str, Path]) -> None:
        first = tracker(store).run("again", name="first", params={"seed": 0})
        tracker(store).finish(first, "KILLED")
        assert tracker(store).run("again", name="second", params={"seed": 0}) == first
        assert tracker(store).client.get_run(first).info.status == "RUNNING"
        assert tracker(store).run("another", name="first") != first

    def test_mirroring_twice_logs_nothing_twice(self, store: tuple[str, Path], tmp_path: Path) -> None:
        mine = tracker(store)
        run_id = mine.run("mirrored", name="mirrored")
        RunLogger(tmp_path).log_metrics({"evaluation/avg_at_k": 0.5}, step=0)
        mine.mirror(tmp_path, run_id)
        self.log(tmp_path, 1, 2)
        mine.mirror(tmp_path, run_id)
        mine.mirror(tmp_path, run_id)
        tracker(store).mirror(tmp_path, run_id)  # another process, after a restart
        self.log(tmp_path, 3)
        tracker(store).mirror(tmp_path, run_id)
        mine.mirror(tmp_path, run_id)
        assert history(store, run_id, "objective/loss") == [(1, 0.1), (2, 0.2), (3, 0.3)]
        assert history(store, run_id, "evaluation/avg_at_k") == [(0, 0.5)]

    def test_an_evaluation_that_comes_later_in_its_step_is_not_lost(
        self, store: tuple[str, Path], tmp_path: Path
    ) -> None:
        """A step's training line is written, the run is interrupted and mirrored, then resumed and evaluated."""
        mine = tracker(store)
        run_id = mine.run("later", name="later")
        self.log(tmp_path, 1, 2)
        mine.mirror(tmp_path, run_id)
        RunLogger(tmp_path).log_metrics({"evaluation/avg_at_k": 0.5}, step=2)
        self.log(tmp_path, 3)
        mine.mirror(tmp_path, run_id)
        tracker(store).mirror(tmp_path, run_id)
        assert history(store, run_id, "evaluation/avg_at_k") == [(2, 0.5)]
        assert history(store, run_id, "objective/loss") == [(1, 0.1), (2, 0.2), (3, 0.3)]

    def test_artifacts_and_status(self, store: tuple[str, Path], tmp_path: Path) -> None:
        mine = tracker(store)
        run_id = mine.run("artifacts", name="artifacts")
        (tmp_path / "config.yaml").write_text("model: {}")
        mine.finish(run_id, "FAILED", [tmp_path / "config.yaml"])
        assert mine.client.get_run(run_id).info.status == "FAILED"
        assert [entry.path for entry in mine.client.list_artifacts(run_id)] == ["config.yaml"]
        assert list((store[1] / "artifacts").rglob("config.yaml"))

    def test_a_run_is_scheduled_until_it_begins_and_says_why_it_failed(self, store: tuple[str, Path]) -> None:
        mine = tracker(store)
        run_id = mine.run("planned", name="planned", status="SCHEDULED")
        assert mine.client.get_run(run_id).info.status == "SCHEDULED"
        assert mine.run("planned", name="planned") == run_id
        assert tracker(store).run("planned", name="planned", status="SCHEDULED") == run_id
        assert mine.client.get_run(run_id).info.status == "RUNNING"
        mine.finish(run_id, "FAILED", note="the reward hung")
        assert mine.client.get_run(run_id).data.tags["mlflow.note.content"] == "the reward hung"

    def test_more_params_than_mlflow_takes_at_once(self, store: tuple[str, Path]) -> None:
        params = {f"model.field{k}": str(k) for k in range(150)}
        assert (
            tracker(store).client.get_run(tracker(store).run("many", name="many", params=params)).data.params == params
        )

    def test_config_datasets_and_samples_are_kept_once(self, store: tuple[str, Path], tmp_path: Path) -> None:
        mine = tracker(store)
        run_id = mine.run("kept", name="kept")
        config = {"data": {"train": {"class_path": "Arithmetic", "init_args": {"size": 9}}, "evaluation": GSM8K}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        counts = {"train": {"loaded": 9, "kept": 7}, "evaluation": {"loaded": 4}}
        result = {"data_hashes": {"train": "aa", "evaluation": "bb"}, "data_counts": counts}
        (tmp_path / "result.json").write_text(json.dumps(result))
        RunLogger(tmp_path).log_samples([{"prompt": "1+1=", "completion": "#2", "right": True}], step=0)
        RunLogger(tmp_path).log_samples([{"prompt": "1+1=", "completion": "#3", "right": False}], step=5)
        mine.keep(tmp_path, run_id)
        mine.keep(tmp_path, run_id)
        kept = mine.client.get_run(run_id).inputs
        assert kept is not None
        inputs = {i.tags[0].value: i.dataset for i in kept.dataset_inputs}
        assert {context: (d.name, d.digest) for context, d in inputs.items()} == {
            "training": ("Arithmetic", "aa"),
            "evaluation": ("gsm8k", "bb"),
        }
        assert json.loads(str(inputs["training"].profile))["num_rows"] == 7
        table = json.loads(Path(mine.client.download_artifacts(run_id, "samples.json", str(tmp_path))).read_text())
        assert table["columns"] == ["step", "prompt", "completion", "right"]
        assert table["data"] == [[0, "1+1=", "#2", True], [5, "1+1=", "#3", False]]
        tables = json.loads(mine.client.get_run(run_id).data.tags["mlflow.loggedArtifacts"])
        assert tables == [{"path": "samples.json", "type": "table"}]

    def test_the_machine_is_watched_while_a_run_runs(
        self, store: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
        mine = tracker(store)
        run_id = mine.run("watched", name="watched")
        mine.watch(run_id)
        mine.watch(run_id)
        sleep(0.6)
        mine.finish(run_id)
        seen = history(store, run_id, "system/system_memory_usage_megabytes")
        assert [step for step, _ in seen] == list(range(len(seen)))
        assert seen[0][1] > 0

    def test_the_cells_of_a_study_are_a_saved_view(self, store: tuple[str, Path]) -> None:
        mine = tracker(store)
        page = compare_view(mine, "1234abcd", "evaluation/avg_at_k")
        assert page == f"/#/experiments/{mine.experiment_id}/runs?viewStateShareKey=1234abcd&compareRunsMode=CHART"
        tags = mine.client.get_experiment(mine.experiment_id).tags
        state = json.loads(tags["mlflow.sharedViewState.1234abcd"])
        assert state["searchFilter"] == "tags.study = '1234abcd'"
        assert mine.client.search_runs([mine.experiment_id], state["searchFilter"]) == []
        assert state["compareRunCharts"][0]["metricKey"] == "evaluation/avg_at_k"
        assert len({chart["uuid"] for chart in state["compareRunCharts"]}) == len(state["compareRunCharts"])

    @pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "file:mlruns", "./mlruns", "mlruns", ""])
    def test_file_stores_are_refused(self, uri: str) -> None:
        with pytest.raises(UserError, match="needs a database or a server") as caught:
            Tracker(uri, "study")
        assert "\n" not in str(caught.value)

    def test_a_kill_while_the_tables_are_laid_leaves_no_database(
        self, store: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database = tmp_path / "new/mlflow.db"

        def power_cut(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(os, "link", power_cut)
            with pytest.raises(KeyboardInterrupt):
                Tracker(f"sqlite:///{database}", "study")
        assert not database.exists()
        assert Tracker(f"sqlite:///{database}", "study").client.search_experiments()
        assert [path.name for path in database.parent.iterdir()] == ["mlflow.db"]

    def test_a_store_that_cannot_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="cannot use the MLflow store") as caught:
            Tracker(f"sqlite:///{tmp_path}/file/mlflow.db", "study")
        assert "\n" not in str(caught.value)
