"""An upload is claimed once, whatever the queue delivers, and starts one run."""

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from backhaul.model import keys
from backhaul.model.errors import JobNotFound, MalformedMessage
from backhaul.model.job import JobRef, JobState, ObjectRef
from backhaul.model.task import RunTask
from backhaul.stages.dispatch import Upload, uploads_in
from backhaul.store import ObjectStore, RunStore

DATA = b"one line\n"
TERMINAL = {"SUCCEEDED", "PARTIAL", "FAILED", "CANCELLED", "EXPIRED"}


def terminal_event_ids(deployment: Any) -> set[str]:
    """Announce the whole stream to a bus that only listens; returns the IDs of terminal events."""
    heard: list[Any] = []

    class Bus:
        def publish(self, events):
            heard.extend(events)
            return []

    deployment.announce(deployment.changes(), Bus())
    return {event.detail.event_id for event in heard if event.detail.state in TERMINAL}


def in_threads(count: int, call: Any) -> list[Any]:
    barrier = threading.Barrier(count)

    def together(_: int) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(together, range(count)))


def test_an_event_starts_the_run_of_its_job(deployment):
    ref = deployment.submit("text-stats", DATA).job.ref
    upload = deployment.put_input(ref, DATA)
    (job,) = deployment.receive(deployment.notification(upload))
    assert (job.state, job.input, job.run) == (JobState.RUNNING, upload.object, 1)
    (execution,) = deployment.executions()
    assert execution.name == f"{ref.job_id}-1"
    order = {"schema_version": 1, "tenant": ref.tenant, "job_id": ref.job_id, "run": 1}
    assert json.loads(execution.execution_input) == order


def test_three_deliveries_of_one_event_make_one_run_one_result_and_one_ending(deployment):
    ref = deployment.submit("text-stats", DATA).job.ref
    message = deployment.notification(deployment.put_input(ref, DATA))
    for _ in range(3):
        deployment.receive(message)
    first = deployment.finish(RunTask(ref, 1))
    deployment.receive(message)
    assert first.state is JobState.SUCCEEDED
    assert deployment.job(ref) == first
    assert len(deployment.executions()) == 1
    versions = deployment.s3.list_object_versions(Bucket="data", Prefix=keys.job_prefix(ref) + "output/")["Versions"]
    assert len(versions) == 1
    assert len(terminal_event_ids(deployment)) == 1


def test_many_pollers_at_once_make_one_run(deployment):
    ref = deployment.submit("text-stats", DATA).job.ref
    message = deployment.notification(deployment.put_input(ref, DATA))
    found = in_threads(8, lambda: deployment.receive(message)[0])
    assert {(job.state, job.run) for job in found} == {(JobState.RUNNING, 1)}
    assert len(deployment.executions()) == 1
    assert deployment.job(ref).moves == 2


def test_pollers_at_once_that_all_saw_the_job_unclaimed_make_one_run(deployment, monkeypatch):
    ref = deployment.submit("text-stats", DATA).job.ref
    upload = deployment.put_input(ref, DATA)
    unclaimed, get, seen = deployment.job(ref), deployment.store.jobs.get, threading.local()

    def late(ref):
        first, seen.before = not hasattr(seen, "before"), True
        return unclaimed if first else get(ref)

    monkeypatch.setattr(deployment.store.jobs, "get", late)
    in_threads(4, lambda: deployment.dispatch(upload))
    monkeypatch.undo()
    assert len(deployment.executions()) == 1
    assert (deployment.job(ref).moves, deployment.job(ref).run) == (2, 1)


def test_a_crash_between_queued_and_running_is_mended_by_the_next_delivery(deployment, monkeypatch):
    ref = deployment.submit("text-stats", DATA).job.ref
    message = deployment.notification(deployment.put_input(ref, DATA))
    move = deployment.store.jobs.move

    def crash(ref, to, **changes):
        if to is JobState.RUNNING:
            raise OSError("crash")
        return move(ref, to, **changes)

    monkeypatch.setattr(deployment.store.jobs, "move", crash)
    with pytest.raises(OSError, match="crash"):
        deployment.receive(message)
    assert deployment.job(ref).state is JobState.QUEUED
    monkeypatch.setattr(deployment.store.jobs, "move", move)
    assert deployment.receive(message)[0].run == 1
    assert len(deployment.executions()) == 1


def test_a_crash_between_running_and_the_start_is_mended_by_the_next_delivery(deployment, monkeypatch):
    ref = deployment.submit("text-stats", DATA).job.ref
    message = deployment.notification(deployment.put_input(ref, DATA))
    start = RunStore.start

    def crash(*_):
        monkeypatch.setattr(RunStore, "start", start)
        raise OSError("crash")

    monkeypatch.setattr(RunStore, "start", crash)
    with pytest.raises(OSError, match="crash"):
        deployment.receive(message)
    assert (deployment.job(ref).state, deployment.executions()) == (JobState.RUNNING, [])
    in_threads(4, lambda: deployment.receive(message))
    assert deployment.job(ref).run == 1
    assert len(deployment.executions()) == 1


def test_an_overwrite_before_the_event_is_read_leaves_the_announced_version_pinned(deployment):
    ref = deployment.submit("text-stats", DATA).job.ref
    first = deployment.put_input(ref, DATA)
    second = deployment.put_input(ref, b"another!\n")
    assert deployment.dispatch(first).input == first.object
    assert deployment.dispatch(second).input == first.object
    assert deployment.read(deployment.finish(RunTask(ref, 1)).input) == DATA


def test_of_two_events_out_of_order_the_one_that_comes_first_wins(deployment):
    ref = deployment.submit("text-stats", DATA).job.ref
    first = deployment.put_input(ref, DATA)
    second = deployment.put_input(ref, b"another!\n")
    assert deployment.dispatch(second).input == second.object
    assert deployment.dispatch(first).input == second.object
    assert len(deployment.executions()) == 1


def test_two_versions_at_once_make_one_run(deployment):
    ref = deployment.submit("text-stats", DATA).job.ref
    uploads = [deployment.put_input(ref, DATA) for _ in range(4)]
    pending = iter(uploads)
    in_threads(4, lambda: deployment.dispatch(next(pending)))
    assert len(deployment.executions()) == 1
    assert deployment.job(ref).input in [upload.object for upload in uploads]


def test_an_event_after_the_end_changes_nothing(deployment):
    ref = deployment.submit("text-stats", DATA).job.ref
    upload = deployment.put_input(ref, DATA)
    deployment.dispatch(upload)
    ended = deployment.finish(RunTask(ref, 1))
    late = deployment.put_input(ref, b"overwrite\n")
    assert deployment.dispatch(upload) == ended
    assert deployment.dispatch(late) == ended
    assert len(deployment.executions()) == 1


@pytest.mark.parametrize("arrived", [b"", b"one\n", DATA + b"more"])
def test_an_upload_of_another_size_fails_the_job(deployment, arrived):
    ref = deployment.submit("text-stats", DATA).job.ref
    job = deployment.dispatch(deployment.put_input(ref, arrived))
    assert (job.state, job.cause.code) == (JobState.FAILED, "size_mismatch")
    assert f"9 bytes were declared and {len(arrived)} arrived" in job.cause.message
    assert deployment.executions() == []


def with_checksum(deployment: Any, ref: JobRef, data: bytes) -> Any:
    upload = deployment.put_input(ref, data)
    answer = deployment.s3.put_object(Bucket="data", Key=upload.object.key, Body=data, ChecksumAlgorithm="SHA256")
    return replace(upload, object=replace(upload.object, version_id=answer["VersionId"]))


def put_without_checksum(deployment: Any, ref: JobRef, data: bytes) -> Any:
    return deployment.put_input(ref, data)


@pytest.mark.parametrize("put", [with_checksum, put_without_checksum], ids=["S3 kept it", "S3 kept none"])
def test_an_upload_with_another_checksum_fails_the_job_before_any_work(deployment, put):
    ref = deployment.submit("text-stats", DATA, sha256=hashlib.sha256(b"one LINE\n").hexdigest()).job.ref
    job = deployment.finish(RunTask(ref, deployment.dispatch(put(deployment, ref, DATA)).run))
    assert (job.state, job.cause.code) == (JobState.FAILED, "checksum_mismatch")
    assert deployment.outcomes == []


@pytest.mark.parametrize("put", [with_checksum, put_without_checksum], ids=["S3 kept it", "S3 kept none"])
def test_an_upload_with_the_declared_checksum_succeeds(deployment, put):
    ref = deployment.submit("text-stats", DATA, sha256=hashlib.sha256(DATA).hexdigest()).job.ref
    job = deployment.finish(RunTask(ref, deployment.dispatch(put(deployment, ref, DATA)).run))
    assert job.state is JobState.SUCCEEDED


def test_an_upload_after_its_job_expired_starts_nothing(deployment):
    ref = deployment.submit("text-stats", DATA).job.ref
    deployment.clock.advance(hours=2)
    assert deployment.sweep()["expired"] == 1
    assert deployment.dispatch(deployment.put_input(ref, DATA)).state is JobState.EXPIRED
    assert deployment.executions() == []


def test_an_event_for_an_unknown_job_says_so(deployment):
    with pytest.raises(JobNotFound):
        deployment.dispatch(deployment.put_input(JobRef("T1", "0" * 26), DATA))


def test_an_event_reaches_only_the_job_of_the_tenant_in_its_key(deployment):
    ref = deployment.submit("text-stats", DATA, tenant="T10").job.ref
    with pytest.raises(JobNotFound):
        deployment.dispatch(deployment.put_input(JobRef("T1", ref.job_id), DATA))
    assert deployment.job(ref).state is JobState.AWAITING_UPLOAD


def test_the_test_event_that_s3_sends_at_first_holds_no_uploads():
    message = '{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-22T12:00:00.000Z","Bucket":"data"}'
    assert uploads_in(message) == ()


def test_a_message_with_two_uploads_dispatches_both(deployment):
    refs = [deployment.submit("text-stats", DATA).job.ref for _ in range(2)]
    message = deployment.notification(*(deployment.put_input(ref, DATA) for ref in refs))
    assert [job.ref for job in deployment.receive(message)] == refs
    assert len(deployment.executions()) == 2


@pytest.mark.parametrize(
    "message",
    [
        "",
        "no json",
        "[]",
        "null",
        "{}",
        '{"Records": null}',
        '{"Records": [{}]}',
        '{"Records": [{"s3": {"object": {"key": "t/T1/j/x/input/data"}}}]}',
        '{"Event": "s3:OtherEvent"}',
        "[" * 100_000,
    ],
)
def test_a_malformed_message_says_so(message):
    with pytest.raises(MalformedMessage):
        uploads_in(message)


ID = "01" * 13


@pytest.mark.parametrize("key", [quote(f"t/T1/j/{ID}/input/data", safe=""), quote_plus(f"t/T1/j/{ID}/input/data")])
def test_a_key_that_came_encoded_is_decoded_once(deployment, key):
    upload = uploads_in(deployment.notification(anything(), key=key))[0]
    assert upload.object.key == f"t/T1/j/{ID}/input/data"
    assert upload.job == JobRef("T1", ID)


@pytest.mark.parametrize(
    "key",
    [
        f"t/T1/j/{ID}/input/../input/data",
        f"t/T1/../T2/j/{ID}/input/data",
        f"t//j/{ID}/input/data",
        f"t/T1//j/{ID}/input/data",
        f"/t/T1/j/{ID}/input/data",
        f"t/T1/j/{ID}/input/data/",
        f"t/T1/j/{ID}/input/data%0A",
        f"t/T1/j/{ID}/input/data+",
        f"t/T+1/j/{ID}/input/data",
        f"t/T1/j/{ID}%252Finput/data",
        f"t/T%00/j/{ID}/input/data",
        f"t/T%C3%A9/j/{ID}/input/data",
        f"t/Te%CC%81/j/{ID}/input/data",
        f"t/T%FF/j/{ID}/input/data",
        f"t/T1/j/{ID.upper()}X/input/data",
        f"t/T1/j/{ID}0/input/data",
        f"t/{'T' * 65}/j/{ID}/input/data",
        "t/" + "a" * 1022,
        f"t/T1/j/{ID}/output/r1",
        "",
    ],
)
def test_a_key_that_is_no_input_of_a_job_is_malformed(deployment, key):
    with pytest.raises(MalformedMessage):
        uploads_in(deployment.notification(anything(), key=key))


def anything() -> Any:
    return Upload(JobRef("T1", ID), ObjectRef("", "v1", 1))


def test_planning_reads_no_file_for_a_checksum_that_nobody_declared(deployment, monkeypatch):
    task = deployment.start("text-stats", DATA)
    monkeypatch.setattr(ObjectStore, "sha256_of", lambda *_: pytest.fail("the file was read for its checksum"))
    assert deployment.plan(task).outcome == "planned"
