"""A saved view of MLflow's pages: the cells of a study side by side, opened by its address."""

import json

from research.tracking.tracker import Tracker

STUDY = "study"
"""The tag by which the runs of a study's cells are found."""
SEARCH = "search"
"""The tag by which the trials of a study's search are found; they are not among the cells."""
PANELS = (
    "evaluation/length_mean",
    "evaluation/truncated",
    "objective/entropy_mean",
    "rewards/reward_mean",
    "cost/tokens_trained",
)
"""What is drawn beside the study's metric."""


def compare_view(tracker: Tracker, study: str, metric: str) -> str:
    """Save a page with the study's learning curves, averaged over the seeds of each cell.

    Args:
        tracker: where the runs are.
        study: value of the tag `STUDY` of its runs.
        metric: what the study compares; drawn first.

    Returns: the page's address behind the server's, as `/#/experiments/…`.
    """
    tracker.client.set_experiment_tag(
        tracker.experiment_id, f"mlflow.sharedViewState.{study}", json.dumps(_state(study, metric))
    )
    page = f"/#/experiments/{tracker.experiment_id}/runs?viewStateShareKey={study}&compareRunsMode=CHART"
    return tracker.uri.rstrip("/") + page if tracker.uri.startswith("http") else page


def _state(study: str, metric: str) -> dict[str, object]:
    section = "study"
    return {
        "searchFilter": f"tags.{STUDY} = '{study}'",
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": "cell"}]},
        "useGroupedValuesInCharts": True,
        "selectedColumns": ["params.`cell`", "params.`seed`", f"metrics.`{metric}`", "attributes.`Duration`"],
        "isAccordionReordered": True,
        "compareRunSections": [{"uuid": section, "name": "Study", "display": True, "isReordered": True}],
        "compareRunCharts": [
            *(_chart("LINE", name, section) for name in dict.fromkeys((metric, *PANELS))),
            _chart("BAR", metric, section),
        ],
    }


def _chart(kind: str, metric: str, section: str) -> dict[str, object]:
    lines = {"selectedMetricKeys": [metric], "xAxisKey": "step", "scaleType": "linear", "useGlobalLineSmoothing": True}
    return {
        "type": kind,
        "uuid": f"{kind}-{metric}",
        "metricSectionId": section,
        "metricKey": metric,
        "deleted": False,
        "isGenerated": False,
        **(lines if kind == "LINE" else {}),
    }
