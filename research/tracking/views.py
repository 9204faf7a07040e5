"""A saved view of MLflow that compares the cells of a study."""

import json

from research.tracking.tracker import Tracker

STUDY = "study"
"""Tag of the runs of a study's cells."""
SEARCH = "search"
"""Tag of the trials of a study's search, which are not among its cells."""
PANELS = (
    "evaluation/length_mean",
    "evaluation/truncated",
    "objective/entropy_mean",
    "rewards/reward_mean",
    "cost/tokens_trained",
)
"""Metrics that are drawn besides the study's own."""


def compare_view(tracker: Tracker, study: str, metric: str) -> str:
    """Save a page with the learning curves of a study, averaged over the seeds of each cell.

    Args:
        tracker: holds the runs.
        study: value of the tag `STUDY` of its runs.
        metric: compared by the study; drawn first.

    Returns: the address of the page, or for a database only its path `/#/experiments/…`.
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
