"""The report of a study: every number of it comes from the study's tables, every sentence from the numbers."""

from collections.abc import Mapping
from pathlib import Path

from research.errors import UserError
from research.reporting.analysis.analysis import Analysis, analyse
from research.reporting.analysis.columns import COSTS, FINALS, TIMES
from research.reporting.document import Document, Figure, Section, title_anchor
from research.reporting.figures.draw import draw_all
from research.reporting.numbers import NONE, count
from research.reporting.pages.exports import write_tables
from research.reporting.pages.report import report_page
from research.reporting.sections.cautions import other_starts, unequal_data
from research.reporting.sections.conflicts import conflicts_section
from research.reporting.sections.costs import cost_tables
from research.reporting.sections.design import design_section
from research.reporting.sections.findings import caption, findings
from research.reporting.sections.items import items_section
from research.reporting.sections.learning import learning_tables
from research.reporting.sections.papers import beside, beside_title
from research.reporting.sections.setting import setting
from research.reporting.sections.tables import factors_table, main_table, means_table, start_table
from research.reporting.sections.trace import gains_table, runs_table

VERDICTS = (
    "Verdict: *same direction* if our interval excludes 0 and our gain has the sign of the paper's, *opposite* if it "
    "has the other sign, *undecided* if our interval includes 0, *no counterpart* if the paper has no such pair of "
    "rows. The verdict compares signs only: sizes cannot be compared across models and budgets."
)

_WRITTEN = ("figures", "tables", "report.md", "report.html")


def write_report(folder: Path, *, tracking: str | None = None) -> Path:
    """Write a study's report, as Markdown and as one HTML page, with its figures and tables, replacing earlier ones.

    Args:
        folder: the study's results: study.yaml and runs.csv, and where there are any curves.csv and provenance.csv.
        tracking: MLflow's address; the ids of runs lead to its pages if it is a server.

    Returns: the path of folder/report.md; beside it lie report.html, figures/ and tables/.

    Raises: UserError if the folder, the study or its paper cannot be read, or if a link in the folder leads elsewhere.
    """
    for name in _WRITTEN:
        if (folder / name).is_symlink():
            raise UserError(f"{folder / name} is a link, and a report replaces what lies there: delete the link")
    analysis = analyse(folder)
    server = tracking if tracking and tracking.startswith(("http://", "https://")) else None
    document = report(analysis, draw_all(analysis, folder / "figures"), server=server)
    write_tables(analysis, folder / "tables")
    path = folder / "report.md"
    path.write_text(document.markdown(), encoding="utf-8")
    path.with_suffix(".html").write_text(report_page(document), encoding="utf-8")
    return path


def report(analysis: Analysis, figures: Mapping[str, Figure], *, server: str | None = None) -> Document:
    """The report of a study, before it is Markdown or HTML.

    Args:
        analysis: the study.
        figures: name to figure.
        server: the address of the MLflow server that has the runs.
    """
    study = analysis.results.study
    lead = [f"**Question.** {study.question}"] if study.question else []
    lead += [f"**Not proven.** {study.unproven}"] if study.unproven else []
    sections = [
        _main(analysis, figures),
        items_section(analysis),
        _curves(analysis, figures),
        _factors(analysis, figures),
        _start(analysis),
        *(beside(analysis, paper) for paper in analysis.papers),
        conflicts_section(study, analysis.results.folder),
        design_section(study),
        _moved(analysis, figures),
        _costs(analysis, figures),
        _reproduce(analysis),
        _gains(analysis),
        _runs(analysis, server),
    ]
    return Document(
        title=study.name,
        lead=(*lead, f"**What was found.** {findings(analysis)}", *_ground(analysis)),
        sections=tuple(section for section in sections if section),
    )


def _ground(analysis: Analysis) -> list[str]:
    """Setting, missing runs and unequal data, a paragraph each."""
    said = f"**Setting.** {setting(analysis)}" if setting(analysis) else ""
    return [text for text in (said, _missing(analysis), unequal_data(analysis)) if text]


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


def _drawn(figures: Mapping[str, Figure], *names: str) -> tuple[Figure, ...]:
    return tuple(figures[name] for name in names if name in figures)


def _main(analysis: Analysis, figures: Mapping[str, Figure]) -> Section:
    notes = [caption(analysis), other_starts(analysis)]
    if analysis.paper:
        below = f"[below](#{title_anchor(beside_title(analysis.paper))})"
        rows = f"which of its rows stands beside which of ours is listed {below}"
        verdicts = f" {VERDICTS}" if analysis.effects else ""
        notes.append(f"The paper's column is {analysis.paper.metric}; {rows}.{verdicts}")
    shown = _drawn(figures, "final", "effects")
    return Section(title="Result", blocks=(main_table(analysis), *filter(None, notes), *shown))


def _curves(analysis: Analysis, figures: Mapping[str, Figure]) -> Section | None:
    blocks = (*_drawn(figures, "curves", "compute"), *learning_tables(analysis))
    return Section(title="Learning curves", blocks=blocks) if blocks else None


def _factors(analysis: Analysis, figures: Mapping[str, Figure]) -> Section | None:
    table = factors_table(analysis)
    if table is None:
        return None
    crossed = any(" × " in effect.name for effect in analysis.factors)
    note = (
        "Each level against its factor's first level, averaged over the other factors"
        + ("; an interaction (×) is half of how much the one change alters the gain of the other" * crossed)
        + ". Only seeds whose cells are all complete count. The "
        "pooled error is that of a regression on cells with the seeds as blocks: it has more degrees of freedom, and "
        "holds only if runs scatter alike in every cell and effects do not vary over seeds beyond that scatter."
    )
    shown = _drawn(figures, "factors", "interactions")
    return Section(title="Main effects and interactions", blocks=(table, note, *shown))


def _start(analysis: Analysis) -> Section:
    title = "Against the warm start"
    if not analysis.start.n:
        text = "The runs hold no metric of the warm start, so nothing is compared with it."
        return Section(title=title, blocks=(text,))
    note = "*Yes* if the whole 95 % interval of the paired gain lies above 0; uncorrected for the number of rows."
    note += " The gain is over the row's own warm start." * bool(other_starts(analysis))
    return Section(title=title, blocks=(start_table(analysis), note))


def _moved(analysis: Analysis, figures: Mapping[str, Figure]) -> Section | None:
    table = means_table(analysis, FINALS)
    blocks = ("Mean over complete runs at the last step.", table) if table else ()
    blocks += _drawn(figures, "panels")
    return Section(title="What else moved", blocks=blocks) if blocks else None


def _costs(analysis: Analysis, figures: Mapping[str, Figure]) -> Section | None:
    table = means_table(analysis, COSTS)
    if table is None:
        return None
    study = analysis.results.study
    held = "steps" if study.steps is not None else f"budgets ({study.budget})" if study.budget else "budgets"
    note = f"Mean over complete runs, whole run. The tables above compare cells at equal {held}."
    times = means_table(analysis, TIMES)
    went = ("Of these seconds:", times) if times else ()
    return Section(title="Cost", blocks=(note, table, *went, *_drawn(figures, "costs"), *cost_tables(analysis)))


def _reproduce(analysis: Analysis) -> Section:
    results, study = analysis.results, analysis.results.study
    commit = f"`{study.commit}`" if study.commit else NONE
    if study.dirty:
        commit += " **with uncommitted changes**: the commit alone does not give these numbers"
    facts = {
        "commit": commit,
        "base": f"`{study.base}`" if study.base else NONE,
        "design": study.design or NONE,
        "seeds": ", ".join(map(str, study.seeds)),
        "versions and machine": ", ".join(f"{k} {v}" for k, v in study.environment.items()) or "not recorded",
    }
    if "versions" in results.provenance:
        recorded = sorted(set(results.provenance["versions"].dropna()))
        known = {str(word) for item in study.environment.items() for word in item}
        if other := [versions for versions in recorded if not set(versions.split()) <= known]:
            facts["package versions of the runs"] = "; ".join(other)
    commits = sorted(set(results.provenance["commit"].dropna())) if "commit" in results.provenance else []
    if len(commits) == 1 and commits[0] != study.commit:
        facts["**commit of the runs**"] = f"`{commits[0]}`; the study's is that of its last start"
    if len(commits) > 1:
        facts["**the runs come from several commits**"] = ", ".join(f"`{one}`" for one in commits)
    command = (f"```\n{study.command}\n```",) if study.command else ()
    blocks = (*command, "\n".join(f"- {key}: {value}" for key, value in facts.items()))
    return Section(title="How to reproduce", blocks=blocks)


def _gains(analysis: Analysis) -> Section | None:
    table = gains_table(analysis)
    if table is None:
        return None
    unit = "percentage points" if analysis.percent else "the metric's unit"
    return Section(title="Gains by seed", blocks=(f"In {unit}; positive is better. Each leads to its run.", table))


def _runs(analysis: Analysis, server: str | None) -> Section:
    note = "The files of a run lie in `cells/<run>` of the folder in which the study ran; `research ui` shows MLflow's."
    return Section(title="Runs", blocks=(note, runs_table(analysis, server=server)))
