"""The command line: one JSON document on stdout, words on stderr, exit codes that scripts can trust."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
import typer

from backhaul.cli import main, screen
from backhaul.cli.app import app, run
from backhaul.cli.exits import EPILOG, Exit
from backhaul.cli.jobs import whole_file
from backhaul.cli.processor import parse_options
from backhaul.cli.signals import Terminated
from backhaul.client.discovery import connect
from backhaul.local import LocalCloudError
from backhaul.model.api import progress_of
from backhaul.model.errors import DeploymentUnreachable, InvalidRequest
from backhaul.model.job import Counts, JobState
from backhaul.plugin.registry import find_processors

JOB = "01kb3x5s0qf8m2v9d7c6t4h1zn"
COMMAND = str(Path(sys.executable).with_name("backhaul"))


pytestmark = pytest.mark.usefixtures("command_line")


def one_document(text):
    """Return the one JSON document that the text is; two would not parse."""
    return json.loads(text)


@pytest.mark.parametrize(
    ("state", "code"), [("SUCCEEDED", 0), ("PARTIAL", 3), ("FAILED", 1), ("CANCELLED", 1), ("EXPIRED", 1)]
)
def test_the_exit_code_tells_how_the_job_ended(takes_uploads, view, answer, file, capsys, state, code):
    takes_uploads.on("GET", f"/jobs/{JOB}", answer.of(view("QUEUED")), answer.of(view()), answer.of(view(state)))
    assert run(["submit", str(file), "-p", "text-stats", "--wait", "--json"]) == code
    said = capsys.readouterr()
    document = one_document(said.out)
    assert {"job_id", "state", "progress", "cause"} <= document.keys()
    assert (document["job_id"], document["state"]) == (JOB, state)
    assert JOB in said.err


def test_a_submission_without_waiting_prints_the_job_and_how_to_follow_it(takes_uploads, file, capsys):
    assert run(["submit", str(file), "--processor", "text-stats", "-o", "top=5", "-o", "x=a=b"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{JOB}\n"
    assert f"backhaul watch {JOB}" in said.err
    (request,) = takes_uploads.asked("POST", "/jobs")
    assert request.json()["options"] == {"top": "5", "x": "a=b"}


def test_a_submission_as_json_is_one_document(takes_uploads, file, capsys):
    assert run(["submit", str(file), "-p", "text-stats", "--json"]) == 0
    assert one_document(capsys.readouterr().out)["state"] == "AWAITING_UPLOAD"


@pytest.mark.parametrize("command", ["status", "watch"])
def test_a_job_is_shown_to_people_and_to_programs(server, view, answer, capsys, command):
    cause = {"code": "c", "message": "It [bold]ended[/bold].", "position": None, "detail": "\x1b]0;owned\x07 said"}
    server.on("GET", f"/jobs/{JOB}", answer.of(view("FAILED", cause=cause, file_name="[red]a.txt")))
    expected = Exit.FAILED if command == "watch" else 0
    assert run([command, JOB]) == expected
    shown = capsys.readouterr().out
    assert "It [bold]ended[/bold]." in shown
    assert "[red]a.txt" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert run([command, JOB, "--json"]) == expected
    assert one_document(capsys.readouterr().out)["cause"]["detail"] == "\x1b]0;owned\x07 said"


def test_a_list_goes_on_to_the_next_page_until_it_has_enough(server, view, answer, capsys):
    def page(count, after):
        return answer.of({"jobs": [view(job_id=f"{after}{number}") for number in range(count)], "next": after})

    server.on("GET", "/jobs", page(3, "a"), page(0, "b"), page(2, None))
    assert run(["list", "--limit", "10", "--state", "running", "--json"]) == 0
    assert len(one_document(capsys.readouterr().out)["jobs"]) == 5
    assert [request.query for request in server.requests] == [
        "state=RUNNING&limit=10",
        "state=RUNNING&after=a&limit=7",
        "state=RUNNING&after=b&limit=7",
    ]


def test_a_list_for_people_has_a_line_for_each_job(server, view, answer, capsys):
    server.on("GET", "/jobs", answer.of({"jobs": [view(), view("SUCCEEDED")], "next": None}))
    assert run(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["JOB", "STATE", "PROCESSOR", "PROGRESS", "AGE", "FILE"]
    assert "25%" in lines[1]


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED"])
def test_the_progress_of_a_job_that_ended_badly_counts_only_what_was_done(state):
    assert progress_of(JobState(state), Counts(chunks=4, chunks_done=1, chunks_failed=3)) == 0.25


def test_the_processors_are_listed_with_their_options(server, answer, capsys):
    option = {
        "name": "top",
        "type": "integer",
        "required": False,
        "default": 20,
        "description": "[x]",
        "limits": "at least 0",
    }
    server.on("GET", "/processors", answer.of({"processors": [{"name": "p", "summary": "S.", "options": [option]}]}))
    assert run(["processors"]) == 0
    assert "[x] (at least 0)" in capsys.readouterr().out
    assert run(["processors", "--json"]) == 0
    assert one_document(capsys.readouterr().out)["processors"][0]["name"] == "p"


@pytest.mark.parametrize(("columns", "end"), [(50, ""), (80, "…"), (200, "…")])
def test_a_list_cuts_names_and_never_an_id_or_a_state(view, monkeypatch, capsys, columns, end, answer, server):
    long = view("AWAITING_UPLOAD", file_name="long-" * 30, processor="a-processor-of-many-words")
    server.on("GET", "/jobs", answer.of({"jobs": [long], "next": None}))
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stdout for a terminal
    assert run(["list"]) == 0
    _, line = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert line.startswith(f"{JOB}  AWAITING_UPLOAD  ")
    assert line.rstrip().endswith(end)


def test_a_list_for_programs_cuts_nothing(server, view, answer, capsys):
    server.on("GET", "/jobs", answer.of({"jobs": [view(file_name="x" * 255)], "next": None}))
    assert run(["list"]) == 0
    assert "x" * 255 in capsys.readouterr().out


@pytest.mark.parametrize(
    ("default", "shown"),
    [(None, ""), (["email", "ipv4"], "email,ipv4"), ({}, ""), ({"A": "b"}, '{"A": "b"}'), (True, "true"), ("x", "x")],
)
def test_a_default_is_shown_as_one_would_write_it(default, shown):
    assert screen.option_text(default) == shown


@pytest.fixture
def has_result(server, answer):
    for what in ("result", "receipt"):
        download = {"url": f"{server.url}/{what}", "size": 6, "expires_in_seconds": 60, "file_name": "../../evil"}
        server.on("GET", f"/jobs/{JOB}/{what}", answer.of(download))
        server.on("GET", f"/{what}", answer(200, what.encode()))
    return server


def test_a_result_goes_to_stdout_as_it_is(has_result, capfdbinary):
    assert run(["result", JOB]) == 0
    assert capfdbinary.readouterr().out == b"result"
    assert run(["result", JOB, "--receipt"]) == 0
    assert capfdbinary.readouterr().out == b"receipt"


def test_a_result_goes_to_the_file_that_was_asked_for(has_result, tmp_path, capsys):
    old = tmp_path / "out"
    old.write_bytes(b"what was there before")
    assert run(["result", JOB, "-o", str(old)]) == 0
    assert old.read_bytes() == b"result"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "Wrote 6 bytes" in said.err


def test_a_result_as_json_is_where_to_fetch_it(has_result, capsys):
    assert run(["result", JOB, "--json"]) == 0
    assert one_document(capsys.readouterr().out)["size"] == 6
    assert has_result.asked("GET", "/result") == []


def test_a_result_as_json_goes_to_a_file_too_if_one_is_named(has_result, tmp_path, capsys):
    assert run(["result", JOB, "--json", "-o", str(tmp_path / "out")]) == 0
    assert one_document(capsys.readouterr().out)["size"] == 6
    assert (tmp_path / "out").read_bytes() == b"result"


def test_a_download_that_breaks_off_leaves_no_file_and_keeps_the_old_one(has_result, answer, tmp_path, capsys):
    has_result.on("GET", "/result", answer(200, b"x" * 1000, cut=10))
    old = tmp_path / "out"
    old.write_bytes(b"old")
    assert run(["result", JOB, "-o", str(old)]) == Exit.UNREACHABLE
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out", b"old")]


def test_ctrl_c_during_a_download_leaves_no_file(has_result, monkeypatch, tmp_path, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("backhaul.client.client.Backhaul.fetch", interrupt)
    assert run(["result", JOB, "-o", str(tmp_path / "out")]) == Exit.INTERRUPTED
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == "Interrupted.\n"


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with whole_file(tmp_path / "whole") as file:
        file.write(b"x")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_device_is_written_to_and_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with whole_file(pipe) as file:
        file.write(b"x")
    assert os.read(reader, 10) == b"x"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "link").symlink_to("target")
    for content in (b"new", b"newer"):
        with whole_file(tmp_path / "link") as file:
            file.write(content)
        assert (tmp_path / "target").read_bytes() == content
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("where", [".", "missing/out"])
def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path, where):
    with pytest.raises(InvalidRequest, match="cannot be written"), whole_file(tmp_path / where):
        pass


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], Exit.USAGE, ""),
        (["nonsense"], Exit.USAGE, "nonsense"),
        (["submit"], Exit.USAGE, "file"),
        (["submit", "a.txt"], Exit.USAGE, "--processor"),
        (["submit", "a.txt", "-p", "x", "-o", "top"], Exit.USAGE, "KEY=VALUE"),
        (["submit", "a.txt", "-p", "x", "-o", "=5"], Exit.USAGE, "KEY=VALUE"),
        (["submit", "a.txt", "-p", "x", "-o", "top=5", "-o", "top=6"], Exit.USAGE, "'top' is given twice"),
        (["submit", "missing.txt", "-p", "x"], Exit.REFUSED, "missing.txt is not a file"),
        (["submit", ".", "-p", "x"], Exit.REFUSED, "is not a file"),
        (["list", "--state", "DONE"], Exit.USAGE, "DONE"),
        (["list", "--limit", "0"], Exit.USAGE, "limit"),
        (["list", "--limit", "many"], Exit.USAGE, "--limit"),
        (["status"], Exit.USAGE, "JOB"),
        (["status", JOB], Exit.REFUSED, "404"),
        (["try", "nope", "a.txt"], Exit.REFUSED, "text-stats"),
        (["try", "nope", "a.txt"], Exit.REFUSED, "/processors, a folder that does not exist"),
        (["try", "text-stats", "a.txt", "--folder", "nowhere"], Exit.USAGE, "nowhere"),
        (["local", "logs", "nope"], Exit.USAGE, "Use one of: announce, command, conclude, dispatch,"),
        (["try", "text-stats", "missing.txt"], Exit.REFUSED, "missing.txt is not a file"),
        (["try", "text-stats", "a.txt", "-o", "top=x"], Exit.REFUSED, "top"),
        (["try", "text-stats", "a.txt", "-o", "tpo=1"], Exit.REFUSED, "tpo"),
        (["try", "text-stats", "a.txt", "--provider", "missing.json"], Exit.REFUSED, "missing.json cannot be read"),
    ],
)
def test_what_is_wrong_is_said_on_stderr_and_told_by_the_exit_code(file, capsys, arguments, code, said):
    assert run(arguments) == code
    output = capsys.readouterr()
    assert said in output.err
    assert output.out == "" or not arguments
    assert bool(output.err) == bool(arguments)


def test_an_empty_file_is_refused_before_any_request(server, tmp_path, capsys):
    (tmp_path / "empty").touch()
    for arguments in (
        ["submit", "empty", "-p", "x"],
        ["submit", "empty", "-p", "x", "--stack", "s"],
        ["try", "text-stats", "empty"],
    ):
        assert run(arguments) == Exit.REFUSED
        assert "empty is empty" in capsys.readouterr().err
    assert server.requests == []


def test_a_deployment_that_is_not_there_is_unreachable(monkeypatch, file, capsys):
    monkeypatch.setenv("BACKHAUL_API_URL", "http://127.0.0.1:1")
    assert run(["status", JOB, "--json"]) == Exit.UNREACHABLE
    said = capsys.readouterr()
    assert (said.out, "does not answer" in said.err) == ("", True)


def test_a_deployment_that_does_not_work_is_no_refusal(server, answer, capsys):
    server.on("GET", f"/jobs/{JOB}", answer.of({"error": {"code": "internal", "message": "Logged."}}, 500))
    assert run(["status", JOB]) == Exit.UNREACHABLE


def test_no_deployment_at_all_says_how_to_get_one(monkeypatch, capsys):
    class Down:
        def connection(self):
            raise LocalCloudError("down")

    monkeypatch.delenv("BACKHAUL_API_URL")
    monkeypatch.setattr("backhaul.client.discovery.LocalCloud", Down)  # the one of this checkout may be up
    assert run(["status", JOB]) == Exit.UNREACHABLE
    assert "backhaul local up" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["api.example.com", "https://", "ftp://host", "http://[::1", "http://host:port"])
def test_an_api_url_that_is_none_says_so(monkeypatch, capsys, url):
    monkeypatch.setenv("BACKHAUL_API_URL", url)
    assert run(["status", JOB]) == Exit.UNREACHABLE
    assert "which is not a URL" in capsys.readouterr().err


def test_an_empty_api_url_is_none_at_all(monkeypatch):
    class Down:
        def connection(self):
            raise LocalCloudError("down")

    monkeypatch.setattr("backhaul.client.discovery.LocalCloud", Down)
    with pytest.raises(DeploymentUnreachable, match="backhaul local up"):
        connect(environ={"BACKHAUL_API_URL": ""})


def test_the_region_of_aws_region_counts_before_the_default(server, monkeypatch, capsys):
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    run(["status", JOB])
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    run(["status", JOB, "--stack", "s"])
    asked = [request.headers["authorization"] for request in server.requests]
    assert [("/eu-north-1/" in each) for each in asked] == [True] * len(asked)
    assert "/eu-north-1/cloudformation/" in asked[-1]


def test_a_stack_without_a_region_is_told_with_one_full_stop(monkeypatch, capsys):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert run(["status", JOB, "--stack", "s"]) == Exit.UNREACHABLE
    assert capsys.readouterr().err == "Error: The stack 's' cannot be read: You must specify a region.\n"


def test_missing_credentials_say_what_to_do(monkeypatch, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert run(["status", JOB]) == Exit.UNREACHABLE
    assert "aws configure" in capsys.readouterr().err


def test_an_unknown_profile_says_so(monkeypatch, capsys):
    monkeypatch.setenv("AWS_PROFILE", "nope")
    assert run(["status", JOB]) == Exit.UNREACHABLE
    assert "nope" in capsys.readouterr().err


def test_ctrl_c_while_waiting_tells_so_and_leaves_the_job(takes_uploads, monkeypatch, file, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("backhaul.client.client.Backhaul.follow", interrupt)
    assert run(["submit", str(file), "-p", "text-stats", "--wait", "--json"]) == Exit.INTERRUPTED
    said = capsys.readouterr()
    assert said.out == ""
    assert "Interrupted." in said.err


def test_a_deployment_that_is_silent_for_a_while_is_told_of_once(server, view, answer, capsys):
    silent = answer(500)
    server.on("GET", f"/jobs/{JOB}", answer.of(view()), silent, silent, answer.of(view()), answer.of(view("SUCCEEDED")))
    assert run(["watch", JOB]) == 0
    assert capsys.readouterr().err.count("Trying again.") == 1


def test_the_version_is_shown(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"backhaul {version('backhaul')}\n"


def commands(group=None):
    group = group or typer.main.get_command(app)
    for command in group.commands.values():
        yield from commands(command) if hasattr(command, "commands") else [command]


EXAMPLES = [example for each in commands() for example in re.findall(r"`(backhaul .+?)`", each.help or "")]


def test_there_are_examples():
    assert len(EXAMPLES) > 1


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_help_is_a_command_line_that_works(example):
    _, name, *arguments = shlex.split(example)
    context = typer.main.get_command(app).commands[name].make_context(name, arguments)
    if "processor" in context.params:
        find_processors().create(context.params["processor"], parse_options(context.params["option"] or []))


@pytest.mark.parametrize(
    "command",
    [[]] + [[name] for name in typer.main.get_command(app).commands],
)
def test_every_command_has_help(capsys, command):
    assert run([*command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_the_help_shows_examples_and_the_exit_codes(capsys):
    run(["submit", "--help"])
    assert "backhaul submit app.log --processor redact" in capsys.readouterr().out
    run(["try", "--help"])
    assert "backhaul try text-stats README.md" in capsys.readouterr().out
    run(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Exit codes:" in shown
    for code in Exit:
        assert f"{code.value} " in EPILOG


def test_trying_a_processor_writes_its_output_and_nothing_else(tmp_path, file, capfdbinary):
    assert run(["try", "text-stats", str(file), "-o", "top=1"]) == 0
    said = capfdbinary.readouterr()
    assert one_document(said.out)["top_words"] == [["hello", 1]]
    assert b"1 chunks, 1 records" in said.err
    assert run(["try", "text-stats", str(file), "--output", str(tmp_path / "out")]) == 0
    assert one_document((tmp_path / "out").read_text())["lines"] == 1


SHOUT = '''
import time

from backhaul import Processor


class Shout(Processor):
    """Write every line in capitals."""

    name = "shout"

    def process(self, record, ctx):
        if record == "bad":
            raise ValueError("no")
        if record == "lost":
            open("/nowhere")
        if record == "exit":
            raise SystemExit(3)
        if record == "slow":
            time.sleep(60)
        return record.upper()
'''


def test_trying_finds_the_processors_of_the_folder_one_is_in(tmp_path, file, capfdbinary):
    (tmp_path / "processors").mkdir()
    (tmp_path / "processors/shout.py").write_text(SHOUT)
    assert run(["try", "shout", str(file)]) == 0
    assert capfdbinary.readouterr().out == b"HELLO"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bad", "ValueError: no"),
        ("lost", "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere'"),
        ("exit", "SystemExit"),
    ],
)
def test_a_processor_that_fails_says_where_and_leaves_no_file(tmp_path, capsys, line, said):
    (tmp_path / "processors").mkdir()
    (tmp_path / "processors/shout.py").write_text(SHOUT)
    (tmp_path / "in").write_text(f"{line}\n")
    assert run(["try", "shout", "in", "--output", "out"]) == Exit.FAILED
    output = capsys.readouterr()
    assert "shout.py" in output.err
    assert said in output.err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".backhaul-*"))


# --- as a process of its own


def process(*arguments, **options):
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=60, **options)


def test_a_process_writes_one_document_and_exits_with_the_code(takes_uploads, view, answer, file):
    takes_uploads.on("GET", f"/jobs/{JOB}", answer.of(view("PARTIAL")))
    done = process("submit", str(file), "-p", "text-stats", "--wait", "--json")
    assert done.returncode == Exit.PARTIAL
    assert one_document(done.stdout)["state"] == "PARTIAL"
    assert "\x1b" not in done.stdout + done.stderr


def test_a_reader_that_goes_away_is_no_crash(tmp_path):
    (tmp_path / "big").write_bytes(b"word\n" * 500_000)
    running = subprocess.Popen(
        [COMMAND, "try", "redact", "big"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    running.stdout.read(10)
    running.stdout.close()
    said = running.stderr.read()
    running.stderr.close()
    assert running.wait(60) == Exit.FAILED
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["result", JOB], ["try", "text-stats", "a.txt"]])
def test_a_disk_that_is_full_is_said_in_a_sentence(has_result, view, answer, file, arguments):
    has_result.on("GET", "/jobs", answer.of({"jobs": [view()], "next": None}))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == Exit.UNWRITTEN
    assert done.stderr.endswith("Error: Reading or writing failed: No space left on device.\n")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_output_that_cannot_be_written_is_no_fault_of_the_processor(has_result, file, capsys):
    assert run(["result", JOB, "-o", "/dev/full"]) == Exit.UNWRITTEN
    assert run(["try", "text-stats", "a.txt", "--output", "/dev/full"]) == Exit.UNWRITTEN
    assert "Traceback" not in capsys.readouterr().err


def test_a_command_that_is_terminated_leaves_no_file(tmp_path):
    (tmp_path / "processors").mkdir()
    (tmp_path / "processors/shout.py").write_text(SHOUT)
    (tmp_path / "in").write_text("slow\n")
    running = subprocess.Popen([COMMAND, "try", "shout", "in", "--output", "out"], stderr=subprocess.PIPE, text=True)
    began = os.times().elapsed
    while not list(tmp_path.glob(".backhaul-*")):
        assert os.times().elapsed - began < 30
    running.send_signal(signal.SIGTERM)
    assert running.communicate(timeout=30)[1] == ""
    assert running.returncode == Exit.TERMINATED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "processors"]


def test_a_command_that_is_terminated_as_soon_as_its_file_is_there_leaves_none(tmp_path, monkeypatch):
    make = Path.open

    def made(path, mode):
        make(path, mode).close()
        raise Terminated

    monkeypatch.setattr(Path, "open", made)
    with pytest.raises(Terminated), whole_file(tmp_path / "out"):
        pytest.fail("there is nothing to write to")
    assert not list(tmp_path.iterdir())


BLOCKED = """
import signal, sys, threading, time
from backhaul.cli.signals import Terminated, raise_on_sigterm

raise_on_sigterm()
# The system may hand the signal to any thread. Then nothing interrupts the main thread's call.
elsewhere = threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
elsewhere.start()
try:
    time.sleep(50)
except Terminated:
    time.sleep(0.5)  # what clears away has all its time: nothing more is raised
    sys.exit(7)
"""


def test_a_termination_that_does_not_interrupt_the_call_that_blocks_ends_it_all_the_same():
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", BLOCKED], timeout=60).returncode == 7
    assert time.monotonic() - began < 30


def test_ctrl_c_while_everything_is_imported_ends_in_silence(monkeypatch, capsys):
    class Interrupted(ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "backhaul.cli.app", Interrupted("backhaul.cli.app"))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == Exit.INTERRUPTED
    assert capsys.readouterr().err == ""
