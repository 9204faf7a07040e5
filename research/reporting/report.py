"""The report of a study: every number of it comes from the study's tables, every sentence from the numbers."""

from pathlib import Path

from research.reporting.analysis import Analysis, analyse
from research.reporting.figures import draw_all
from research.reporting.numbers import NONE, count, listed, number
from research.reporting.sentences import caption, findings
from research.reporting.tables import (
    COSTS,
    FINALS,
    counterparts_table,
    factors_table,
    main_table,
    means_table,
    runs_table,
    start_table,
)

FIGURES = {
    "curves": "Learning curves of the metric over steps.",
    "compute": "Learning curves of the metric over tokens sampled.",
    "final": "The metric at the last step.",
    "effects": "Paired gain of every comparison.",
    "panels": "What else moved during training; band from the lowest to the highest seed.",
}


def write_report(folder: Path) -> Path:
    """Write a study's report and figures, replacing earlier ones.

    Args:
        folder: the study's results: study.yaml and runs.csv, and where there are any curves.csv and provenance.csv.

    Returns: the path of folder/report.md; its figures lie in folder/figures.

    Raises: UserError if the folder, the study or its paper cannot be read.
    """
    analysis = analyse(folder)
    figures = draw_all(analysis, folder / "figures")
    sections = [
        _head(analysis),
        _missing(analysis),
        _main(analysis, figures),
        _factors(analysis),
        _start(analysis),
        _paper(analysis),
        _figures(figures),
        _means(analysis),
        _reproduce(analysis),
        "## Runs\n\n" + runs_table(analysis).markdown(),
    ]
    path = folder / "report.md"
    path.write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")
    return path


def _head(analysis: Analysis) -> str:
    study = analysis.results.study
    lines = [f"# {study.name}"]
    if study.question:
        lines.append(f"**Question.** {study.question}")
    lines.append(f"**What was found.** {findings(analysis)}")
    return "\n\n".join(lines)


def _missing(analysis: Analysis) -> str:
    study, missing = analysis.results.study, analysis.results.missing()
    total = len(study.cells) * len(study.seeds)
    if not missing:
        grid = f"{count(len(study.cells), 'cell')} × {count(len(study.seeds), 'seed')}"
        return f"The design's {count(total, 'run')} ({grid}) {'is' if total == 1 else 'are all'} complete."
    lines = [
        f"**{len(missing)} of the design's {count(total, 'run')} gave no result**, and no number below includes them:"
    ]
    return "\n".join([*lines, "", *(f"- `{run}`: {why}" for run, why in missing)])


def _main(analysis: Analysis, figures: dict[str, Path]) -> str:
    parts = ["## Result", main_table(analysis).markdown(), caption(analysis)]
    if analysis.paper:
        parts.append(
            "Verdict: *same direction* if our interval excludes 0 and our gain has the sign of the paper's, *opposite* "
            "if it has the other sign, *undecided* if our interval includes 0, *no counterpart* if the paper has no "
            "such pair of rows. The verdict compares signs only: sizes cannot be compared across models and budgets."
        )
    if "final" in figures:
        parts.append(_figure("final"))
    return "\n\n".join(parts)


def _factors(analysis: Analysis) -> str:
    table = factors_table(analysis)
    if table is None:
        return ""
    note = (
        "Each level against its factor's first level, averaged over the other factors; an interaction (×) is half of "
        "how much the one change alters the gain of the other. Only seeds whose cells are all complete count."
    )
    return f"## Main effects and interactions\n\n{table.markdown()}\n\n{note}"


def _start(analysis: Analysis) -> str:
    if not analysis.start.n:
        return "## Against the warm start\n\nThe runs hold no metric of the warm start, so nothing is compared with it."
    note = "*Yes* if the whole 95 % interval of the paired gain lies above 0; uncorrected for the number of rows."
    return f"## Against the warm start\n\n{start_table(analysis).markdown()}\n\n{note}"


def _paper(analysis: Analysis) -> str:
    paper, study = analysis.paper, analysis.results.study
    if paper is None:
        return ""
    seeds = f"{count(len(study.seeds), 'seed')} ({', '.join(map(str, study.seeds))})"
    protocol = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in study.protocol.items()) or "not recorded"
    steps = f"{count(study.steps, 'step')} a run" if study.steps is not None else "steps not recorded"
    ours = [("ours", study.scale or "not recorded"), ("steps", steps), ("evaluation", protocol), ("seeds", seeds)]
    lines = [
        "## The paper, and how this study differs from it",
        f"{paper.title}. {paper.source}. Metric: {paper.metric}; ours: {analysis.metric_name}.",
        "**Model, data and budget of this study are not the paper's**, so the two columns of numbers answer the same "
        "question at different scales, and neither confirms nor refutes the other's size.",
        "The paper:\n\n" + "\n".join(f"- {key}: {value}" for key, value in paper.setting.items()),
        "This study:\n\n" + "\n".join(f"- {'model, data, budget' if k == 'ours' else k}: {v}" for k, v in ours),
        _beside(analysis),
    ]
    if paper.flags:
        lines.append("Known conflicts and limits of the source:\n\n" + "\n".join(f"- {flag}" for flag in paper.flags))
    return "\n\n".join(line for line in lines if line)


def _beside(analysis: Analysis) -> str:
    """Which rows of the paper stand beside which comparisons, and which stand beside nothing."""
    paper = analysis.paper
    if paper is None:
        return ""
    used = {summary.paper.name for summary in analysis.summaries if summary.paper}
    used |= {row.name for effect in analysis.effects for row in effect.paper_rows or ()}
    rest = [f"{row.name} ({number(row.value, percent=False)})" for row in paper.rows if row.name not in used]
    table = counterparts_table(analysis)
    text = "No comparison of this study has a counterpart in the paper's table."
    if table:
        text = f"The paper's two rows beside each comparison, equal in all but the change:\n\n{table.markdown()}"
    return text + (f"\n\nRows of the paper without a counterpart here: {listed(rest)}." if rest else "")


def _figures(figures: dict[str, Path]) -> str:
    shown = [_figure(name) for name in ("curves", "compute", "effects", "panels") if name in figures]
    return "## Figures\n\n" + "\n\n".join(shown) if shown else ""


def _figure(name: str) -> str:
    return f"![{FIGURES[name]}](figures/{name}.png)"


def _means(analysis: Analysis) -> str:
    parts = []
    finals, costs = means_table(analysis, FINALS), means_table(analysis, COSTS)
    if finals:
        parts.append(f"## What else moved\n\nMean over complete runs at the last step.\n\n{finals.markdown()}")
    if costs:
        note = "Mean over complete runs, whole run. Cells are compared at equal steps: read a gain beside what it cost."
        parts.append(f"## Cost\n\n{note}\n\n{costs.markdown()}")
    return "\n\n".join(parts)


def _reproduce(analysis: Analysis) -> str:
    results, study = analysis.results, analysis.results.study
    commit = f"`{study.commit}`" if study.commit else NONE
    if study.dirty:
        commit += " **with uncommitted changes**: the commit alone does not give these numbers"
    facts = {
        "commit": commit,
        "created": study.created or NONE,
        "base": f"`{study.base}`" if study.base else NONE,
        "design": study.design or NONE,
        "seeds": ", ".join(map(str, study.seeds)),
        "versions and machine": ", ".join(f"{k} {v}" for k, v in study.environment.items()) or "not recorded",
    }
    if "versions" in results.provenance:
        recorded = sorted(set(results.provenance["versions"].dropna()))
        facts["package versions of the runs"] = "; ".join(recorded) or "not recorded"
    commits = sorted(set(results.provenance["commit"].dropna())) if "commit" in results.provenance else []
    if len(commits) > 1:
        facts["**the runs come from several commits**"] = ", ".join(f"`{one}`" for one in commits)
    if results.mixed_data():
        seeds = ", ".join(map(str, results.mixed_data()))
        facts["**the runs of one seed do not share their data hash**"] = f"seeds {seeds}; these are not fully paired"
    command = f"```\n{study.command}\n```\n\n" if study.command else ""
    return f"## How to reproduce\n\n{command}" + "\n".join(f"- {key}: {value}" for key, value in facts.items())
