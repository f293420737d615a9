"""Cancel, redrive, earlier versions, and what is said of a job that is in trouble."""

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from backhaul.cli.app import run
from backhaul.cli.describe import describe, notes_on
from backhaul.cli.exits import Exit
from backhaul.cli.progress import JobProgress
from backhaul.model.api import JobView, progress_of
from backhaul.model.job import Counts, JobState

pytestmark = pytest.mark.usefixtures("command_line")

JOB = "01kb3x5s0qf8m2v9d7c6t4h1zn"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def cause(code, message, detail=None):
    return {"code": code, "message": message, "position": None, "detail": detail}


CANCELLED = cause("cancelled", "The job was cancelled: the [b]wrong[/b] file")


@pytest.fixture
def refuses(server, answer):
    def refuse(path, code, status=409):
        body = {"error": {"code": code, "message": "Do this instead."}}
        server.on("POST", f"/jobs/{JOB}/{path}", answer.of(body, status))

    return refuse


@pytest.fixture
def cancels(server, view, answer):
    """A deployment whose job stands as given: before it is cancelled, as the answer, and whenever asked later."""

    def prepare(before, after, *later):
        server.on("GET", f"/jobs/{JOB}", answer.of(before), *map(answer.of, later))
        server.on("POST", f"/jobs/{JOB}/cancel", answer.of(after, 202))
        return server

    return prepare


def test_a_job_at_work_is_asked_to_stop_with_the_reason(cancels, view, capsys):
    server = cancels(view(), view(stopping=CANCELLED))
    assert run(["cancel", JOB, "--reason", "the [b]wrong[/b] file"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"Job {JOB} is being cancelled. Follow it with: backhaul watch {JOB}\n"
    (request,) = server.asked("POST", f"/jobs/{JOB}/cancel")
    assert request.json() == {"reason": "the [b]wrong[/b] file"}


def test_without_a_reason_none_is_sent(cancels, view):
    server = cancels(view(), view(stopping=CANCELLED))
    run(["cancel", JOB])
    assert server.asked("POST", f"/jobs/{JOB}/cancel")[0].json() == {}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (("QUEUED", None), ("CANCELLED", None), "is cancelled."),
        (("CANCELLED", None), ("CANCELLED", None), "was cancelled already."),
        (("RUNNING", CANCELLED), ("RUNNING", CANCELLED), "is stopping already: The job was cancelled: the [b]wrong"),
        (
            ("RUNNING", cause("deadline_passed", "The deadline has passed.")),
            ("RUNNING", cause("deadline_passed", "The deadline has passed.")),
            "is stopping already: The deadline has passed.",
        ),
    ],
)
def test_cancelling_again_changes_nothing_and_says_so(cancels, view, capsys, before, after, said):
    cancels(*(view(state, stopping=stopping) for state, stopping in (before, after)))
    assert run(["cancel", JOB]) == 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("end", "code"),
    [("CANCELLED", 0), ("PARTIAL", Exit.FAILED), ("FAILED", Exit.FAILED), ("SUCCEEDED", Exit.FAILED)],
)
def test_waiting_for_a_cancelled_job_succeeds_when_it_is_cancelled(cancels, view, capsys, end, code):
    cancels(view(), view(stopping=CANCELLED), view(stopping=CANCELLED), view(end))
    assert run(["cancel", JOB, "--wait"]) == code
    said = capsys.readouterr()
    assert f"{JOB}  {end}" in said.out
    assert "stopping: The job was cancelled: the [b]wrong[/b] file" in said.err
    assert "backhaul watch" not in said.err


@pytest.mark.parametrize("extra", [[], ["--wait"]])
def test_a_cancelled_job_as_json_is_one_document(cancels, view, capsys, extra):
    cancels(view(), view(stopping=CANCELLED), view("CANCELLED"))
    assert run(["cancel", JOB, "--json", *extra]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == ("CANCELLED" if extra else "RUNNING")


def test_a_job_that_was_cancelled_already_is_not_waited_for(cancels, view, capsys):
    server = cancels(view("CANCELLED"), view("CANCELLED"))
    assert run(["cancel", JOB, "--wait"]) == 0
    assert len(server.asked("GET", f"/jobs/{JOB}")) == 1
    assert f"{JOB}  CANCELLED" in capsys.readouterr().out


def test_what_has_ended_cannot_be_cancelled(server, view, answer, refuses, capsys):
    server.on("GET", f"/jobs/{JOB}", answer.of(view("SUCCEEDED")))
    refuses("cancel", "job_has_ended")
    assert run(["cancel", JOB, "--wait"]) == Exit.REFUSED
    assert capsys.readouterr().err == "Error: Do this instead.\n"


@pytest.fixture
def redrives(server, view, answer):
    def prepare(started, chunks, job, *later):
        server.on(
            "POST",
            f"/jobs/{JOB}/redrive",
            answer.of({"job": job, "started": started, "chunks": chunks}, 202 if started else 200),
        )
        if later:
            server.on("GET", f"/jobs/{JOB}", *map(answer.of, later))
        return server

    return prepare


@pytest.mark.parametrize(
    ("chunks", "said"), [(3, "with run 2, for 3 chunks."), (1, "with run 2, for 1 chunk."), (0, "with run 2.")]
)
def test_a_redrive_says_what_it_does_and_how_to_follow_it(redrives, view, capsys, chunks, said):
    server = redrives(True, chunks, view("QUEUED", run=2))
    assert run(["redrive", JOB]) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"Job {JOB} goes on {said} Follow it with: backhaul watch {JOB}\n"
    assert server.requests[0].json() == {"only_failed": False}


def test_a_redrive_of_only_what_failed_asks_for_that(redrives, view):
    server = redrives(True, 1, view("QUEUED", run=2))
    run(["redrive", JOB, "--only-failed"])
    assert server.requests[0].json() == {"only_failed": True}


@pytest.mark.parametrize("extra", [[], ["--wait"], ["--only-failed"], ["--wait", "--only-failed"]])
def test_a_job_of_which_nothing_is_missing_is_left_as_it_is(redrives, view, capsys, extra):
    server = redrives(False, 0, view("SUCCEEDED"))
    assert run(["redrive", JOB, *extra]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"Nothing is missing from job {JOB}, so nothing was started.\n")
    assert len(server.requests) == 1


def test_where_nothing_failed_but_something_is_missing_the_way_on_is_told(redrives, view, capsys):
    redrives(False, 0, view("CANCELLED"))
    assert run(["redrive", JOB, "--only-failed", "--wait"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"No chunk of job {JOB} has failed, so nothing was started. To process chunks that were never tried" in said


@pytest.mark.parametrize(("end", "code"), [("SUCCEEDED", 0), ("PARTIAL", 3), ("FAILED", 1), ("CANCELLED", 1)])
def test_the_exit_code_tells_how_the_redriven_job_ended(redrives, view, capsys, end, code):
    redrives(True, 1, view("QUEUED", run=2), view("RUNNING", run=2), view(end, run=2))
    assert run(["redrive", JOB, "--wait"]) == code
    assert f"{JOB}  {end} (run 2)" in capsys.readouterr().out


@pytest.mark.parametrize("extra", [[], ["--wait"]])
def test_a_redrive_as_json_is_one_document_of_one_form(redrives, view, capsys, extra):
    redrives(True, 1, view("QUEUED", run=2), view("SUCCEEDED", run=2))
    assert run(["redrive", JOB, "--json", *extra]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["started"], document["chunks"]) == (True, 1)
    assert document["job"]["state"] == ("SUCCEEDED" if extra else "QUEUED")


def test_a_job_left_as_it_is_says_so_as_json(redrives, view, capsys):
    redrives(False, 0, view("SUCCEEDED"))
    assert run(["redrive", JOB, "--json", "--wait"]) == 0
    assert json.loads(capsys.readouterr().out)["started"] is False


@pytest.mark.parametrize("code", ["job_not_ended", "not_redrivable"])
def test_a_job_that_cannot_be_redriven_is_a_refusal(refuses, capsys, code):
    refuses("redrive", code)
    assert run(["redrive", JOB, "--wait"]) == Exit.REFUSED
    assert "Do this instead." in capsys.readouterr().err


@pytest.mark.parametrize("what", ["result", "receipt"])
def test_an_earlier_version_is_asked_for_by_its_run(server, answer, capfdbinary, what):
    download = {"url": f"{server.url}/object", "size": 5, "expires_in_seconds": 60, "file_name": "f"}
    server.on("GET", f"/jobs/{JOB}/{what}", answer.of(download))
    server.on("GET", "/object", answer(200, b"first"))
    assert run(["result", JOB, "--run", "1", *(["--receipt"] if what == "receipt" else [])]) == 0
    assert capfdbinary.readouterr().out == b"first"
    assert server.requests[0].query == "run=1"


@pytest.mark.parametrize("number", ["0", "-1", "first"])
def test_what_is_no_run_is_refused_before_any_request(server, capsys, number):
    assert run(["result", JOB, "--run", number]) == Exit.USAGE
    assert "--run" in capsys.readouterr().err
    assert server.requests == []


def test_a_run_that_never_was_is_a_refusal(server, answer, capsys):
    body = {"error": {"code": "run_not_found", "message": f"Job {JOB} has no run 7 that has ended."}}
    server.on("GET", f"/jobs/{JOB}/result", answer.of(body, 404))
    assert run(["result", JOB, "--run", "7"]) == Exit.REFUSED
    assert "no run 7" in capsys.readouterr().err


# --- what is said of a job


@pytest.fixture
def job(view):
    def make(state="RUNNING", **changes):
        counts = changes.pop("counts", {})
        made = view(state, **changes)
        made["counts"] |= counts
        return msgspec.convert(made, JobView)

    return make


def test_the_first_run_has_no_number_and_later_ones_have(job):
    assert "run" not in describe(job(), NOW).splitlines()[0]
    assert "(run 3)" in describe(job(run=3), NOW).splitlines()[0]


def test_a_queued_job_says_what_it_waits_for(job):
    shown = describe(job("QUEUED", waiting_for=["the intake is paused: [b]a release[/b]"]), NOW)
    assert r"waiting: the intake is paused: \[b]a release\[/b]" in shown


def test_a_job_that_is_stopping_says_why(job):
    shown = describe(job(stopping=CANCELLED), NOW)
    assert "\n  stopping: The job was cancelled: the \\[b]wrong\\[/b] file" in shown


@pytest.mark.parametrize(("count", "said"), [(0, None), (1, "1 shard has"), (3, "3 shards have")])
def test_shards_without_a_sign_of_life_are_told_of(job, count, said):
    note = notes_on(job(stalled_shards=count), NOW).get("stalled")
    assert note is None if said is None else note.startswith(f"{said} shown no sign of life for 30 s")


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({"hours": 2}, None),
        ({"minutes": 59}, "its deadline is in 59 min, at 12:59:00 UTC"),
        ({"seconds": 40}, "its deadline is in 40 s, at 12:00:40 UTC"),
        ({"seconds": -5}, "its deadline passed at 11:59:55 UTC"),
    ],
)
def test_a_deadline_is_told_of_when_it_is_near(job, left, said):
    assert notes_on(job(deadline_at=(NOW + timedelta(**left)).isoformat()), NOW).get("deadline") == said


def test_a_job_that_is_stopping_is_not_hurried_by_its_deadline(job):
    soon = (NOW + timedelta(minutes=1)).isoformat()
    assert list(notes_on(job(deadline_at=soon, stopping=CANCELLED), NOW)) == ["stopping"]


RECEIPT = f"backhaul result {JOB} --receipt"
REDRIVE = f"backhaul redrive {JOB}"


@pytest.mark.parametrize(
    ("state", "code", "ways"),
    [
        ("PARTIAL", "chunks_missing", [RECEIPT, REDRIVE]),
        ("FAILED", "processor_error", [RECEIPT, REDRIVE]),
        ("FAILED", "too_many_missing", [RECEIPT, REDRIVE]),
        ("FAILED", "unsuitable_input", [RECEIPT]),
        ("FAILED", "deadline_passed", [RECEIPT, REDRIVE]),
        ("CANCELLED", "cancelled", [RECEIPT, REDRIVE]),
        ("RUNNING", "", []),
    ],
)
def test_where_chunks_are_missing_the_ways_on_are_shown(job, state, code, ways):
    lines = describe(job(state, cause=cause(code, "Why."), counts={"chunks_failed": 3}), NOW).splitlines()
    assert [line[14:] for line in lines if "backhaul" in line] == ways


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "SUCCEEDED", "EXPIRED"])
def test_where_no_chunk_is_missing_no_way_on_is_shown(job, state):
    assert "backhaul" not in describe(job(state), NOW)


@pytest.mark.parametrize(
    ("state", "said"),
    [("RUNNING", "1 of 4 chunks, 2 failed,"), ("QUEUED", "1 of 4 chunks, 2 missing,"), ("PARTIAL", ", 2 missing,")],
)
def test_what_may_still_be_done_has_failed_and_what_will_not_is_missing(job, state, said):
    assert said in describe(job(state, counts={"chunks_failed": 2}), NOW)


def test_the_progress_of_a_job_queued_to_be_redriven_counts_only_what_was_done():
    assert progress_of(JobState.QUEUED, Counts(chunks=4, chunks_done=3, chunks_failed=1)) == 0.75


@pytest.mark.parametrize("state", list(JobState))
def test_the_ways_on_fit_into_80_columns(job, state):
    troubled = job(
        state,
        run=12,
        cause=cause("chunks_missing", "Why."),
        counts={"chunks_failed": 2},
        stalled_shards=100,
        deadline_at=(NOW + timedelta(minutes=59)).isoformat(),
    )
    assert max(map(len, describe(troubled, NOW).splitlines()[1:])) <= 80


def test_a_follower_is_told_once_of_each_trouble(server, view, answer, capsys):
    stalled = view(stalled_shards=2)
    turns = [view(), stalled, stalled, view(stopping=CANCELLED), view(stopping=CANCELLED), view("CANCELLED")]
    server.on("GET", f"/jobs/{JOB}", *map(answer.of, turns))
    assert run(["watch", JOB]) == Exit.FAILED
    assert capsys.readouterr().err.splitlines() == [
        f"{JOB} RUNNING",
        "2 shards have shown no sign of life for 30 s; other workers take over",
        "stopping: The job was cancelled: the [b]wrong[/b] file",
        f"{JOB} CANCELLED",
    ]


@pytest.mark.parametrize(
    ("state", "completed"),
    [("QUEUED", 3), ("RUNNING", 4), ("MERGING", 4), ("PARTIAL", 4), ("FAILED", 3), ("CANCELLED", 3)],
)
def test_the_bar_counts_a_failed_chunk_only_while_it_is_settled(job, state, completed):
    shown = JobProgress()
    shown.update(job(state, counts={"chunks": 4, "chunks_done": 3, "chunks_failed": 1}))
    (task,) = shown._bars.tasks
    assert (task.completed, task.total) == (completed, 4)
