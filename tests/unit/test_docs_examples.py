"""The processors shown in the documents work as shown, and no option goes undocumented."""

import io
import re
from pathlib import Path

import pytest

from backhaul.registry import find_processors
from backhaul.trial import trial
from tests.sources import MemorySource

PROJECT = Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGE = (PROJECT / "docs/processors.md").read_text()
DOCUMENTS = [path for path in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))) if path.exists()]


def examples():
    for path in DOCUMENTS:
        for number, code in enumerate(FENCED.findall(path.read_text())):
            if "(Processor)" in code:
                yield pytest.param(code, id=f"{path.stem}-{number}")


@pytest.fixture
def page(tmp_path):
    for number, code in enumerate(FENCED.findall(PAGE)):
        (tmp_path / f"example_{number}.py").write_text(code)
    return find_processors(tmp_path)


def run(registry, name, data, **options):
    output = io.BytesIO()
    result = trial(lambda: registry.create(name, {"chunk_bytes": 7, **options}), MemorySource(data), output)
    return output.getvalue(), result.tallies


@pytest.mark.parametrize("code", list(examples()))
def test_every_example_is_found_as_a_processor(code, tmp_path):
    (tmp_path / "example.py").write_text(code)
    registry = find_processors(tmp_path)
    assert registry.broken == ()
    assert len(registry.names()) == len(find_processors().names()) + code.count("(Processor)")


def test_the_smallest_example_maps_lines(page):
    assert run(page, "shout", "a\r\né".encode()) == ("A\r\nÉ".encode(), {})


def test_the_reducing_example_counts(page):
    data = b'{"level":"error","service":"b"}\n{"level":"info","service":"b"}\n{"level":"error","service":"a"}\n'
    assert run(page, "errors-by-service", data * 2)[0] == b'{"a": 2, "b": 2}\n'


def test_the_csv_example_filters(page):
    data = b'customer,amount\n"Doe, Jane",1500\nRoe,12.5\n'
    assert run(page, "large-orders", data) == (b'{"customer":"Doe, Jane","amount":1500.0}\n', {"small orders": 1})


def test_the_example_with_options_takes_them(page):
    assert run(page, "shorten", b"abc\nx", width="2")[0] == b"ab\nx"
    assert run(page, "shorten", b"abc\nx", width=2, keep="end")[0] == b"bc\nx"


@pytest.mark.parametrize("name", find_processors().names())
def test_every_built_in_and_its_options_are_documented(name):
    assert f"\n## {name}\n" in PAGE
    section = PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    own = [option.name for option in find_processors().describe(name).options if option.name != "chunk_bytes"]
    assert [option for option in own if f"`{option}`" not in section] == []
    assert "`chunk_bytes`" in PAGE
