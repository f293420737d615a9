"""The rules of the house, as tests."""

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import backhaul

PROJECT = Path(__file__).resolve().parents[2]
LONG_MODULE_LINES = 260
"""A module that is longer is worth a second look."""
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50
"""A docstring not counted: it is read instead of the function."""
MAX_ROOT_MODULES = 8
STAGES = {path.stem for path in (PROJECT / "backhaul/stages").glob("*.py")} - {"__init__"}
_FOLDERS = ("backhaul", "lambdas", "prove", "stacks")
SOURCES = sorted(path for folder in _FOLDERS for path in (PROJECT / folder).rglob("*.py"))
SCRIPTS = sorted((PROJECT / "scripts").rglob("*.py"))
TESTS = sorted((PROJECT / "tests").rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(sources: list[Path], forbidden: str) -> list[str]:
    pattern = re.compile(forbidden)
    return [f"{name_of(path)} imports {name}" for path in sources for name in imports_of(path) if pattern.match(name)]


def below(folder: str) -> list[Path]:
    return [path for path in SOURCES if path.is_relative_to(PROJECT / folder)]


def test_there_is_something_to_check():
    assert len(SOURCES) > 50
    assert {"submit", "dispatch", "plan", "process", "merge", "announce"} <= STAGES


def test_backhaul_imports_neither_stacks_nor_lambdas_nor_what_only_they_need():
    assert not offenders(below("backhaul"), r"(stacks|lambdas|aws_cdk|constructs|aws_lambda_powertools)\b")


def test_lambdas_and_stacks_do_not_import_each_other():
    assert not offenders(below("lambdas"), r"(stacks|aws_cdk|constructs)\b")
    assert not offenders(below("stacks"), r"(lambdas|aws_lambda_powertools)\b")


def test_a_stage_imports_no_other_stage():
    stages = below("backhaul/stages")
    assert not [found for found in offenders(stages, r"backhaul\.stages\b") if "backhaul.stages imports" not in found]


def test_only_the_store_talks_to_aws_for_the_stages():
    folders = ("model", "plugin", "stages", "worker", "admission", "paid", "estimate", "reading", "processors")
    core = [path for folder in folders for path in below(f"backhaul/{folder}")]
    assert not offenders(core, r"(boto3|botocore)\b")
    assert not offenders(below("lambdas"), r"(boto3|botocore)\b")


def test_the_built_in_processors_use_only_what_a_plug_in_may():
    allowed = {"backhaul", *(f"backhaul.{name}" for name in backhaul.__all__)}
    found = [name for path in below("backhaul/processors") for name in imports_of(path) if name.startswith("backhaul")]
    assert found
    assert not set(found) - allowed


def test_every_stage_has_its_function_and_every_function_its_stage():
    shared = {"__init__", "runtime", "http"}
    assert {path.stem for path in (PROJECT / "lambdas").glob("*.py")} - shared == STAGES


def test_nothing_knows_of_the_emulator_but_the_local_cloud():
    own = PROJECT / "backhaul/local"
    naming = [path for path in SOURCES if "ministack" in path.read_text().lower() and not path.is_relative_to(own)]
    assert not naming


@pytest.mark.filterwarnings("default:.*is worth a second look")
@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_is_no_longer_than_one_can_read_at_once(path):
    lines = len(path.read_text().splitlines())
    if lines > LONG_MODULE_LINES:
        warnings.warn(f"{name_of(path)} has {lines} lines: is worth a second look", stacklevel=1)
    assert lines <= MAX_MODULE_LINES


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    docstring = 0 if ast.get_docstring(function) is None else (first.end_lineno or 0) - first.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def functions_in(source: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_the_lines_of_a_function_are_its_signature_and_body_without_the_docstring():
    (function,) = functions_in('def f(\n    a,\n):\n    """Return.\n\n    It.\n    """\n    return a\n')
    assert lines_of(function) == 4


@pytest.mark.parametrize("path", [*SOURCES, *SCRIPTS], ids=name_of)
def test_a_function_is_no_longer_than_one_screen(path):
    found = [(each.name, lines_of(each)) for each in functions_in(path.read_text())]
    assert not [(name, lines) for name, lines in found if lines > MAX_FUNCTION_LINES]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_says_what_it_is_for(path):
    source = path.read_text()
    assert not source.strip() or ast.get_docstring(ast.parse(source))


def imported_modules(folder: str) -> dict[str, set[str]]:
    """Return for each module of a folder which others of it the module imports, type checking included."""
    modules = {name_of(path): path for path in below(folder)}
    found = {name: set(imports_of(path)) & modules.keys() - {name} for name, path in modules.items()}
    # `from package import module` names the package too; that is no use of what the package itself defines.
    return {
        name: {each for each in used if not any(other.startswith(f"{each}.") for other in used)}
        for name, used in found.items()
    }


def circle_in(arrows: Mapping[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("folder", ["backhaul", "lambdas", "prove", "stacks"])
def test_no_two_modules_import_each_other_however_many_stand_between(folder):
    arrows = imported_modules(folder)
    assert sum(map(len, arrows.values()))
    assert not circle_in(arrows)


def test_no_two_packages_import_each_other_however_many_stand_between():
    def package(name: str) -> str:
        return ".".join(name.split(".")[:2])

    arrows: dict[str, set[str]] = {}
    for name, used in imported_modules("backhaul").items():
        arrows.setdefault(package(name), set()).update(map(package, used))
    for name, used in arrows.items():
        used.discard(name)
    assert len(arrows) > 10
    assert not circle_in(arrows)


def test_the_layout_that_is_drawn_is_the_layout_and_its_order_that_of_the_imports():
    page = (PROJECT / "docs/architecture.md").read_text()
    drawn = re.findall(r"(?m)^  (\w+)/ ", page.split("## Layout")[1].split("## ")[0])
    assert sorted(drawn) == sorted(path.parent.name for path in (PROJECT / "backhaul").glob("*/__init__.py"))
    rank = {f"backhaul.{name}": place for place, name in enumerate(drawn)}
    for name, used in imported_modules("backhaul").items():
        own = rank.get(".".join(name.split(".")[:2]), len(rank))
        assert not [each for each in used if rank.get(".".join(each.split(".")[:2]), 0) > own], name


def test_a_circle_is_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})


def test_few_modules_lie_at_the_root():
    assert len(list((PROJECT / "backhaul").glob("*.py"))) <= MAX_ROOT_MODULES


FORMER = re.compile(
    r"desk|Desk|became|Became|purse|[Cc]rew|turns|Turns|[Gg]o|under_way|UnderWay|shared_time|SharedTime|told_apart"
    r"|[Mm]ender|Watch|redoing|Left|LetterBox|letters?|glance|StageSettings|StayAway|\w+_(MOST|LONGEST|LARGEST)"
)
"""Names of former times, each of which had to be explained; docs/architecture.md has what each thing is called."""


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_nothing_bears_a_name_that_had_to_be_explained(path):
    tree = ast.parse(path.read_text())
    defined = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assigned = [
        target.id
        for node in tree.body
        for target in getattr(node, "targets", [getattr(node, "target", None)])
        if isinstance(target, ast.Name)
    ]
    fields = [
        each.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    ]
    fields += [
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    ]
    assert not [name for name in (path.stem, *defined, *assigned, *fields) if FORMER.fullmatch(name.lstrip("_"))]
