"""The rules for pages of documentation."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted([PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")])
MAX_LINE = 120


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a page that belong to no table and no block of code."""
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        mark = re.match(r" *(```+|~~~+)", line)
        if mark and not fence:
            fence = mark[1]
        elif fence:
            fence = "" if line.strip() == fence else fence
        elif not line.startswith(("|", "    ")):
            yield number, line


def test_code_and_tables_are_no_prose():
    page = "one\n```python\ncode\n```\n| a | b |\n    $ command\n  - two\n"
    assert list(prose(page)) == [(1, "one"), (7, "  - two")]


@pytest.mark.parametrize("name", [str(page.relative_to(PROJECT)) for page in PAGES])
def test_no_line_of_a_page_is_too_long(name):
    page = PROJECT / name
    too_long = [number for number, line in prose(page.read_text()) if len(line) > MAX_LINE]
    assert not too_long, f"lines of more than {MAX_LINE} characters: {too_long}"


def anchors(page: Path) -> set[str]:
    """Return what links to a page may name: its headings, as GitHub writes them."""
    headings = [line.lstrip("#").strip().lower() for _, line in prose(page.read_text()) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", each).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", [str(page.relative_to(PROJECT)) for page in PAGES])
def test_every_link_of_a_page_leads_somewhere(name):
    page, broken = PROJECT / name, []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not link.startswith("https:") and (
            not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target))
        ):
            broken.append(link)
    assert not broken
