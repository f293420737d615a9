"""Text from outside does nothing to a terminal, whatever it holds and whichever command shows it."""

import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from backhaul.cli.app import run
from backhaul.cli.exits import Exit
from tests.hostile import HOSTILE, assert_harmless, harmful, texts_in

JOB = "01kb3x5s0qf8m2v9d7c6t4h1zn"
COMMAND = str(Path(sys.executable).with_name("backhaul"))

SHORT = "[red]evil[/red]\x1b[2J\x9b\u202e"

pytestmark = pytest.mark.usefixtures("command_line")


@pytest.fixture(params=["a program", "a terminal"])
def reader(command_line, request, monkeypatch):
    """Who reads stdout and stderr."""
    if request.param == "a terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "3000")


COST = {
    "max_cost": "2", "spent": "1", "held": "0", "saved": "0",
    "usage": {HOSTILE: {"calls": 1, "input_tokens": 1, "output_tokens": 1, "spent": "1", "saved": "0"}},
}  # fmt: skip


@pytest.fixture
def hostile(view, server, answer, file):
    """A deployment all of whose texts are hostile."""
    cause = {"code": HOSTILE, "message": HOSTILE, "position": None, "detail": HOSTILE}
    job = view("RUNNING", job_id=HOSTILE, processor=HOSTILE, file_name=HOSTILE, stopping=cause, cost=COST)
    job |= {"waiting_for": [HOSTILE], "counts": job["counts"] | {"tallies": {HOSTILE: 5}, "chunks_failed": 1}}
    ended = job | {"state": "PAUSED", "cause": cause, "stopping": None}
    form = {"url": f"{server.url}/bucket", "fields": {"key": "k"}}
    option = {"name": HOSTILE, "type": HOSTILE, "required": False, "default": HOSTILE, "description": HOSTILE}
    option["limits"] = HOSTILE
    count = {"low": 1, "likely": 1, "high": 2}
    cost = {"low": "1", "likely": "1", "high": "1"}
    tokens = {"calls": count, "input_tokens": count, "output_tokens": count}
    server.on("POST", "/jobs", answer.of({"job": job, "upload": form}, 202))
    server.on("POST", "/bucket", answer(204))
    server.on("GET", "/jobs", answer.of({"jobs": [job, ended], "next": None}))
    for job_id in (JOB, quote(HOSTILE, safe="")):
        server.on("GET", f"/jobs/{job_id}", answer.of(job), answer.of(ended))
    server.on("POST", f"/jobs/{JOB}/cancel", answer.of(job, 202))
    server.on("POST", f"/jobs/{JOB}/redrive", answer.of({"job": job, "started": True, "chunks": 1}, 202))
    raised = {"job": ended, "started": False, "chunks": 0, "exceeded": False}
    server.on("POST", f"/jobs/{JOB}/budget", answer.of(raised))
    server.on("GET", "/usage", answer.of({"days": [{"day": "2026-11-22", "usage": COST["usage"]}]}))
    offered = {"name": HOSTILE, "summary": HOSTILE, "options": [option]}
    server.on("GET", "/processors", answer.of({"processors": [offered]}))
    estimate = {
        "processor": HOSTILE, "size": 5, "read": 5, "chunks": 1, "shards": 1, "records": count,
        "providers": [{"provider": HOSTILE, "cost": cost, "seconds": 1.0, "limit": "calls"} | tokens],
        "cost": cost, "aws_cost": "1", "seconds": 1.0, "limit": "calls", "slowest": HOSTILE,
    }  # fmt: skip
    server.on("POST", "/estimate", answer.of(estimate))
    return server


CALLERS = {
    "submit": ["submit", "a.txt", "-p", "text-stats"],
    "submit --wait": ["submit", "a.txt", "-p", "text-stats", "--wait"],
    "status": ["status", JOB],
    "watch": ["watch", JOB],
    "list": ["list"],
    "cancel": ["cancel", JOB],
    "redrive": ["redrive", JOB],
    "budget show": ["budget", "show", JOB],
    "budget raise": ["budget", "raise", JOB, "5"],
    "usage": ["usage"],
    "processors": ["processors"],
    "estimate": ["estimate", "a.txt", "-p", "text-stats"],
}


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("command", CALLERS)
def test_what_a_deployment_says_does_nothing_to_a_terminal(hostile, command, capsys):
    run(CALLERS[command])
    said = capsys.readouterr()
    assert_harmless(said.out + said.err)


@pytest.mark.parametrize("command", CALLERS)
def test_json_for_programs_says_the_same_and_can_be_shown(hostile, command, capsys):
    run([*CALLERS[command], "--json"])
    out = capsys.readouterr().out
    assert not harmful(out)
    assert HOSTILE in texts_in(json.loads(out))


@pytest.mark.parametrize("command", CALLERS)
@pytest.mark.parametrize(("status", "form"), [(400, "ours"), (403, "S3's"), (403, "another"), (500, "ours")])
def test_what_a_refusal_says_does_nothing_to_a_terminal(server, answer, file, command, status, form, capsys):
    body = {
        "ours": json.dumps({"error": {"code": HOSTILE, "message": HOSTILE}}).encode(),
        "S3's": f"<Message>{HOSTILE}</Message>".encode(),
        "another": HOSTILE.encode(),
    }[form]
    turns = [answer(status, body)] * (1 if command == "watch" else 5)  # who follows goes on through 500
    server.answer = lambda _: turns.pop() if turns else answer(400, body)
    assert run(CALLERS[command]) in (Exit.REFUSED, Exit.UNREACHABLE)
    assert_harmless(capsys.readouterr().err)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    "arguments",
    [
        [SHORT],
        ["status", JOB, SHORT],
        ["submit", SHORT, "-p", "x"],
        ["submit", "a.txt", "-p", "x", "-o", SHORT],
        ["submit", "a.txt", "-p", "x", "--deadline", SHORT],
        ["submit", "a.txt", "-p", "x", "--max-cost", SHORT],
        ["try", SHORT, "a.txt"],
        ["try", "text-stats", SHORT],
        ["try", "text-stats", "a.txt", "-o", f"{SHORT}=1"],
        ["try", "text-stats", "a.txt", "-o", f"top={SHORT}"],
        ["try", "text-stats", "a.txt", "--output", f"no/{SHORT}"],
        ["try", "text-stats", "a.txt", "--provider", SHORT],
        ["try", "text-stats", "a.txt", "--folder", SHORT],
        ["usage", "--tenant", SHORT],
        ["dlq", SHORT],
        ["providers", "set", "x", f"{SHORT}=1"],
    ],
)
def test_what_was_mistyped_or_pasted_does_nothing_to_a_terminal(file, arguments, capsys):
    assert run(arguments) != 0
    assert_harmless(capsys.readouterr().err, shows="")


def test_what_a_library_warns_of_does_nothing_to_a_terminal(server, view, answer, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger("httpx_retries.retry"), "propagate", False)  # not to pytest's own handlers
    bad = answer(503, b"", {"Retry-After": "soon \x9b2J [red]evil[/red]"})
    server.on("GET", f"/jobs/{JOB}", bad, answer.of(view()))
    assert run(["status", JOB]) == 0
    assert_harmless(capsys.readouterr().err, shows="[red]evil[/red]")


# --- as a process of its own, on a terminal


def on_a_terminal(*arguments):
    """Run the command with a terminal as stdout and stderr; return its exit code and what the terminal got."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen([COMMAND, *arguments], stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "dumb"})
    os.close(theirs)
    got = b""
    try:
        while piece := os.read(ours, 65536):
            got += piece
    except OSError:  # so a terminal ends of which nobody holds the other end
        pass
    os.close(ours)
    return running.wait(60), got.decode().replace("\r\n", "\n")


PROCESSOR = """
from backhaul import Lines, Processor

class Shout(Processor):
    name = "shout"
    reads = Lines()

    def process(self, record, ctx):
        ctx.tally({tally!r})
        {failure}
        return {hostile!r} + record
"""


@pytest.fixture
def shout(tmp_path, file):
    def write(failure="pass", tally="x"):
        (tmp_path / "processors").mkdir()
        text = PROCESSOR.format(hostile=HOSTILE, failure=failure, tally=tally)
        (tmp_path / "processors/shout.py").write_text(text)

    return write


def test_an_answer_of_try_does_nothing_to_a_terminal_and_is_what_it_is_elsewhere(shout):
    shout()
    code, got = on_a_terminal("try", "shout", "a.txt")
    assert code == 0
    assert_harmless(got)
    done = subprocess.run([COMMAND, "try", "shout", "a.txt"], capture_output=True, timeout=60, check=True)
    assert done.stdout.decode() == f"{HOSTILE}hello"


def test_a_tally_of_try_does_nothing_to_a_terminal(shout):
    shout(tally="[red]evil[/red]\x1b[2J\u202e")
    code, got = on_a_terminal("try", "shout", "a.txt", "--output", "out")
    assert code == 0
    assert_harmless(got, shows="[red]evil[/red]")


@pytest.mark.parametrize("error", ["ValueError", "Permanent"])
def test_a_traceback_of_try_does_nothing_to_a_terminal(shout, error):
    shout(failure=f"from backhaul import Permanent; raise {error}({HOSTILE!r} + chr(0x1b) + chr(0x9b))  # \u202e")
    code, got = on_a_terminal("try", "shout", "a.txt")
    assert code != 0
    assert_harmless(got)


def test_a_fault_of_the_command_line_itself_does_nothing_to_a_terminal(tmp_path, file):
    (tmp_path / "sitecustomize.py").write_text(
        f"import backhaul.cli.author as author\ndef fail(*_): raise LookupError({HOSTILE!r})\nauthor.size_of = fail\n"
    )
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        code, got = on_a_terminal("try", "text-stats", "a.txt")
    finally:
        del os.environ["PYTHONPATH"]
    assert code == 1
    assert "Traceback" in got
    assert_harmless(got, shows="evil")


@pytest.mark.parametrize("extra", [[], ["--receipt"]])
def test_a_result_does_nothing_to_a_terminal_and_is_what_it_is_elsewhere(server, answer, extra):
    data = f"one\r\n{HOSTILE}\rtwo\n".encode() + b"\xff\x9b\xe2"
    download = {"url": f"{server.url}/object", "size": len(data), "expires_in_seconds": 60, "file_name": HOSTILE}
    for what in ("result", "receipt"):
        server.on("GET", f"/jobs/{JOB}/{what}", answer.of(download))
    server.on("GET", "/object", answer(200, data))
    code, got = on_a_terminal("result", JOB, *extra)
    assert code == 0
    assert_harmless(got)
    assert got.startswith("one\n[red]evil")
    done = subprocess.run([COMMAND, "result", JOB, *extra], capture_output=True, timeout=60, check=True)
    assert done.stdout == data
