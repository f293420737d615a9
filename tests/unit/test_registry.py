"""How processors are found, described and given their options."""

import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from backhaul import Processor, processors
from backhaul.model.errors import InvalidOption, InvalidProcessor, UnknownProcessor
from backhaul.plugin import registry as registry_module
from backhaul.plugin.registry import find_processors

SHOUT = '''
    from backhaul import Lines, Processor

    class Shout(Processor):
        """Write every line in capitals."""

        name = "shout"
        reads = Lines()

        def process(self, record, ctx):
            return record.upper()
'''

PICKY = '''
    from __future__ import annotations
    from typing import Annotated, Literal
    from msgspec import Meta
    from backhaul import Processor, processors

    class Picky(Processor):
        """Take many options.

        And say more about it below.
        """

        name = "picky"

        class Options(Processor.Options, frozen=True):
            limit: Annotated[int, Meta(ge=1, le=9, description="How many.")]
            words: list[str] = []
            mode: Literal["fast", "slow"] = "fast"
            ratio: float = 0.5
            loud: bool = False
            mapping: dict[str, int] = {}

            def __post_init__(self):
                if self.loud and self.mode == "slow":
                    raise ValueError("Option 'loud' needs mode=fast.")

        def process(self, record, ctx):
            return record
'''

BUILT_IN = sorted(
    path.stem.replace("_", "-") for path in Path(processors.__file__).parent.glob("*.py") if path.stem != "__init__"
)
"""One file each, which bears the processor's name."""


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return tmp_path

    return write


def test_the_built_ins_are_found_without_a_folder(tmp_path):
    for registry in (find_processors(), find_processors(tmp_path), find_processors(tmp_path / "missing")):
        assert registry.names() == BUILT_IN
        assert registry.broken == ()


def test_a_file_in_the_users_folder_is_a_processor(folder):
    registry = find_processors(folder(shout=SHOUT, _notes="1 / 0"))
    assert registry.names() == sorted([*BUILT_IN, "shout"])
    assert registry.create("shout").process("a", None) == "A"
    assert registry.describe("shout").summary == "Write every line in capitals."


def test_a_file_may_hold_several_processors_and_their_base(folder):
    several = (
        SHOUT
        + """
    class _Base(Processor):
        def process(self, record, ctx):
            return record

    class One(_Base):
        name = "one"

    class Two(_Base):
        name = "two"
    """
    )
    assert find_processors(folder(several=several)).names() == sorted([*BUILT_IN, "one", "shout", "two"])


def test_two_folders_with_the_same_file_name_do_not_mix(tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/same.py").write_text(textwrap.dedent(PICKY).replace("le=9", f"le={number}"))
    first, second = find_processors(tmp_path / "1"), find_processors(tmp_path / "2")
    with pytest.raises(InvalidOption, match="<= 1"):
        first.create("picky", {"limit": 3})
    with pytest.raises(InvalidOption, match="<= 2"):
        second.create("picky", {"limit": 3})


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ('name = "broken"\nx = (\n', 2, "SyntaxError"),
        ('name = "broken"\n\n1 / 0\n', 3, "ZeroDivisionError: division by zero"),
        ('name: str = "broken"\nimport no_such_module\n', 2, "No module named 'no_such_module'"),
        ("name = 'broken'\nraise SystemExit(3)\n", 2, "SystemExit: 3"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_hides_no_other(folder, source, line, said):
    registry = find_processors(folder(wrong=source, shout=SHOUT))
    assert registry.names() == sorted([*BUILT_IN, "shout"])
    with pytest.raises(InvalidProcessor, match=rf"wrong\.py, line {line}: .*{said}"):
        registry.get("broken")
    assert [each.place for each in registry.broken] == [f"{folder()}/wrong.py, line {line}"]
    with pytest.raises(UnknownProcessor, match=rf"no processor 'typo'\. Use one of: {', '.join(registry.names())}"):
        registry.get("typo")


def test_the_line_is_named_wherever_the_folder_is_looked_for(folder, monkeypatch):
    monkeypatch.chdir(folder(syntax="x = 1\ny = (\n", runs="x = 1\n\n1 / 0\n"))
    runs, syntax = find_processors(Path()).broken
    assert (runs.place, runs.problem) == ("runs.py, line 3", "ZeroDivisionError: division by zero")
    assert (syntax.place, syntax.problem) == ("syntax.py, line 2", "SyntaxError: '(' was never closed")


def test_a_syntax_error_in_what_a_file_imports_is_named_with_its_own_place(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder(_part="x = 1\n\ny = (\n", whole="import os\nimport _part\n"))
    (broken,) = find_processors(folder()).broken
    assert broken.place == f"{folder()}/whole.py, line 2"
    assert broken.problem == "SyntaxError: '(' was never closed (_part.py, line 3)"


def test_what_an_editor_leaves_beside_a_file_is_no_processor(folder):
    (folder(shout=SHOUT) / ".#shout.py").symlink_to("nobody@nowhere")
    assert find_processors(folder()).broken == ()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("pass", "Give it a name"),
        ('name = "Upper"', "Give it a name"),
        ("name = 3", "Give it a name"),
        ('name = "x"', "Override process or process_chunk"),
        ('name = "x"; process = print; reads = Lines', "with its parentheses"),
        ('name = "x"; process = print; reads = 3', "with its parentheses"),
        ('name = "x"; process = print; Options = dict', "must subclass Processor.Options"),
    ],
)
def test_a_class_that_breaks_the_contract_is_named_with_its_line(folder, body, said):
    source = f"from backhaul import Lines, Processor\n\nclass Wrong(Processor):\n    {body}\n"
    (broken,) = find_processors(folder(wrong=source)).broken
    with pytest.raises(InvalidProcessor, match=rf"wrong\.py, line 3, class Wrong: .*{said}"):
        raise broken.error()


def test_of_two_processors_with_one_name_neither_is_used_and_both_are_named(folder):
    registry = find_processors(folder(one=SHOUT, two=SHOUT))
    assert registry.names() == BUILT_IN
    with pytest.raises(
        InvalidProcessor, match=r"two\.py, line 4, class Shout: .*one\.py, line 4, class Shout is called"
    ):
        registry.create("shout")


def test_installed_packages_offer_processors_as_entry_points(monkeypatch):
    class Installed(Processor):
        name = "installed"
        process = print

    monkeypatch.setattr(EntryPoint, "load", lambda entry: {"good": Installed, "bad": print}.get(entry.value) or 1 / 0)
    entries = [EntryPoint(name, value, "backhaul.processors") for name, value in
               [("installed", "good"), ("no-class", "bad"), ("crashes", "worse")]]  # fmt: skip
    monkeypatch.setattr(registry_module, "entry_points", lambda **_: entries)
    registry = find_processors()
    assert registry.get("installed") is Installed
    with pytest.raises(InvalidProcessor, match="entry point no-class = bad: It is not a subclass of Processor"):
        registry.get("no-class")
    with pytest.raises(InvalidProcessor, match="entry point crashes = worse: ZeroDivisionError"):
        registry.get("crashes")


def test_a_description_lists_every_option_with_its_limits(folder):
    description = find_processors(folder(picky=PICKY)).describe("picky")
    assert description.summary == "Take many options."
    options = {option.name: option for option in description.options}
    assert list(options) == ["limit", "words", "mode", "ratio", "loud", "mapping", "chunk_bytes"]
    limit = options["limit"]
    assert (limit.type, limit.required, limit.description) == ("integer", True, "How many.")
    assert limit.limits == "at least 1, at most 9"
    assert (options["chunk_bytes"].type, options["chunk_bytes"].default) == ("integer", None)
    assert options["chunk_bytes"].description.startswith("Nominal chunk size")
    assert options["chunk_bytes"].limits == "at least 1, at most 67108864"
    assert options["words"].type == "list of string"
    assert (options["mode"].type, options["mode"].default) == ("one of fast, slow", "fast")
    assert options["mapping"].type == "mapping of name to integer"


@pytest.mark.parametrize(
    "given",
    [
        {"limit": 3, "words": ["a", "b"], "ratio": 0.25, "loud": True, "mapping": {"x": 1}, "chunk_bytes": 1000},
        {"limit": "3", "words": "a,b", "ratio": "0.25", "loud": "true", "mapping": '{"x": 1}', "chunk_bytes": "1000"},
        {"limit": "3", "words": '["a", "b"]', "ratio": "0.25", "loud": "1", "mapping": {"x": "1"}, "chunk_bytes": 1000},
    ],
)
def test_options_may_be_given_as_text(folder, given):
    options = find_processors(folder(picky=PICKY)).create("picky", given).options
    assert (options.limit, options.words, options.ratio, options.loud) == (3, ["a", "b"], 0.25, True)
    assert (options.mapping, options.chunk_bytes) == ({"x": 1}, 1000)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"limit": 1, "speed": 3}, "picky has no option 'speed'"),
        ({}, "Option 'limit' must be set"),
        ({"limit": 0}, "Option 'limit' is not valid: .*>= 1"),
        ({"limit": "many"}, "Option 'limit' is not valid: .*int"),
        ({"limit": 1, "mode": "medium"}, "Option 'mode' is not valid: .*'medium'"),
        ({"limit": 1, "mapping": "{oops"}, "Option 'mapping' is not valid"),
        ({"limit": 1, "mapping": "oops"}, "Option 'mapping' is not valid"),
        ({"limit": 1, "chunk_bytes": 0}, "Option 'chunk_bytes' is not valid"),
        ({"limit": 1, "loud": True, "mode": "slow"}, "Option 'loud' needs mode=fast"),
    ],
)
def test_a_wrong_option_is_named_with_the_problem_and_the_known_options(folder, given, said):
    with pytest.raises(
        InvalidOption, match=rf"{said}.*Options of picky: limit, words, mode, ratio, loud, mapping, chunk_bytes"
    ):
        find_processors(folder(picky=PICKY)).create("picky", given)
