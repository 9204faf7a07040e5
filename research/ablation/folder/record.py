"""A planned study as the record that its results folder keeps."""

import platform
from pathlib import Path
from shutil import copyfile

from research.ablation.folder.study_file import PAPERS, Study
from research.ablation.plan import Plan
from research.ablation.search_places import FOUND
from research.provenance import code, cpu_name, versions
from research.yaml_file import read_yaml


def study_of(plan: Plan, command: str) -> Study:
    """The study that a plan runs.

    Args:
        plan: the checked plan.
        command: how it was started.
    """
    spec, config = plan.spec, plan.runs[0].recipe.config
    evaluation, metric = config["model"]["evaluation"], spec.metric
    return Study(
        name=spec.name,
        question=spec.question,
        command=command,
        commit=code().commit,
        dirty=code().dirty,
        design=spec.design,
        options=spec.options,
        base=spec.base,
        hold={**spec.hold, **(spec.overlay.nodes if spec.overlay else {})},
        seeds=tuple(spec.seeds),
        metric=metric["name"],
        direction=metric["direction"],
        threshold=metric.get("threshold"),
        papers=tuple(_from_root(spec.resolved(paper)) for paper in spec.papers),
        scale=spec.scale,
        overlay=spec.overlay.path if spec.overlay else None,
        left_out=tuple(spec.left_out),
        steps=plan.steps,
        budget=str(plan.budget),
        protocol={
            **{key: evaluation[key] for key in ("completions_per_prompt", "temperature", "top_p")},
            "items": config["data"]["evaluation"].get("init_args", {}).get("size"),
        },
        environment={
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu": cpu_name(),
            **versions(),
        },
        factors=spec.factors,
        cells=tuple(plan.cells),
        comparisons=tuple((one.cell, one.reference) for one in plan.comparisons),
        guarantees=tuple(plan.guarantees),
        unproven=plan.unproven,
        search=read_yaml(plan.folder / FOUND) if spec.found else {},
        aliases=plan.aliases.record if plan.aliases else {},
    )


def copy_papers(plan: Plan) -> None:
    """Copy the papers' tables into the results folder, so that it gives its report wherever it lies."""
    for paper in plan.spec.papers:
        path = plan.spec.resolved(paper.partition("#")[0])
        (plan.folder / PAPERS).mkdir(exist_ok=True)
        copyfile(path, plan.folder / PAPERS / path.name)


def _from_root(path: Path) -> str:
    for parent in path.parents:
        if (parent / "pyproject.toml").exists():
            return str(path.relative_to(parent))
    return str(path)
