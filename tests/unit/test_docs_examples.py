"""The processors shown in the documents work as shown, and no option goes undocumented."""

import io
import json
import re
import shlex
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import typer

from backhaul import Answer, Usage
from backhaul.cli.app import app
from backhaul.model.errors import Permanent
from backhaul.model.transience import is_transient
from backhaul.plugin.journal import NoJournal
from backhaul.plugin.registry import find_processors
from backhaul.trial.trial import trial
from tests.sources import MemorySource

PROJECT = Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:    )?(backhaul .+)$", re.MULTILINE)
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


ENTRIES = b'{"text":"cat"}\n{"text":"dog"}\n'


@pytest.fixture
def api(monkeypatch):
    """The paid API of the example: answers, or does what a test puts into `trouble`."""
    asked, trouble = [], []

    def open_url(request, timeout):
        assert (request.full_url, timeout) == ("https://api.example/", 30)
        text = json.loads(request.data)["text"]
        asked.append(text)
        if trouble:
            raise trouble[0]
        return io.BytesIO(json.dumps({"text": text.upper(), "paid": len(text)}).encode())

    monkeypatch.setattr("urllib.request.urlopen", open_url)
    return asked, trouble


def translated(page):
    return run(page, "translate", ENTRIES, url="https://api.example/")


def test_the_example_with_a_paid_api_asks_once_for_each_entry(page, api):
    output = b'{"text":"cat","translation":"CAT"}\n{"text":"dog","translation":"DOG"}\n'
    assert translated(page) == (output, {"characters paid": 6})
    assert api[0] == ["cat", "dog"]


@pytest.mark.parametrize(("status", "expected"), [(429, True), (503, True), (400, False), (402, False)])
def test_the_example_with_a_paid_api_tells_what_may_pass_from_what_will_not(page, api, status, expected):
    api[1].append(HTTPError("https://api.example/", status, "no", Message(), None))
    with pytest.raises(Exception) as raised:  # noqa: PT011  # which one is the point
        translated(page)
    assert is_transient(raised.value) is expected
    assert isinstance(raised.value, Permanent) is (status == 402)


def test_the_example_with_a_paid_api_tries_again_without_a_connection(page, api):
    api[1].append(URLError(ConnectionRefusedError("refused")))
    with pytest.raises(URLError, match="refused") as raised:
        translated(page)
    assert is_transient(raised.value)


class Scorer(NoJournal):
    """The paid API of the example with groups: scores texts by their length, 25 at a time."""

    def __init__(self):
        self.asked = []

    def ask(self, step, provider, request, estimate):
        assert (provider, request.path) == ("scorer", "/score")
        self.asked.append(len(request.body["texts"]))
        return Answer({"scores": [len(text) for text in request.body["texts"]]}, Usage(1))


def test_the_example_with_groups_asks_about_25_at_a_time(page):
    scorer, output, texts = Scorer(), io.BytesIO(), ["x" * number for number in range(51)]
    source = MemorySource("".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    trial(lambda: page.create("score", {"concurrency": 1}), source, output, journal=scorer)
    assert [json.loads(line) for line in output.getvalue().splitlines()] == [
        {"text": text, "score": len(text)} for text in texts
    ]
    assert scorer.asked == [25, 25, 1]


def test_the_example_with_checkpoints_counts_on(page):
    assert run(page, "running-total", b"1\n2\n3\n", chunk_bytes=100)[0] == b"1 1\n2 3\n3 6\n"


def commands():
    for path in DOCUMENTS:
        for line in COMMAND.findall(path.read_text().replace("\\\n", " ")):
            line = line.partition(" > ")[0]  # what follows is the shell's
            words = shlex.split(line.replace("…", "example"), comments=True)
            if words[1:] and not words[1].startswith("-") and "[-" not in line:  # a synopsis is no command line
                yield pytest.param(words[1:], id=f"{path.stem}: {' '.join(words)}")


def test_there_are_commands_to_check():
    assert {"submit", "redrive", "cancel", "result", "status", "try"} <= {each.values[0][0] for each in commands()}


@pytest.mark.parametrize("words", list(commands()))
def test_every_command_line_of_the_documents_is_one(words):
    command, words = typer.main.get_command(app), list(words)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)


@pytest.mark.parametrize("name", find_processors().names())
def test_every_built_in_and_its_options_are_documented(name):
    assert f"\n## {name}\n" in PAGE
    section = PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    own = [option.name for option in find_processors().describe(name).options if option.name != "chunk_bytes"]
    assert [option for option in own if f"`{option}`" not in section] == []
    assert "`chunk_bytes`" in PAGE
