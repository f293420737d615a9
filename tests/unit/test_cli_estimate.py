"""What a job would take, on the command line: only counts leave the machine, and a job that costs too much stays."""

import json
from pathlib import Path

import pytest

from backhaul.cli.app import run
from backhaul.cli.exits import Exit

pytestmark = pytest.mark.usefixtures("command_line")

SECRET = "s3cret-of-the-caller"
PAID = """
from backhaul import Lines, Processor
from backhaul.plugin.processor import Expected

class Paid(Processor):
    name = "paid"
    reads = Lines()

    class Options(Processor.Options, frozen=True, kw_only=True):
        broken: bool = False

    def process(self, record, ctx):
        return record

    def expect(self, records):
        if self.options.broken:
            raise KeyError(records[0])
        yield Expected("acme", len(records), 10 * len(records), len(records), 2 * len(records))
"""


def count(low, likely, high):
    return {"low": low, "likely": likely, "high": high}


def estimate(low="0.50", likely="1.25", high="12.00", **changes):
    acme = {
        "provider": "acme",
        "calls": count(3, 3, 3),
        "input_tokens": count(22, 30, 45),
        "output_tokens": count(3, 3, 6),
        "cost": count(low, likely, high),
        "seconds": 5400,
        "limit": "tokens_per_minute",
    }
    return {
        "processor": "paid",
        "size": 100,
        "read": 100,
        "chunks": 1,
        "shards": 1,
        "records": count(3, 3, 3),
        "providers": [acme],
        "cost": count(low, likely, high),
        "aws_cost": "0.0021",
        "seconds": 5400,
        "limit": "tokens_per_minute",
        "slowest": "acme",
    } | changes


@pytest.fixture
def paid(tmp_path, takes_uploads, answer):
    """A processor that pays, a file for it, and a deployment that knows what it will cost."""
    Path("processors").mkdir()
    Path("processors/paid.py").write_text(PAID)
    Path("a.txt").write_text(f"one\n{SECRET}\nthree\n")
    takes_uploads.on("POST", "/estimate", answer.of(estimate()))
    return takes_uploads


def test_an_estimate_for_people_is_a_table_of_ranges_and_what_binds(paid, capsys):
    assert run(["estimate", "a.txt", "-p", "paid"]) == 0
    said = capsys.readouterr()
    assert [line.rstrip() for line in said.out.splitlines()] == [
        "PAID                    LOW   LIKELY    HIGH",
        "chunks                             1",
        "shards                             1",
        "records                            3",
        "acme: calls                        3",
        "acme: input tokens       22       30      45",
        "acme: output tokens       3        3       6",
        "acme: cost            $0.50    $1.25  $12.00",
        "cost of AWS, about           $0.0021",
        "time, at least       90 min",
    ]
    assert said.err == "The job takes at least 90 min, because of acme's tokens a minute.\n"


def test_an_estimate_for_programs_is_what_the_deployment_said(paid, capsys):
    assert run(["estimate", "a.txt", "-p", "paid", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == estimate()


def test_only_counts_are_sent(paid):
    assert run(["estimate", "a.txt", "-p", "paid", "-o", "chunk_bytes=1000"]) == 0
    (asked,) = paid.requests
    assert SECRET.encode() not in asked.body
    assert asked.json() == {
        "processor": "paid",
        "size": Path("a.txt").stat().st_size,
        "options": {"chunk_bytes": "1000"},
        "expected": {
            "bytes": Path("a.txt").stat().st_size,
            "records": 3,
            "chunks": 1,
            "error": 0,
            "calls": [{"provider": "acme", "calls": 3, "input_tokens": 30, "output_tokens": 3, "max_output_tokens": 6}],
        },
    }


def test_a_free_processor_costs_what_aws_costs(paid, answer, capsys):
    nothing = estimate("0.00", "0.00", "0.00", providers=[], seconds=0.1, limit="reading", slowest=None)
    paid.on("POST", "/estimate", answer.of(nothing))
    assert run(["estimate", "a.txt", "--processor", "text-stats"]) == 0
    said = capsys.readouterr()
    assert "cost of providers" in said.out
    assert "$0.00" in said.out
    assert "at least 0 s, because of the time that reading takes" in said.err


def test_of_a_sampled_file_it_is_said_how_much_was_read(paid, answer, capsys):
    paid.on("POST", "/estimate", answer.of(estimate(size=1000)))
    assert run(["estimate", "a.txt", "-p", "paid"]) == 0
    assert "Only 10.0% of the file was read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["a.txt", "-p", "nope"], Exit.REFUSED, "processors"),
        (["b.txt", "-p", "paid"], Exit.REFUSED, "b.txt is not a file"),
        (["a.txt", "-p", "paid", "-o", "top=1"], Exit.REFUSED, "no option 'top'"),
        (["a.txt", "-p", "paid", "-o", "broken=true"], Exit.REFUSED, "raised KeyError at paid.py:17"),
        (["a.txt"], Exit.USAGE, "--processor"),
        (["a.txt", "paid"], Exit.USAGE, "--processor"),
        (["utf16.txt", "-p", "paid"], Exit.REFUSED, "UTF-16"),
    ],
)
def test_what_cannot_be_estimated_is_refused_before_anybody_is_asked(paid, capsys, arguments, code, said):
    Path("utf16.txt").write_bytes("one".encode("utf-16"))
    assert run(["estimate", *arguments]) == code
    assert said in capsys.readouterr().err
    assert not paid.requests


def test_a_provider_that_is_not_set_up_is_named(paid, answer, capsys):
    refusal = {"error": {"code": "invalid_request", "message": "There is no provider 'acme'."}}
    paid.on("POST", "/estimate", answer.of(refusal, 400))
    assert run(["estimate", "a.txt", "-p", "paid"]) == Exit.REFUSED
    assert "no provider 'acme'" in capsys.readouterr().err


# --- submit --max-cost


@pytest.fixture
def capped(monkeypatch):
    """Let the policy of the command line have a cap."""

    def cap(amount):
        monkeypatch.setattr("backhaul.cli.policy.policy_of", lambda _: {"max_cost": amount})

    return cap


def test_a_job_that_costs_more_than_its_cap_at_the_least_is_not_submitted(paid, capped, capsys):
    capped("0.49")
    assert run(["submit", "a.txt", "-p", "paid"]) == Exit.REFUSED
    assert [request.path for request in paid.requests] == ["/estimate"]
    said = capsys.readouterr()
    assert said.out == ""
    assert all(words in said.err for words in ("$0.50", "$1.25", "$0.49", "--no-estimate"))


def test_a_job_that_likely_costs_more_is_submitted_with_a_word_on_it(paid, capped, capsys):
    capped("0.50")
    assert run(["submit", "a.txt", "-p", "paid"]) == 0
    assert "probably cost $1.25. It is paused once $0.50" in capsys.readouterr().err
    capped("1.25")
    assert run(["submit", "a.txt", "-p", "paid"]) == 0
    assert "likely" not in capsys.readouterr().err


def test_without_an_estimate_the_job_is_submitted_all_the_same(paid, capped):
    capped("0.01")
    assert run(["submit", "a.txt", "-p", "paid", "--no-estimate"]) == 0
    assert not paid.asked("POST", "/estimate")


def test_without_a_cap_or_calls_nothing_is_estimated(paid, capped):
    assert run(["submit", "a.txt", "-p", "paid"]) == 0
    capped("0.01")
    assert run(["submit", "a.txt", "-p", "text-stats"]) == 0
    assert not paid.asked("POST", "/estimate")


def test_a_processor_that_is_only_in_the_deployment_is_submitted_without_an_estimate(paid, capped, capsys):
    capped("0.01")
    assert run(["submit", "a.txt", "-p", "elsewhere"]) == 0
    assert "No estimate was made, because the processor elsewhere is not on this machine" in capsys.readouterr().err
