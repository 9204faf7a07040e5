"""The flow is one way: stages meet in the nouns, never in each other. Read from the source, so lazy imports count."""

import ast
from pathlib import Path

import pytest

import research

PACKAGE = Path(research.__file__).parent
STAGES = {"prompts", "rollouts", "rewards", "policy", "credit", "objective"}
SHARED = {
    "research.types",
    "research.component",
    "research.errors",
    "research.seeding",
    "research.calculator",
    "research.lazy",
}
FRAMEWORKS = {"lightning", "pytorch_lightning", "mlflow", "optuna", "transformers", "vllm"}
FILES = sorted(path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.py"))


def imported(module: str, source: str, is_package: bool = False) -> set[str]:
    """The absolute names that the source of `module` imports, `from a import b` as `a.b`, functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if is_package else module.split(".")[:-1]
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            names |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return names


def within(name: str, parents: set[str]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def refused(module: str, names: set[str]) -> set[str]:
    """Which of the imported names this module may not import."""
    stage = module.split(".")[1] if module.count(".") else ""
    wrong = set() if stage == "rollouts" else {name for name in names if within(name, {"vllm"})}
    if stage in STAGES:
        allowed = SHARED | {f"research.{stage}"}
        wrong |= {name for name in names if within(name, {"research"}) and not within(name, allowed)}
    if stage in ("credit", "objective") or module in SHARED:
        wrong |= {name for name in names if within(name, FRAMEWORKS)}
    return wrong


@pytest.mark.parametrize("file", FILES)
def test_module_imports_nothing_that_its_place_forbids(file: str):
    path = PACKAGE.parent / file
    parts = Path(file).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    assert refused(module, imported(module, path.read_text(encoding="utf-8"), is_package)) == set()


def test_every_stage_has_a_folder():
    assert {file.split("/")[1] for file in FILES} >= STAGES


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        pytest.param("research.credit.a", "from research.types import Prompt", set(), id="nouns are shared"),
        pytest.param("research.credit.a", "from research.credit.b import c", set(), id="own stage"),
        pytest.param("research.credit.a", "from .b import c", set(), id="own stage, relative"),
        pytest.param("research.rollouts.a", "import vllm", set(), id="vllm in rollouts"),
        pytest.param("research.training.a", "from research import credit", set(), id="training sees every stage"),
        pytest.param("research.credit.a", "import research.objective", {"research.objective"}, id="another stage"),
        pytest.param("research.credit.a", "from research import rewards", {"research.rewards"}, id="from the root"),
        pytest.param("research.credit.a", "from ..rewards import b", {"research.rewards.b"}, id="relative"),
        pytest.param("research.rewards.a", "import research.training.b", {"research.training.b"}, id="training"),
        pytest.param("research.policy.a", "def f():\n    import vllm.x", {"vllm.x"}, id="vllm, lazily"),
        pytest.param("research.policy.a", "importlib.import_module('vllm')", {"vllm"}, id="vllm, by name"),
        pytest.param("research.objective.a", "import mlflow", {"mlflow"}, id="a framework"),
        pytest.param("research.types", "import lightning.pytorch", {"lightning.pytorch"}, id="through the nouns"),
    ],
)
def test_the_rule_itself(module: str, source: str, expected: set[str]):
    assert refused(module, imported(module, source)) == expected
