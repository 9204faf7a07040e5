"""One contract for every component of every slot; a new component is held to it by being defined."""

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from rich.console import Console
from torch import Tensor

import research
from research.catalogue import ComponentEntry, catalogue, discover, find, index_rows, other_rows, slots
from research.commands.components import component_page, component_table
from research.component import QUANTITIES, Component, Settings, apply
from research.credit import Credit
from research.objective import Clip, Gate
from research.types import UpdateBatch, length_mask

ENTRIES = discover()
GRADED = {"logprobs", "entropies", "ratio"}
"""The quantities that carry a gradient; everything else is constant in θ."""
N, G = 2, 3
LENGTHS = torch.tensor([2, 4, 1, 3, 4, 2])
DIMENSIONS = {"N": N, "G": G, "B": N * G, "T": int(LENGTHS.max()), "K": 2}


def parameters(entry: ComponentEntry) -> dict[str, Any]:
    """The annotation of each argument of the equation."""
    return {p.name: p.annotation for p in list(inspect.signature(entry.cls.__call__).parameters.values())[1:]}


def is_tensor(annotation: Any) -> bool:
    return getattr(annotation, "array_type", None) is Tensor


def shape(annotation: Any) -> tuple[int, ...]:
    return tuple(DIMENSIONS[dimension] for dimension in annotation.dim_str.split())


def quantity(name: str, annotation: Any, seed: int = 0) -> Tensor:
    """A plausible value of the quantity, in the shape that the equation's annotation states."""
    if name in ("mask", "lengths"):
        return length_mask(LENGTHS) if name == "mask" else LENGTHS.reshape(shape(annotation))
    unit = torch.rand(shape(annotation), generator=torch.Generator().manual_seed(seed + len(name)))
    if "bool" in annotation.dtypes:
        return unit < 0.4
    if name == "token_ids":
        return (4 * unit).long()
    if name in ("uniform", "covariance_rank", "entropy_coefficient"):
        return unit
    if name == "targets":
        return 1 + 4 * unit
    if name == "ratio" or name == "entropies":
        return 0.5 + unit
    return -3 * unit if name.endswith("logprobs") else 2 * unit - 1


def quantities(entry: ComponentEntry) -> dict[str, Tensor]:
    return {name: quantity(name, annotation) for name, annotation in parameters(entry).items()}


OF_TEXT = ("rewards.Verifier", "rewards.RewardFunction", "rewards.StepVerifier")
"""The slots whose equations read a prompt and a completion."""
ON_TENSORS = [entry for entry in ENTRIES if all(is_tensor(a) for a in parameters(entry).values())]
CREDIT = [entry for entry in ENTRIES if entry.stage == "credit"]
OBJECTIVE = [entry for entry in ENTRIES if entry.stage == "objective"]

every = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.class_path)
every_on_tensors = pytest.mark.parametrize("entry", ON_TENSORS, ids=lambda entry: entry.class_path)
every_credit = pytest.mark.parametrize("entry", CREDIT, ids=lambda entry: entry.class_path)
every_objective = pytest.mark.parametrize("entry", OBJECTIVE, ids=lambda entry: entry.class_path)


def test_every_stage_with_slots_has_components():
    assert {entry.stage for entry in ENTRIES} == {"rollouts", "rewards", "credit", "objective"}
    assert {entry.slot_cls for entry in ENTRIES} == set(slots())
    assert {entry.name for entry in CREDIT + OBJECTIVE} <= {entry.name for entry in ON_TENSORS}


def test_names_are_unique():
    names = [entry.name for entry in ENTRIES]
    assert sorted(names) == sorted(set(names))


def shared(cls: type) -> tuple[type, ...]:
    """The settings that a component shares with others, in the order of its bases."""
    return tuple(base for base in cls.__mro__ if issubclass(base, Settings) and not issubclass(base, Component))[:-1]


SHARED = {base for entry in ENTRIES for base in shared(entry.cls)}


# The declaration ------------------------------------------------------------------------------------------------------


@every
def test_is_a_frozen_keyword_only_dataclass_directly_below_its_slot(entry: ComponentEntry):
    assert entry.cls.__bases__[-1] is entry.slot_cls
    assert entry.cls.__mro__[1:] == (*shared(entry.cls), *entry.slot_cls.__mro__)
    assert entry.slot_cls.__bases__ == (Component,)
    assert "__dataclass_fields__" in vars(entry.cls)
    settings = entry.cls.__dataclass_params__  # pyright: ignore[reportAttributeAccessIssue]
    assert settings.frozen
    assert all(field.kw_only for field in dataclasses.fields(entry.cls))  # pyright: ignore[reportArgumentType]
    component = entry.example()
    for field in entry.fields:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(component, field.name, getattr(component, field.name))


def test_settings_that_components_share_are_fields_and_their_checks():
    assert SHARED
    for base in SHARED:
        assert "__dataclass_fields__" in vars(base)
        assert base.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
        assert all(field.kw_only for field in dataclasses.fields(base))  # pyright: ignore[reportArgumentType]
        assert inspect.getdoc(base) not in (None, inspect.getdoc(Settings))
        (declaration,) = ast.parse(inspect.getsource(base)).body
        assert isinstance(declaration, ast.ClassDef)
        for node in declaration.body:
            string = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            check = isinstance(node, ast.FunctionDef) and node.name == "__post_init__"
            assert string or check or isinstance(node, ast.AnnAssign), f"{base.__name__}: {ast.unparse(node)}"


@every
def test_slot_is_abstract_in_what_it_says_and_not_a_dataclass(entry: ComponentEntry):
    assert not dataclasses.is_dataclass(entry.slot_cls)
    assert inspect.getdoc(entry.slot_cls) not in (None, inspect.getdoc(Component))


@every
def test_equation_takes_keywords_that_are_quantities(entry: ComponentEntry):
    kinds = {p.kind for p in list(inspect.signature(entry.cls.__call__).parameters.values())[1:]}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}
    assert entry.cls.needs() == set(parameters(entry))
    assert entry.cls.needs() <= {*QUANTITIES, *(("prompt", "completion") if entry.slot in OF_TEXT else ())}


@every
def test_docstring_says_what_equation_source_and_example(entry: ComponentEntry):
    doc = inspect.getdoc(entry.cls) or ""
    assert entry.summary.endswith(".")
    assert entry.equation
    assert all(re.search(r"[=<>]", line) for line in entry.equation[:1])
    assert entry.source
    assert entry.examples
    for name in parameters(entry):
        assert re.search(rf"^    {name}: .+", doc, re.MULTILINE), f"Args: says nothing of {name}"
    assert "\nReturns: " in doc
    for cited in entry.source.split(";"):
        # Of a source that is a paper, the arXiv number; of one that is not, an address or a file.
        assert ("et al." not in cited) or re.search(r"arXiv:\d{4}\.\d{4,5}", cited), cited


@every
def test_every_setting_is_explained(entry: ComponentEntry):
    assert [field.name for field in entry.fields] == [
        field.name
        for field in dataclasses.fields(entry.cls)  # pyright: ignore[reportArgumentType]
    ]
    for field in entry.fields:
        assert field.doc, f"{entry.name}.{field.name} has no docstring"


@pytest.mark.parametrize("slot", slots(), ids=lambda slot: slot.__name__)
def test_siblings_share_no_setting_with_another_default(slot: type[Component]):
    """jsonargparse carries a same-named argument across a change of class."""
    defaults: dict[str, set[str | None]] = {}
    for entry in ENTRIES:
        if entry.slot_cls is slot:
            for field in entry.fields:
                defaults.setdefault(field.name, set()).add(field.default)
    assert {name: values for name, values in defaults.items() if len(values) > 1} == {}


def as_yaml(component: Component, entry: ComponentEntry) -> str:
    settings = {field.name: getattr(component, field.name) for field in entry.fields}
    return yaml.safe_dump({"component": {"class_path": entry.class_path, "init_args": settings}})


@every
def test_yaml_to_object_to_yaml(entry: ComponentEntry):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--component", type=entry.slot_cls, required=True)
    component = entry.example()
    written = as_yaml(component, entry)
    config = parser.parse_string(written)
    read = parser.instantiate_classes(config).component
    assert type(read) is entry.cls
    assert read == component
    assert as_yaml(read, entry) == written
    dumped = parser.dump(config)
    assert parser.instantiate_classes(parser.parse_string(dumped)).component == component


@every
def test_yaml_with_an_unknown_setting_is_refused(entry: ComponentEntry):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--component", type=entry.slot_cls, required=True)
    node = yaml.safe_load(as_yaml(entry.example(), entry))
    node["component"]["init_args"]["no_such_setting"] = 1
    with pytest.raises(Exception, match="no_such_setting"):
        parser.parse_string(yaml.safe_dump(node))


# The equation ---------------------------------------------------------------------------------------------------------


@every_on_tensors
def test_shape_and_type_of_what_it_returns(entry: ComponentEntry):
    value = apply(entry.example(), quantities(entry))
    assert value.shape == shape(inspect.signature(entry.cls.__call__).return_annotation)
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()


@every_on_tensors
def test_inputs_are_untouched(entry: ComponentEntry):
    inputs = quantities(entry)
    before = {name: value.clone() for name, value in inputs.items()}
    value = apply(entry.example(), inputs)
    value += 1  # nor does it hand an input back
    assert all(torch.equal(inputs[name], before[name]) for name in inputs)


@every_on_tensors
def test_same_inputs_same_value(entry: ComponentEntry):
    """No state, no random numbers."""
    component, inputs = entry.example(), quantities(entry)
    assert torch.equal(apply(component, inputs), apply(component, inputs))


@every_credit
def test_credit_is_zero_on_padding_and_float32_whatever_comes_in(entry: ComponentEntry):
    inputs = quantities(entry)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
        value = apply(entry.example(), cast)
        assert value.dtype == torch.float32
        assert torch.count_nonzero(value[~length_mask(LENGTHS)]) == 0


@every_objective
def test_objective_keeps_the_type_that_comes_in(entry: ComponentEntry):
    inputs = quantities(entry)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
        assert apply(entry.example(), cast).dtype == dtype


@every_objective
def test_gradient_reaches_its_own_row_only(entry: ComponentEntry):
    """So a row's gradient cannot depend on which rows share its micro-batch; and it is finite."""
    inputs = quantities(entry)
    leaves = {name: inputs[name].requires_grad_() for name in sorted(GRADED & set(inputs))}
    value = apply(entry.example(), inputs)
    if not value.requires_grad:
        assert entry.slot_cls is Gate or len(value.unique()) == 1  # constant in θ, or a null component
        return
    assert entry.slot_cls is not Gate
    assert leaves
    for row in range(len(value)):
        gradients = torch.autograd.grad(value[row].sum(), list(leaves.values()), retain_graph=True, allow_unused=True)
        for gradient in gradients:
            if gradient is not None:
                assert torch.isfinite(gradient).all()
                others = torch.arange(len(value)) != row
                assert torch.count_nonzero(gradient[others]) == 0


def credits() -> list[Credit]:
    """Every advantage with every aggregation, all weights at once, but for a second that reads the importance."""
    by_slot: Mapping[str, list[Component]] = {
        slot: [entry.example() for entry in CREDIT if entry.slot == f"credit.{slot}"]
        for slot in ("Advantage", "TokenWeight", "Aggregate")
    }
    importance = [weight for weight in by_slot["TokenWeight"] if "rollout_logprobs" in weight.needs()]
    weights = [weight for weight in by_slot["TokenWeight"] if weight not in importance[1:]]
    return [
        Credit(advantage=advantage, weights=weights, aggregate=aggregate, denominator="all")  # pyright: ignore[reportArgumentType]
        for advantage, aggregate in product(by_slot["Advantage"], by_slot["Aggregate"])
    ]


@pytest.mark.parametrize(
    "credit", credits(), ids=lambda c: f"{type(c.advantage).__name__}-{type(c.aggregate).__name__}"
)
def test_credit_has_no_gradient(credit: Credit):
    """Even when everything that comes in has one."""
    annotations = {name: a for entry in CREDIT for name, a in parameters(entry).items()}
    inputs = {name: quantity(name, annotation) for name, annotation in annotations.items()}
    for value in inputs.values():
        if value.is_floating_point():
            value.requires_grad_()
    batch = UpdateBatch(
        input_ids=torch.zeros(N * G, 1 + DIMENSIONS["T"], dtype=torch.long),
        prompt_lengths=torch.ones(N * G, dtype=torch.long),
        lengths=LENGTHS,
        quantities=inputs,
    )
    credited = credit(batch)
    for name in ("advantages", "weights", "coefficients"):
        assert not credited[name].requires_grad
        assert credited[name].dtype == torch.float32
        assert credited[name].shape == (N * G, DIMENSIONS["T"])


# The catalogue --------------------------------------------------------------------------------------------------------

README = (Path(research.__file__).parent / "README.md").read_text(encoding="utf-8")


@every
def test_index_of_the_readme_has_the_component_with_its_file_and_source(entry: ComponentEntry):
    (row,) = (row for row in index_rows() if row.startswith(f"| `{entry.name}` |"))
    assert entry.file in row
    assert all(number in row for number in entry.arxiv)
    assert row in README.splitlines()


def test_index_of_the_readme_has_nothing_else():
    listed = [line for line in README.splitlines() if re.match(r"\| `\w+` \| `\w+\.[\w.]+` \|", line)]
    assert listed == [*index_rows(), *other_rows()]


def test_files_of_the_index_exist():
    assert all((Path(research.__file__).parent / entry.file).is_file() for entry in catalogue())


def test_declaration_is_read_as_written():
    (entry,) = (entry for entry in ENTRIES if entry.cls is Clip)
    assert entry.slot == "objective.Surrogate"
    assert entry.class_path == "research.objective.Clip"
    assert entry.file == "objective/surrogate.py"
    assert entry.summary == "The clipped surrogate, with separate bounds."
    assert entry.equation == ("s(ρ, Â) = min( ρ Â, clip(ρ, 1 − ε_low, 1 + ε_high) Â )",)
    assert entry.arxiv == ("1707.06347", "2503.14476")
    assert entry.example() == Clip(eps_low=0.2, eps_high=0.28)
    assert [(field.name, field.type, field.default) for field in entry.fields] == [
        ("eps_low", "float", "0.2"),
        ("eps_high", "float", "0.2"),
    ]
    assert entry.fields[0].doc == "ε_low: how far a probability may fall, relative; in [0, 1)."


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.class_path)
def test_source_says_what_the_class_says(entry: ComponentEntry):
    """The class itself, imported, has the path, the docstring, and the constructor that were read from its source."""
    module, _, name = entry.class_path.rpartition(".")
    assert getattr(import_module(module), name) is entry.cls
    assert issubclass(entry.cls, entry.slot_cls)
    assert entry.declaration.doc == inspect.getdoc(entry.cls)
    parameters = list(inspect.signature(entry.cls).parameters.values())
    assert [field.name for field in entry.fields] == [p.name for p in parameters]
    for field, parameter in zip(entry.fields, parameters, strict=True):
        assert (field.default is None) == (parameter.default is inspect.Parameter.empty), field.name
        if field.default is not None and "factory" not in repr(parameter.default):
            assert eval(field.default, vars(import_module(entry.cls.__module__))) == parameter.default


def test_every_class_that_a_recipe_can_choose_is_in_the_catalogue():
    """Found in another way: by asking the imported classes."""
    bases = {entry.slot_cls for entry in catalogue()}
    names = {base.__name__ for base in bases}
    assert names >= {"Sampler", "Source", "Tool", "Route", "PromptSource", "Extraction", "Chat", "Filter", "Targets"}
    for base in bases:
        ours = {cls for cls in below(base) if cls.__module__.startswith("research.")}
        leaves = {cls for cls in ours if not ours & set(cls.__subclasses__())}  # other tests derive from some
        assert {entry.cls for entry in catalogue() if entry.slot_cls is base} == leaves


def below(cls: type) -> set[type]:
    return {one for direct in cls.__subclasses__() for one in {direct, *below(direct)}}


def test_table_prints_every_component_in_120_columns():
    console = Console(width=120, record=True, file=StringIO())
    console.print(component_table(catalogue()))
    printed = console.export_text()
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= 120
    words = set(printed.split())
    for entry in catalogue():
        assert {entry.name, *entry.sentence.split(), entry.place.paths[0]} <= words


def test_page_prints_a_component_whole():
    (entry,) = find("Clip")
    page = component_page(entry)
    for text in (entry.class_path, entry.summary, *entry.equation, entry.source, "model.objective.surrogate"):
        assert text in page
    for field in entry.fields:
        assert all(text in page for text in (field.name, field.type, str(field.default), field.doc))
    assert "tensor([[ 1.2800, -0.8000]])" in page
    assert find("research.objective.Clip") == [entry]


def test_a_component_of_ones_own_is_listed_and_not_executed(tmp_path: Path):
    lines = (
        "from dataclasses import dataclass",
        "import research.credit as credit",
        "raise RuntimeError('executed')",
        "@dataclass(frozen=True, kw_only=True)",
        "class Mine(credit.Advantage):",
        "    'What I try.'",
        "    scale: float = 1.0",
        "    'How much.'",
    )
    (tmp_path / "mytricks.py").write_text("\n".join(lines))
    (entry,) = (entry for entry in catalogue(tmp_path) if entry.own)
    assert (entry.class_path, entry.slot, entry.file) == ("mytricks.Mine", "credit.Advantage", "mytricks.py")
    assert [(field.written, field.doc) for field in entry.fields] == [("scale=1.0", "How much.")]
    assert "mytricks.py" in component_page(entry)
    assert not [entry for entry in catalogue() if entry.own]


def test_settings_of_a_base_come_first_with_their_docs(tmp_path: Path):
    lines = (
        "from dataclasses import dataclass, field",
        "from typing import ClassVar",
        "from research.credit import Advantage",
        "@dataclass(frozen=True, kw_only=True)",
        "class Bounds:",
        "    low: float = 0.2",
        "    'Below.'",
        "    kind: ClassVar[str] = 'x'",
        "    made: int = field(init=False, default=1)",
        "@dataclass(frozen=True, kw_only=True)",
        "class Mine(Bounds, Advantage):",
        "    'What I try.'",
        "    names: list[str] = field(default_factory=list)",
    )
    (tmp_path / "mytricks.py").write_text("\n".join(lines))
    (entry,) = (entry for entry in catalogue(tmp_path) if entry.own)
    assert [(field.written, field.doc) for field in entry.fields] == [("low=0.2", "Below."), ("names=[]", "")]


@pytest.mark.process
def test_nothing_heavy_is_imported_to_list_the_components():
    code = "import sys; from research.cli import main; main(['components']); main(['datasets'])\n"
    code += "print(sorted(set(sys.modules) & {'torch', 'lightning', 'transformers', 'numpy', 'research.credit'}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
