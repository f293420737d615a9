"""`backhaul dlq`: what an operator sees and gets, over real queues."""

import json
import re

import boto3
import pytest
from botocore.exceptions import ClientError

from backhaul.cli.app import run
from backhaul.cli.exits import Exit
from backhaul.operations.contents import Queue
from backhaul.operations.redriving import Redrive
from backhaul.store import queues
from tests.stages.operator_seat import make_operator

HOSTILE = "\x85\x9b31m\u202e[bold]evil[/bold] \u200b" + "x" * 100


@pytest.fixture
def operator(deployment, monkeypatch):
    made = make_operator(deployment)
    monkeypatch.setattr(queues, "WAIT_SECONDS", 0)
    monkeypatch.setattr("backhaul.cli.dlq.operate", lambda _: made.operations)
    monkeypatch.setattr("backhaul.cli.dlq.redrive_of", lambda _: made.redriver())
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("BACKHAUL_STACK", raising=False)
    return made


def document(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_list_has_a_line_for_each_dead_letter(operator, capsys):
    job = operator.ended_job()
    operator.put_chunk(job, 17, copies=2)
    operator.put(Queue.INTAKE, "nonsense")
    assert run(["dlq", "list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["QUEUE", "ID", "REASON", "AGE", "JOB", "CHUNK", "COPIES", "SAYS"]
    assert len(lines) == 2
    assert lines[0].startswith("intake ")
    assert re.match(rf"failed-chunks +[0-9a-f]{{8}} +poison +\d+ s +{job.job_id} +17 +2 +The proc.*:3\. *$", lines[1])


def test_a_list_without_copies_and_chunks_has_no_columns_for_them(operator, capsys):
    operator.put_upload()
    assert run(["dlq", "list"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["QUEUE", "ID", "REASON", "AGE", "JOB", "SAYS"]
    assert "the job is AWAITING_UPLOAD." in line


def in_a_terminal(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(["dlq", "list"]) == 0
    return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()


def test_a_list_in_a_narrow_terminal_cuts_no_id(operator, capsys, monkeypatch):
    job = operator.ended_job()
    operator.put_chunk(job, 17, copies=2)
    operator.put(Queue.INTAKE, f"[bold]\x9b{'x' * 200}")
    head, first, says, second, below = in_a_terminal(monkeypatch, capsys, 80)
    assert head.split() == ["QUEUE", "ID", "REASON", "AGE", "JOB"]
    assert (first.split()[0], says.startswith("  The message is not JSON")) == ("intake", True)
    assert re.fullmatch(rf"failed-chunks  [0-9a-f]{{8}}  poison     \d+ s  {job.job_id}", second)
    assert below == "  chunk 17, 2 copies: The processor raised ValueError at p.py:3."
    narrow = in_a_terminal(monkeypatch, capsys, 40)
    assert len(narrow[4]) == 40
    assert narrow[4].endswith("…")


def test_a_list_in_a_wide_terminal_has_a_line_for_each_dead_letter(operator, capsys, monkeypatch):
    operator.put_chunk(operator.ended_job(), 17, copies=2)
    lines = in_a_terminal(monkeypatch, capsys, 120)
    assert len(lines) == 2
    assert lines[1].rstrip().endswith("…")


def test_a_list_for_programs_is_one_document(operator, capsys):
    job = operator.ended_job()
    dead_letter = operator.put_chunk(job, 17, copies=2)
    assert run(["dlq", "list", "--json"]) == 0
    found = document(capsys)
    assert found["complete"]
    (only,) = found["dead_letters"]
    assert (only["queue"], only["reason"], only["copies"]) == ("failed-chunks", "poison", 2)
    assert (only["job_id"], only["chunk"]["dead_letter_id"]) == (job.job_id, dead_letter.dead_letter_id)
    assert "body" not in only


def test_nothing_found_is_said_and_is_no_failure(operator, capsys):
    for command in (["list"], ["redrive", "--why", "x"], ["discard", "--all", "--why", "x"]):
        assert run(["dlq", *command]) == 0
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", "No dead letters were found.\n")
    assert run(["dlq", "list", "--json"]) == 0
    assert document(capsys) == {"dead_letters": [], "complete": True}


def test_a_list_says_that_there_are_more(operator, capsys):
    for _ in range(2):
        operator.put_upload()
    assert run(["dlq", "list", "--limit", "1"]) == 0
    assert "--limit" in capsys.readouterr().err


def test_the_filters_of_the_command_line_are_those_of_the_search(operator, capsys):
    job = operator.ended_job()
    operator.put_chunk(job)
    operator.put_chunk(operator.ended_job(), code="transient")
    operator.put_upload()
    for filters, amount in (
        (["--queue", "failed-chunks"], 2),
        (["--reason", "transient"], 1),
        (["--job", job.job_id], 1),
        (["--tenant", job.tenant], 3),
        (["--tenant", "OTHER"], 0),
    ):
        assert run(["dlq", "list", "--json", *filters]) == 0
        assert len(document(capsys)["dead_letters"]) == amount, filters


def test_a_dead_letter_is_shown_in_full(operator, capsys):
    job = operator.ended_job()
    dead_letter = operator.put_chunk(job, 17, copies=2)
    assert run(["dlq", "show", dead_letter.dead_letter_id]) == 0
    shown = capsys.readouterr().out
    for part in (job.job_id, job.tenant, "PARTIAL", "chunk 17", "fails at byte 2", "attempt 1", "2 copies", "poison"):
        assert part in shown, part
    assert '  "schema_version": 1,' in shown
    assert run(["dlq", "show", dead_letter.dead_letter_id, "--json"]) == 0
    assert json.loads(document(capsys)["body"])["dead_letter_id"] == dead_letter.dead_letter_id


@pytest.mark.parametrize("queue", list(Queue))
@pytest.mark.parametrize("body", [HOSTILE, json.dumps({"a": HOSTILE}), "[" * 5000, "x" * 300_000, '"\\u001b[2J"'])
def test_a_hostile_body_is_shown_and_does_nothing(operator, capsys, queue, body):
    (message_id,) = operator.put(queue, body)
    assert run(["dlq", "list"]) == 0
    assert run(["dlq", "show", message_id]) == 0
    shown = capsys.readouterr().out
    assert all(each.isprintable() or each == "\n" for each in shown)
    assert len(shown) < 40_000
    assert run(["dlq", "show", message_id, "--json"]) == 0
    assert document(capsys)["body"] == body


def test_hostile_words_in_a_dead_letter_are_shown_and_do_nothing(operator, capsys):
    job = operator.ended_job()
    cause = {"code": "processor_error", "message": f"{HOSTILE}\n\x1b[2J", "detail": HOSTILE}
    dead_letter = operator.put_chunk(job, 1, cause=cause, processor=HOSTILE, dead_letter_id=f"{HOSTILE}1")
    assert run(["dlq", "list"]) == 0
    assert run(["dlq", "show", dead_letter.dead_letter_id]) == 0
    assert run(["dlq", "redrive", "--dry-run"]) == 0
    assert run(["dlq", "discard", dead_letter.dead_letter_id, "--why", HOSTILE]) == 0
    said = capsys.readouterr()
    shown = said.out + said.err
    assert "[bold]evil[/bold]" in shown
    assert all(each.isprintable() or each == "\n" for each in shown)


def test_a_dead_letter_that_is_not_there_is_said(operator, capsys):
    assert run(["dlq", "show", "no-such-letter"]) == Exit.REFUSED
    assert "no-such-letter" in capsys.readouterr().err
    operator.put_upload()
    message_id = operator.dead_letters()[0].oldest.message_id
    assert run(["dlq", "redrive", message_id, "no-such-letter", "--why", "x"]) == Exit.REFUSED
    assert "no-such-letter" in capsys.readouterr().err
    assert operator.left("IntakeQueueUrl") == 1


def everything(operator):
    """All that a dry run must leave as it is."""
    names = ("IntakeQueueUrl", *(queue.kind.output for queue in Queue))
    items = boto3.client("dynamodb").scan(TableName="jobs")["Items"]
    return [operator.attributes(name) for name in names], sorted(map(str, items))


@pytest.mark.parametrize("command", ["redrive", "discard"])
def test_a_dry_run_tells_everything_and_changes_nothing(operator, capsys, command):
    job = operator.ended_job()
    operator.put_batch()
    operator.put_upload()
    operator.put(Queue.INTAKE, "nonsense")
    for chunk in range(3):
        operator.put_chunk(job, chunk)
    before = everything(operator)
    assert run(["dlq", command, "--dry-run", "--tenant", job.tenant, "--json"]) == 0
    found = document(capsys)
    assert found["dry_run"]
    assert len(found["dead_letters"]) == 4
    assert run(["dlq", command, "--dry-run", *(["--all"] if command == "discard" else [])]) == 0
    assert "Nothing was changed." in capsys.readouterr().err
    assert everything(operator) == before
    assert operator.runs_started == []


def test_a_redrive_says_what_became_of_each_dead_letter(operator, capsys):
    job = operator.ended_job()
    for chunk in (0, 1, 17):
        operator.put_chunk(job, chunk)
    operator.put(Queue.INTAKE, "nonsense")
    assert run(["dlq", "redrive", "--why", "the bug is mended"]) == Exit.PARTIAL
    said = capsys.readouterr()
    head, *lines = said.out.splitlines()
    assert head.split() == ["QUEUE", "ID", "LETTERS", "OUTCOME", "SAYS"]
    assert "kept" in lines[0]
    assert re.search(r" 3 +redriven +Run 2 of the job processes the missing chunks\.", lines[1])
    assert said.err == "1 kept, 3 redriven.\n"
    (record,) = operator.operations.store.audit.newest()
    assert (record.why, record.who) == ("the bug is mended", operator.operations.who)


def test_a_redrive_takes_no_more_dead_letters_than_it_is_told_to(operator, capsys):
    for _ in range(3):
        operator.put_upload()
    assert run(["dlq", "redrive", "--limit", "2", "--why", "x", "--json"]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)["dead_letters"]) == 2
    assert "There are more" in said.err
    assert (operator.left("IntakeDeadLettersUrl"), operator.left("IntakeQueueUrl")) == (1, 2)


@pytest.mark.parametrize("command", [["redrive"], ["discard", "--all"], ["redrive", "--why", " "]])
def test_whoever_acts_says_why(operator, capsys, command):
    operator.put_upload()
    assert run(["dlq", *command]) == Exit.USAGE
    assert "--why" in capsys.readouterr().err
    assert operator.left("IntakeDeadLettersUrl") == 1


def test_a_discard_of_everything_must_be_asked_for(operator, capsys):
    operator.put_upload()
    assert run(["dlq", "discard", "--why", "x"]) == Exit.USAGE
    assert run(["dlq", "discard", "--why", "x", "--limit", "1"]) == Exit.USAGE
    assert "--all" in capsys.readouterr().err
    assert run(["dlq", "discard", "--why", "x", "--queue", "announce"]) == 0
    assert operator.left("IntakeDeadLettersUrl") == 1
    assert run(["dlq", "discard", "--why", "x", "--all"]) == 0
    assert operator.left("IntakeDeadLettersUrl") == 0


def test_an_interrupted_redrive_tells_what_it_has_done_and_lets_go_of_the_rest(operator, capsys, monkeypatch):
    for _ in range(3):
        operator.put_upload()
    real, calls = Redrive.__call__, []

    def interrupted(self, group):
        calls.append(group)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, group)

    monkeypatch.setattr(Redrive, "__call__", interrupted)
    assert run(["dlq", "redrive", "--why", "x"]) == Exit.INTERRUPTED
    said = capsys.readouterr()
    assert "1 redriven." in said.err
    assert len(said.out.splitlines()) == 2
    assert operator.attributes("IntakeDeadLettersUrl") == (2, 0)


def test_what_aws_refuses_is_said_in_a_sentence(operator, capsys, monkeypatch):
    refusal = ClientError({"Error": {"Code": "AccessDenied", "Message": "not you"}}, "ReceiveMessage")

    def refuse(*_):
        raise refusal

    monkeypatch.setattr(queues.MessageQueue, "receive", refuse)
    assert run(["dlq", "list"]) == Exit.UNREACHABLE
    said = capsys.readouterr().err
    assert said.startswith("Error: AWS refused")
    assert "not you" in said


@pytest.mark.parametrize("command", [[], ["list"], ["show"], ["redrive"], ["discard"]])
def test_every_command_has_help(capsys, command):
    assert run(["dlq", *command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out
