"""POST /jobs: what is refused, what is stored, and what the upload form allows."""

import base64
import hashlib
import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from backhaul.model import keys
from backhaul.model.errors import InvalidOption, InvalidRequest, KeyReused, UnknownProcessor
from backhaul.model.idempotency import new_key
from backhaul.model.job import JobRef, JobState
from backhaul.model.policy import Policy
from backhaul.stages.submit import Submission
from backhaul.store import Store

SHA256 = hashlib.sha256(b"hello").hexdigest()


def body(**changes: Any) -> str:
    return json.dumps({"processor": "text-stats", "file_name": "a.txt", "size": 5} | changes)


def policy_of(form: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(base64.b64decode(form.fields["policy"]))
    return document


def test_a_request_is_read_as_it_was_written():
    wanted = Submission.from_json(body(options={"top": 5}, sha256=SHA256))
    assert wanted == Submission("text-stats", "a.txt", 5, {"top": 5}, SHA256)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "truncated"),
        ("{", "truncated"),
        ("not json", "malformed"),
        ("null", "Expected `object`"),
        ("[]", "Expected `object`"),
        (b"\xff\xfe", "malformed"),
        ('{"file_name": "a", "size": 1}', "missing required field `processor`"),
        (body(size="5"), r"Expected `int`, got `str` - at `\$.size`"),
        (body(size=1.5), r"\$.size"),
        (body(size=True), r"\$.size"),
        (body(options=[1]), r"\$.options"),
        (body(bucket="other"), "unknown field `bucket`"),
        (body(tenant="T2"), "unknown field `tenant`"),
        (body(processor=None), r"\$.processor"),
        (body(sha256="abc"), "sha256 must be 64 hexadecimal digits"),
        (body(sha256=SHA256.upper()), "lower case"),
        (body(sha256=SHA256 + "\n"), "sha256"),
        (body(file_name=""), "file_name"),
        (body(file_name="x" * 256), "file_name"),
        (body(file_name="a\nb"), "file_name"),
        (body(file_name="\u202ekcab"), "file_name"),
        (body().replace("a.txt", "\\ud800"), "surrogate"),
        (body(options=0).replace("0", "[" * 100_000, 1), "recursion"),
        (body(size=5).replace("5", "9" * 5000), "out of range"),
    ],
)
def test_a_request_that_is_wrong_names_what_is_wrong(text, said):
    with pytest.raises(InvalidRequest, match=said):
        Submission.from_json(text)


def test_an_unknown_processor_is_refused_with_the_known_ones(deployment):
    with pytest.raises(UnknownProcessor, match=r"'txet-stats'.*redact, text-stats"):
        deployment.submit("txet-stats", b"x")


def test_an_unknown_option_is_refused_with_the_known_ones(deployment):
    with pytest.raises(InvalidOption, match=r"'tpo'.*top, chunk_bytes"):
        deployment.submit("text-stats", b"x", options={"tpo": 1})


def test_an_option_out_of_range_is_refused(deployment):
    with pytest.raises(InvalidOption, match="'top' is not valid"):
        deployment.submit("text-stats", b"x", options={"top": -1})


def test_an_empty_file_is_refused(deployment):
    with pytest.raises(InvalidRequest, match="empty"):
        deployment.submit("text-stats", b"")


class Sized(bytes):
    """Data that is as long as it says."""

    def __len__(self) -> int:
        return self.claimed

    claimed = 0


def sized(size: int) -> Sized:
    data = Sized()
    data.claimed = size
    return data


def test_the_largest_size_is_taken_and_one_byte_more_is_refused(deployment):
    largest = deployment.settings.max_upload_bytes
    assert deployment.submit("text-stats", sized(largest)).job.declared_size == largest
    with pytest.raises(InvalidRequest, match="takes 5,368,709,120 at most"):
        deployment.submit("text-stats", sized(largest + 1))


def test_too_many_chunks_are_refused_with_the_size_that_works(deployment):
    assert deployment.submit("text-stats", sized(100_000), options={"chunk_bytes": 1})
    with pytest.raises(InvalidOption, match="use at least 2"):
        deployment.submit("text-stats", sized(100_001), options={"chunk_bytes": 1})


@pytest.mark.parametrize(
    ("settings", "policy", "said"),
    [
        ({"worker_seconds": 300}, Policy(record_seconds=295), None),
        ({"worker_seconds": 300}, Policy(record_seconds=296), "a worker of this deployment has 295 s"),
        ({"worker_seconds": 60}, Policy(), None),
        ({"worker_seconds": 60}, Policy(record_seconds=121), "has 55 s for its work"),
        ({"retention_days": 2}, Policy(), None),
        ({"retention_days": 3}, Policy(deadline_seconds=2 * 86_400), None),
        ({"retention_days": 3}, Policy(deadline_seconds=2 * 86_400 + 1), "keeps a job for 3 days.*Use 172,800"),
    ],
)
def test_times_that_the_deployment_cannot_give_are_refused(deployment, settings, policy, said):
    smaller = replace(deployment, settings=replace(deployment.settings, **settings))
    with pytest.raises(InvalidRequest, match=said) if said else nullcontext():
        smaller.submit("text-stats", b"hello", policy=policy)


def test_options_that_would_not_fit_into_the_job_are_refused(deployment):
    with pytest.raises(InvalidOption, match="16,384 at most"):
        deployment.submit("redact", b"x", options={"types": ["email"] * 4000})


def test_nothing_is_stored_for_a_refused_request(deployment):
    with pytest.raises(InvalidRequest):
        deployment.submit("text-stats", b"")
    assert deployment.stream() == []


def test_a_new_job_awaits_its_upload_for_the_window(deployment):
    submitted = deployment.submit("text-stats", b"hello", file_name="größe.txt", options={"top": "3"}, sha256=SHA256)
    job = deployment.job(submitted.job.ref)
    assert job == submitted.job
    assert (job.state, job.moves, job.run) == (JobState.AWAITING_UPLOAD, 0, 0)
    assert (job.file_name, job.declared_size, job.declared_sha256) == ("größe.txt", 5, SHA256)
    assert job.options["top"] == 3
    assert job.due_at == deployment.clock.now() + timedelta(hours=1, minutes=15)


def test_the_record_of_a_job_expires_with_the_retention(deployment):
    deployment.submit("text-stats", b"hello")
    (record,) = deployment.stream()
    expires_at = datetime.fromtimestamp(int(record["dynamodb"]["NewImage"]["expires_at"]["N"]), UTC)
    assert expires_at == deployment.clock.now() + timedelta(days=30)


def test_the_form_takes_exactly_this_file_at_exactly_this_key(deployment):
    submitted = deployment.submit("text-stats", b"hello", sha256=SHA256)
    conditions = policy_of(submitted.upload)["conditions"]
    key = keys.input_key(submitted.job.ref)
    checksum = base64.b64encode(bytes.fromhex(SHA256)).decode()
    assert {"key": key} in conditions
    assert {"bucket": "data"} in conditions
    assert ["content-length-range", 5, 5] in conditions
    assert {"x-amz-checksum-sha256": checksum} in conditions
    assert {"x-amz-checksum-algorithm": "SHA256"} in conditions
    assert not [each for each in conditions if isinstance(each, list) and each[0] == "starts-with"]
    fields = submitted.upload.fields
    assert (fields["key"], fields["x-amz-checksum-sha256"]) == (key, checksum)
    assert {name for each in conditions if isinstance(each, dict) for name in each} - {"bucket"} <= fields.keys()


def test_a_form_without_a_declared_checksum_asks_for_none(deployment):
    submitted = deployment.submit("text-stats", b"hello")
    assert not [name for name in submitted.upload.fields if "checksum" in name]


def test_the_form_expires_with_the_window(deployment):
    before = datetime.now(UTC)
    policy = policy_of(deployment.submit("text-stats", b"hello").upload)
    expires = datetime.fromisoformat(policy["expiration"])
    assert timedelta(minutes=59) < expires - before < timedelta(minutes=61)


def test_a_file_name_never_becomes_part_of_a_key(deployment):
    submitted = deployment.submit("text-stats", b"hello", file_name="../../t/T1/j/x")
    assert submitted.upload.fields["key"] == f"t/{submitted.job.ref.tenant}/j/{submitted.job.ref.job_id}/input/data"
    assert ".." not in json.dumps(policy_of(submitted.upload))


def test_the_form_names_the_region_of_the_bucket(deployment, monkeypatch):
    """S3's global name answers with a redirect while a bucket outside us-east-1 is new, and a form cannot follow."""
    job = deployment.submit("text-stats", b"hello").job
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    objects = Store(deployment.settings).objects
    assert objects.presign_upload(job, seconds=60).url == "https://data.s3.eu-central-1.amazonaws.com/"


def test_the_form_names_the_path_of_an_emulated_bucket(deployment, monkeypatch):
    job = deployment.submit("text-stats", b"hello").job
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:1")
    objects = Store(deployment.settings).objects
    assert objects.presign_upload(job, seconds=60).url == "https://127.0.0.1:1/data"


def test_creating_the_same_job_again_after_a_lost_answer_is_no_error(deployment):
    job = deployment.submit("text-stats", b"hello").job
    deployment.store.jobs.create(job)
    assert deployment.job(job.ref) == job


def test_a_job_never_overwrites_one_that_has_its_id(deployment):
    job = deployment.submit("text-stats", b"hello").job
    deployment.dispatch(deployment.put_input(job.ref, b"hello"))
    queued = deployment.job(job.ref)
    assert deployment.store.jobs.create(job) == queued != job
    assert deployment.job(job.ref) == queued


def calls_of(deployment, service: str) -> list[str]:
    """The operations of a client of the store, from now on."""
    made: list[str] = []
    events = getattr(deployment.store, service)._client.meta.events
    events.register("before-call.*.*", lambda model, **_: made.append(model.name))
    return made


def test_a_submission_that_is_repeated_with_its_key_is_one_job(deployment):
    key = new_key(deployment.clock.now())
    request = {"options": {"top": 5}, "policy": Policy(max_cost=Decimal("2.50")), "sha256": SHA256, "key": key}
    calls = calls_of(deployment, "jobs")
    first = deployment.submit("text-stats", b"hello", **request)
    deployment.clock.advance(seconds=40)
    again = deployment.submit("text-stats", b"hello", **request)
    assert again.job == first.job
    assert (first.is_new, again.is_new) == (True, False)
    assert again.upload.fields["key"] == first.upload.fields["key"]
    ends = [datetime.fromisoformat(policy_of(each.upload)["expiration"]) for each in (first, again)]
    assert 35 <= (ends[0] - ends[1]).total_seconds() <= 40  # botocore's clock runs, and the test's stands
    assert calls == ["PutItem", "PutItem"]


def test_a_repeated_submission_changes_nothing_of_a_job_that_has_moved_on(deployment):
    key = new_key(deployment.clock.now())
    job = deployment.submit("text-stats", b"hello", key=key).job
    deployment.dispatch(deployment.put_input(job.ref, b"hello"))
    moved = deployment.job(job.ref)
    assert deployment.submit("text-stats", b"hello", key=key).job == moved == deployment.job(job.ref)


@pytest.mark.parametrize("changed", [{"options": {"top": 6}}, {"policy": Policy(priority=9)}, {"file_name": "b"}])
def test_a_key_that_comes_with_another_request_is_refused(deployment, changed):
    key = new_key(deployment.clock.now())
    job = deployment.submit("text-stats", b"hello", options={"top": 5}, key=key).job
    with pytest.raises(KeyReused, match="new key"):
        deployment.submit("text-stats", b"hello", **{"options": {"top": 5}, "key": key} | changed)
    assert deployment.job(job.ref) == job


def test_the_same_key_of_two_tenants_is_two_jobs_with_two_ids(deployment):
    """A run is named after its job ID alone."""
    key = new_key(deployment.clock.now())
    one, two = (deployment.submit("text-stats", b"hello", tenant=each, key=key).job.ref for each in ("T1", "T2"))
    assert one.job_id != two.job_id


def test_ids_of_jobs_with_keys_sort_by_time_among_those_without(deployment):
    ids = []
    for number in range(6):
        key = new_key(deployment.clock.now()) if number % 2 else None
        ids.append(deployment.submit("text-stats", b"hello", key=key).job.ref.job_id)
        deployment.clock.advance(seconds=1)
    assert ids == sorted(ids)
    assert all(keys.is_job_id(each) for each in ids)


@pytest.mark.parametrize(
    "key",
    [
        "",
        " ",
        "x",
        "00000000-0000-0000-0000-000000000000",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "{0199e0e0-0000-7000-8000-000000000000}",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ],
)
def test_what_is_no_key_is_refused(deployment, key):
    with pytest.raises(InvalidRequest, match="idempotency key"):
        deployment.submit("text-stats", b"hello", key=key)


@pytest.mark.parametrize("minutes", [-61, 61])
def test_a_key_that_was_not_made_in_the_last_hour_is_refused(deployment, minutes):
    key = new_key(deployment.clock.now() + timedelta(minutes=minutes))
    with pytest.raises(InvalidRequest, match="within the last hour"):
        deployment.submit("text-stats", b"hello", key=key)


def test_tenants_whose_names_begin_alike_have_nothing_in_common(deployment):
    one, ten = (deployment.submit("text-stats", b"hello", tenant=name).job.ref for name in ("T1", "T10"))
    assert not keys.job_prefix(ten).startswith("t/T1/")
    assert not keys.partition(ten).startswith(f"{keys.partition(JobRef('T1', ''))}")
    assert not keys.partition(one).startswith(f"{keys.partition(JobRef('T10', ''))}")
