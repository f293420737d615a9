"""Money on the command line: what a job costs, letting it cost more, and what calls took."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from backhaul.cli.app import run
from backhaul.cli.describe import describe, notes_on
from backhaul.cli.exits import Exit
from backhaul.model.api import JobView

pytestmark = pytest.mark.usefixtures("command_line")

JOB = "01kb3x5s0qf8m2v9d7c6t4h1zn"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ACME = {"calls": 1200, "input_tokens": 34000, "output_tokens": 560, "spent": "0.48", "saved": "0.10"}
BETA = {"calls": 1, "input_tokens": 0, "output_tokens": 0, "spent": "0.0031", "saved": "0.00"}
COST = {"max_cost": "0.50", "spent": "0.4831", "held": "0.25", "saved": "0.10", "usage": {"acme": ACME, "beta": BETA}}
SPENT = {"code": "budget_exhausted", "message": "The job's budget of $0.50 has $0.01 left.", "position": None}
DAY_SPENT = {"code": "day_budget_exhausted", "message": "The tenant's budget is spent.", "position": None}


@pytest.fixture
def job(server, view, answer):
    """A job that the deployment tells like this."""

    def tell(state="PAUSED", **changes):
        told = view(state, **{"cost": COST} | changes)
        server.on("GET", f"/jobs/{JOB}", answer.of(told))
        return told

    return tell


@pytest.fixture
def raises(server, answer):
    def prepare(told, *, started=False, exceeded=False, chunks=0):
        body = {"job": told, "started": started, "chunks": chunks, "exceeded": exceeded}
        server.on("POST", f"/jobs/{JOB}/budget", answer.of(body, 202 if started else 200))
        return server

    return prepare


def sent(server):
    return [each.json() for each in server.asked("POST", f"/jobs/{JOB}/budget")]


def test_a_budget_is_shown_with_what_each_provider_took(job, capsys):
    job()
    assert run(["budget", "show", JOB]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{JOB}  PAUSED  $0.48 of $0.50 spent, $0.25 held for calls under way, $0.10 saved by the cache",
        "PROVIDER  CALLS  TOKENS IN  TOKENS OUT     COST  SAVED",
        "acme      1,200     34,000         560    $0.48  $0.10",
        "beta          1          0           0  $0.0031  $0.00",
        "total     1,201     34,000         560    $0.48  $0.10",
    ]


def test_a_budget_as_json_is_one_document_with_exact_amounts(job, capsys):
    job()
    assert run(["budget", "show", JOB, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["job_id"], document["cost"]["spent"], document["cost"]["usage"]["acme"]) == (JOB, "0.4831", ACME)


def test_a_job_that_costs_nothing_says_so(job, capsys):
    job("RUNNING", cost=None)
    assert run(["budget", "show", JOB]) == 0
    assert capsys.readouterr().out == f"{JOB}  RUNNING  nothing spent, and no cap\n"


@pytest.mark.parametrize(
    "words",
    [
        [],
        [JOB, "--tenant", "T1"],
        [JOB, "--all"],
        ["--tenant", "T1", "--all"],
        ["--tenant", "T#1"],
        ["--tenant", ""],
        [JOB, JOB],
    ],
)
def test_a_budget_is_shown_of_one_job_or_one_tenant_or_all(server, words, capsys):
    assert run(["budget", "show", *words]) == Exit.USAGE
    assert server.requests == []
    said = capsys.readouterr()
    assert (said.out, said.err[:6]) == ("", "Error:")


def test_a_raise_sends_the_total_and_says_what_follows(job, raises, view, capsys):
    server = raises(view("QUEUED", run=2, cost=COST | {"max_cost": "5.00"}), started=True, chunks=3)
    assert run(["budget", "raise", JOB, "5", "--reason", "worth it"]) == 0
    assert sent(server) == [{"max_cost": "5.00", "reason": "worth it"}]
    said = capsys.readouterr()
    assert said.out == ""
    assert "$0.48 of $5.00 spent" in said.err
    assert f"The job goes on with run 2, for 3 chunks. Follow it with: backhaul watch {JOB}" in said.err


def test_an_amount_with_a_plus_is_added_to_the_present_cap(job, raises, view):
    told = job()
    server = raises(told)
    assert run(["budget", "raise", JOB, "+1.25"]) == 0
    assert sent(server) == [{"max_cost": "1.75"}]


def test_there_is_nothing_to_add_to_where_there_is_no_cap(job, server, capsys):
    job("RUNNING", cost=None)
    assert run(["budget", "raise", JOB, "+5"]) == Exit.REFUSED
    assert "Name the total" in capsys.readouterr().err
    assert sent(server) == []


@pytest.mark.parametrize(
    ("state", "changes", "exceeded", "said"),
    [
        ("PAUSED", {"cause": SPENT}, True, "has already spent that much"),
        ("PAUSED", {"cause": DAY_SPENT}, False, "The job stays PAUSED: The tenant's budget is spent."),
        (
            "RUNNING",
            {"stopping": SPENT},
            False,
            "The job is being PAUSED all the same. Once it is, go on with: backhaul red",
        ),
        ("CANCELLED", {}, False, f"The job is CANCELLED. To process what is missing: backhaul redrive {JOB}"),
    ],
)
def test_why_nothing_was_started_is_said(raises, view, capsys, state, changes, exceeded, said):
    raises(view(state, cost=COST, **changes), exceeded=exceeded)
    assert run(["budget", "raise", JOB, "5"]) == 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("end", "code"), [("SUCCEEDED", 0), ("PAUSED", Exit.PARTIAL)])
def test_a_raised_job_is_followed_to_its_end(job, raises, view, capsys, end, code):
    job(end, run=2)
    raises(view("QUEUED", run=2, cost=COST), started=True, chunks=1)
    assert run(["budget", "raise", JOB, "5", "--wait"]) == code
    assert f"{JOB}  {end} (run 2)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        [JOB],
        ["5"],
        [JOB, "5", "6"],
        [JOB, "0"],
        [JOB, "1e400"],
        [JOB, "NaN"],
        [JOB, "+"],
        [JOB, "+NaN"],
        [JOB, "++5"],
        [JOB, "1000001"],
        [JOB, "-5"],
        [JOB, "five"],
        [],
    ],
)
def test_what_is_no_raise_is_refused_before_any_request(server, words, capsys):
    assert run(["budget", "raise", *words]) == Exit.USAGE
    assert server.requests == []
    assert "Error" in capsys.readouterr().err


def test_adding_beyond_what_anything_may_cost_is_refused(job, server):
    job()
    assert run(["budget", "raise", JOB, "+1000000"]) == Exit.USAGE
    assert sent(server) == []


@pytest.mark.parametrize(("code", "status"), [("job_has_ended", 409), ("job_not_found", 404), ("invalid_request", 400)])
def test_a_refusal_is_told(server, answer, capsys, code, status):
    body = {"error": {"code": code, "message": "Do this instead."}}
    server.on("POST", f"/jobs/{JOB}/budget", answer.of(body, status))
    assert run(["budget", "raise", JOB, "5"]) == Exit.REFUSED
    assert capsys.readouterr().err == "Error: Do this instead.\n"


def test_usage_is_a_table_by_day_with_a_total(server, answer, capsys):
    days = [
        {"day": "2026-11-21", "usage": {"acme": ACME, "beta": BETA}},
        {"day": "2026-11-22", "usage": {"beta": BETA}},
    ]
    server.on("GET", "/usage", answer.of({"days": days}))
    assert run(["usage"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "DAY         PROVIDER  CALLS  TOKENS IN  TOKENS OUT     COST  SAVED",
        "2026-11-21  acme      1,200     34,000         560    $0.48  $0.10",
        "            beta          1          0           0  $0.0031  $0.00",
        "2026-11-22  beta          1          0           0  $0.0031  $0.00",
        "            total     1,202     34,000         560    $0.49  $0.10",
    ]
    assert run(["usage", "--provider", "beta", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["day"] for each in document["days"]] == ["2026-11-21", "2026-11-22"]
    assert document["total"] == BETA | {"calls": 2, "spent": "0.0062"}


def test_so_many_days_are_asked_for(server, answer, capsys):
    server.on("GET", "/usage", answer.of({"days": []}))
    assert run(["usage", "--days", "1"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "No calls of providers were made.\n")
    first, last = (part.partition("=")[2] for part in server.requests[0].query.split("&"))
    assert first == last == datetime.now(UTC).date().isoformat()


def test_the_usage_of_a_job_is_by_provider(job, capsys):
    job()
    assert run(["usage", "--job", JOB, "--provider", "beta"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "PROVIDER  CALLS  TOKENS IN  TOKENS OUT     COST  SAVED",
        "beta          1          0           0  $0.0031  $0.00",
        "total         1          0           0  $0.0031  $0.00",
    ]
    assert run(["usage", "--job", JOB, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["spent"] == "0.4831"


@pytest.mark.parametrize(
    "words",
    [
        ["--days", "0"],
        ["--days", "93"],
        ["--days", "x"],
        ["--job", JOB, "--all"],
        ["--job", JOB, "--days", "3"],
        ["--job", JOB, "--tenant", "T1"],
        ["--tenant", "T1", "--all"],
        ["--tenant", "T#1"],
        ["--tenant", ""],
    ],
)
def test_what_is_no_usage_is_refused_before_any_request(server, words, capsys):
    assert run(["usage", *words]) == Exit.USAGE
    assert server.requests == []


def shown(view, state, **changes):
    told = view(state, cost=COST, **changes)
    told["counts"] |= {"chunks_failed": 3}
    return msgspec.convert(told, JobView)


@pytest.mark.parametrize(
    ("cause", "way"),
    [(SPENT, f"go on:      backhaul budget raise {JOB} AMOUNT"), (DAY_SPENT, f"go on:      backhaul redrive {JOB}")],
)
def test_a_paused_job_says_why_and_how_to_go_on(view, cause, way):
    lines = describe(shown(view, "PAUSED", cause=cause), NOW).splitlines()
    assert f"  {cause['message']}" in lines
    assert lines[-1] == f"  {way}"
    assert "  $0.48 of $0.50 spent, $0.25 held for calls under way, $0.10 saved by the cache" in lines


def test_what_a_running_job_waits_for_is_a_note(view):
    waits = ["[b]acme[/b] is busy; goes on in 12 s, at 12:00:12 UTC", "beta is down; goes on now"]
    job = shown(view, "RUNNING", waiting_for=waits)
    note = notes_on(job, NOW)["waiting"]
    assert note.startswith("waiting: \\[b]acme")
    assert note.endswith(", and beta is down; goes on now")
    assert describe(job, NOW).count("waiting:") == 1
