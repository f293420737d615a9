"""The pages about fault cases: which faults there are, and what the cases' longest runs came to."""

import re

import pytest

from prove import proofs
from prove.__main__ import ordered
from prove.checker.rework import Rework
from prove.registry import CASES
from prove.runner import Result

FAULTS = (proofs.PAGE.parent / "faults.md").read_text()


def test_every_case_has_the_number_of_a_fault():
    numbers = re.findall(r"^\| (F\d+) \|", FAULTS, re.MULTILINE)
    assert sorted(numbers, key=lambda number: int(number[1:])) == [f"F{number}" for number in range(1, 46)]
    assert {each.partition(".")[0] for each in CASES} - set(numbers) == {"mix"}


def test_the_page_of_proofs_has_a_row_for_each_case_in_order():
    rows = proofs.rows(proofs.PAGE.read_text())
    assert list(rows) == [each.id for each in ordered()]
    for each in ordered():
        assert rows[each.id].startswith(f"| {each.id} | {each.layer} | ")
        assert rows[each.id].endswith(f" | {each.sentence} |\n")


@pytest.fixture
def page():
    old = "".join(f"| {name} | deterministic | 9 | 0 | 0/0 | As before. |\n" for name in ("F2", "F9", "gone"))
    return f"Above.\n{proofs.BEGIN}{proofs.HEAD}{old}{proofs.END}Below.\n"


def test_a_run_renews_the_rows_of_its_cases_and_no_other(page):
    result = Result(CASES["F9"], seeds=3, rework=Rework(2.5, 1))
    page = proofs.renewed(page, [result], ["F2", "F9"])
    assert page.startswith(f"Above.\n{proofs.BEGIN}{proofs.HEAD}| F2 | deterministic | 9 | 0 | 0/0 | As before. |\n")
    assert f"| F9 | deterministic | 3 | 0 | 2.5/1 | {CASES['F9'].sentence} |\n" in page
    assert page.endswith(f"{proofs.END}Below.\n")
    assert page.count("| F9 |") == 1


def test_a_case_that_is_gone_loses_its_row(page):
    assert "| gone |" not in proofs.renewed(page, [], ["F2", "F9"])


def test_a_new_case_gets_its_row_at_its_place(page):
    page = proofs.renewed(page, [Result(CASES["F6"], seeds=1)], ["F2", "F6", "F9"])
    assert list(proofs.rows(page)) == ["F2", "F6", "F9"]
