"""`backhaul audit`: what operators did, newest first, over a real jobs table."""

import json
import re

import pytest

from backhaul.cli.app import run
from backhaul.cli.exits import Exit
from backhaul.operations.audit import Wanted, trail
from backhaul.operations.connection import Operations, Outputs
from backhaul.operations.intake import pause, resume
from backhaul.store.audit import AuditRecord

WHO = "arn:aws:sts::123456789012:assumed-role/admin/jane"
HOSTILE = "\x85\x9b31m\u202e[bold]evil[/bold]\nand more"


@pytest.fixture
def operations(deployment, monkeypatch):
    made = Operations(Outputs("The stack", {}), deployment.settings, deployment.store, deployment.clock, WHO)
    monkeypatch.setattr("backhaul.cli.audit.operate", lambda _: made)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.delenv("BACKHAUL_STACK", raising=False)
    return made


@pytest.fixture
def acts(deployment, operations):
    """Three acts, a day between each two; returns the job that the second is about."""
    job = deployment.submit("text-stats", b"one\n").job
    pause(operations, "T1", "it floods us")
    operations.clock.advance(days=1)
    about = f"{job.ref.tenant}/{job.ref.job_id}"
    discard = AuditRecord("dlq discard", WHO, "no use", job=about, what={"queue": "intake", "ids": ["m"]}, body="gone")
    operations.store.audit.close(operations.store.audit.begin(discard, job), "discarded: Thrown away.")
    operations.clock.advance(days=1)
    resume(operations, "T1", "it is over")
    return job.ref


def listed(capsys, *arguments):
    assert run(["audit", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def actions(capsys, *arguments):
    assert run(["audit", "--json", *arguments]) == 0
    return [each["action"] for each in json.loads(capsys.readouterr().out)["records"]]


def test_a_list_has_a_line_for_each_act_with_the_newest_first(acts, capsys):
    head, *lines = listed(capsys)
    assert re.split(" {2,}", head.strip()) == ["WHEN (UTC)", "WHO", "ACTION", "ABOUT", "WHY", "OUTCOME"]
    cells = [re.split(" {2,}", line.strip()) for line in lines]
    jane, about = "assumed-role/admin/jane", f"{acts.tenant}/{acts.job_id}"
    assert cells == [
        ["2026-11-24 12:00:00", jane, "resume", "tenant T1", "it is over", "resumed"],
        ["2026-11-23 12:00:00", jane, "dlq discard", about, "no use", "discarded: Thrown away."],
        ["2026-11-22 12:00:00", jane, "pause", "tenant T1", "it floods us", "paused"],
    ]


def test_for_programs_it_has_all_of_each_record(acts, capsys):
    assert run(["audit", "--job", acts.job_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "records": [
            {
                "at": "2026-11-23T12:00:00Z",
                "who": WHO,
                "action": "dlq discard",
                "what": {"queue": "intake", "ids": ["m"]},
                "why": "no use",
                "outcome": "discarded: Thrown away.",
                "body": "gone",
                "tenant": acts.tenant,
                "job_id": acts.job_id,
            }
        ],
        "complete": True,
    }


def test_filters_choose_by_tenant_action_and_time(acts, capsys):
    assert actions(capsys, "--tenant", "T1") == ["resume", "pause"]
    assert actions(capsys, "--tenant", acts.tenant) == ["dlq discard"]
    assert actions(capsys, "--action", "dlq") == ["dlq discard"]
    assert actions(capsys, "--since", "2026-11-23") == ["resume", "dlq discard"]
    assert actions(capsys, "--since", "2026-11-23T13:00+01:00") == ["resume", "dlq discard"]
    assert actions(capsys, "--since", "2026-11-23T12:00:01") == ["resume"]
    assert actions(capsys, "--since", "1d") == ["resume", "dlq discard"]
    assert actions(capsys, "--since", "23h") == ["resume"]
    assert actions(capsys, "--since", "0") == ["resume"]


@pytest.mark.usefixtures("acts")
def test_no_more_than_the_limit_is_listed_and_it_says_that_there_are_older_ones(capsys):
    assert run(["audit", "--limit", "2"]) == 0
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 3
    assert "These are the newest 2 records; there are older ones." in output.err
    assert run(["audit", "--limit", "3"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["audit", "--limit", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["complete"] is False


@pytest.mark.usefixtures("operations")
def test_an_empty_trail_is_said(capsys):
    assert listed(capsys) == []
    assert run(["audit"]) == 0
    assert "The audit trail has no record that matches." in capsys.readouterr().err


def test_what_somebody_wrote_does_nothing_to_the_terminal(operations, capsys):
    what = {HOSTILE: HOSTILE}
    operations.store.audit.begin(AuditRecord(HOSTILE, f"arn:{HOSTILE}", HOSTILE, what=what, outcome=HOSTILE))
    _, line = listed(capsys)
    assert line.isprintable()
    assert line.count("[bold]evil[/bold] and more") == 6


@pytest.mark.parametrize("wrong", ["yesterday", "-5m", "", "2026-13-01", "999999999d", "\u0665m"])
@pytest.mark.usefixtures("operations")
def test_what_is_no_time_is_refused_with_an_example(wrong, capsys):
    assert run(["audit", "--since", wrong]) == Exit.USAGE
    output = capsys.readouterr()
    assert "is not a time. Write how long ago, as 90m, 2h or 7d, or a day: 2026-11-30." in output.err
    assert output.out == ""


def test_older_pages_are_read_only_as_far_as_they_are_wanted(operations):
    for number in range(30):
        operations.clock.advance(seconds=1)
        operations.store.audit.begin(AuditRecord("dlq discard", WHO, str(number), body="x" * 90_000))
    queries = []
    events = operations.store.audit._client.meta.events
    events.register("before-call.dynamodb.Query", lambda **_: queries.append(1))
    newest = trail(operations, Wanted(), 3)
    assert ([each.why for each in newest.records], newest.complete) == (["29", "28", "27"], False)
    assert len(queries) == 1
    everything = trail(operations, Wanted(), 100)
    assert ([each.why for each in everything.records], everything.complete) == ([*map(str, range(29, -1, -1))], True)
    assert len(queries) >= 4
