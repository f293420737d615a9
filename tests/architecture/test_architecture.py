"""The rules of the house, as tests."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import backhaul

PROJECT = Path(__file__).resolve().parents[2]
MAX_MODULE_LINES = 400
STAGES = {path.stem for path in (PROJECT / "backhaul/stages").glob("*.py")} - {"__init__"}
_FOLDERS = ("backhaul", "lambdas", "prove", "stacks")
SOURCES = sorted(path for folder in _FOLDERS for path in (PROJECT / folder).rglob("*.py"))


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
    folders = ("stages", "flow", "guards", "reading", "processors")
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


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_is_no_longer_than_one_can_read_at_once(path):
    assert len(path.read_text().splitlines()) <= MAX_MODULE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_says_what_it_is_for(path):
    source = path.read_text()
    assert not source.strip() or ast.get_docstring(ast.parse(source))
