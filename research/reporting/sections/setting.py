"""Setting of a study in one line."""

from research.reporting.analysis.analysis import Analysis
from research.reporting.numbers import count


def setting(analysis: Analysis) -> str:
    """Model, data, budget, evaluation and seeds of the study, as far as they are recorded, and what its metric is."""
    study = analysis.results.study
    steps = count(study.steps, "step") if study.steps else ""
    scale = study.scale or ", ".join(filter(None, (steps, study.budget)))
    protocol = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in study.protocol.items())
    seeds = f"{count(len(study.seeds), 'seed')} ({', '.join(map(str, study.seeds))})"
    parts = [scale, f"evaluation: {protocol}" if protocol else "", seeds]
    text = "; ".join(part for part in parts if part)
    return f"{text[:1].upper()}{text[1:]}. {_metric(analysis)}".strip()


def _metric(analysis: Analysis) -> str:
    """Definition of the metric; empty if its name says it."""
    if "avg@" not in analysis.metric_name:
        return ""
    k = analysis.metric_name.removeprefix("avg@")
    return f"{analysis.metric_name} is the share of right completions among {k} sampled for each prompt."
