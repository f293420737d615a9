"""Every change of a job's state becomes one event of the published form."""

import json
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from backhaul.model.events import DETAIL_TYPES
from backhaul.model.job import Cause, JobState, Stop, StopKind
from backhaul.model.task import RunTask
from backhaul.paid.breaker.breaker import Breaker
from backhaul.paid.breaker.rule import BreakerRule, CallReport, CallResult, Permit, Probe
from backhaul.stages.announce import Change, announce
from backhaul.store import EventBus

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schemas/job-event.v1.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=FormatChecker())
BREAKER_SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schemas/breaker-event.v1.json").read_text())
BREAKER_VALIDATOR = Draft202012Validator(BREAKER_SCHEMA, format_checker=FormatChecker())
DATA = b"one line\n"


class Bus:
    """A bus that hears everything but what it is told to refuse."""

    def __init__(self, refuse: set[str] | None = None) -> None:
        self.batches: list[list[Any]] = []
        self.refuse = refuse or set()

    def publish(self, events):
        self.batches.append(list(events))
        return [event for event in events if event.detail.event_id in self.refuse]

    @property
    def heard(self) -> list[Any]:
        return [event for batch in self.batches for event in batch]


@pytest.fixture
def bus() -> Bus:
    return Bus()


def announced(deployment: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Publish the whole stream through the real bus client; returns the entries that it sent."""
    sent: list[dict[str, Any]] = []
    client = boto3.client("events")
    put = client.put_events

    def spy(Entries):  # noqa: N803  # boto3's own name
        sent.extend(Entries)
        return put(Entries=Entries)

    monkeypatch.setattr(client, "put_events", spy)
    assert deployment.announce(deployment.changes(), EventBus(client, "bus")) is None
    return sent


def objects_described(schema: dict[str, Any]) -> Any:
    """Every object schema of the contract."""
    if isinstance(schema, dict):
        if "properties" in schema and "type" in schema:
            yield schema
        for each in schema.values():
            yield from objects_described(each)
    if isinstance(schema, list):
        for each in schema:
            yield from objects_described(each)


def test_the_contract_is_a_valid_schema_and_describes_every_field():
    Draft202012Validator.check_schema(SCHEMA)
    for each in objects_described(SCHEMA):
        assert each["additionalProperties"] in (True, {"type": "integer"})
        for name, field in each["properties"].items():
            assert "description" in field or "$ref" in field, name


def test_the_contracts_own_examples_are_valid_and_show_every_announced_state():
    for example in SCHEMA["examples"]:
        VALIDATOR.validate(example)
    assert {example["state"] for example in SCHEMA["examples"]} == set(DETAIL_TYPES)
    assert set(SCHEMA["properties"]["state"]["enum"]) == set(DETAIL_TYPES)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "MERGING"},
        {"schema_version": 2},
        {"event_id": ""},
        {"state": "FAILED", "cause": None},
        {"state": "SUCCEEDED", "output": None},
        {"counts": {"chunks": -1}},
        {"run": -1},
        {"run": "1"},
        {"tenant": None},
    ],
)
def test_the_contract_refuses_what_is_no_event(change):
    example = next(each for each in SCHEMA["examples"] if each["state"] == "SUCCEEDED")
    assert not VALIDATOR.is_valid(example | change)


def a_job(deployment: Any) -> Any:
    return deployment.submit("text-stats", DATA, options={"chunk_bytes": 4}).job.ref


def end_of(deployment: Any, state: JobState) -> None:
    if state is JobState.SUCCEEDED:
        deployment.run("text-stats", DATA)
    elif state is JobState.EXPIRED:
        a_job(deployment)
        deployment.clock.advance(hours=2)
        deployment.sweep()
    elif state is JobState.FAILED:
        deployment.run("text-stats", b"caf\xe9\n")
    elif state is JobState.CANCELLED:
        deployment.cancel(a_job(deployment), "The owner wants it no more")
    else:
        task = deployment.start("text-stats", DATA, options={"chunk_bytes": 4})
        deployment.plan(task)
        first, *_ = deployment.shard_tasks(task)
        deployment.process(first)
        if state is JobState.PAUSED:
            spent = Stop(StopKind.BUDGET, Cause("budget_spent", "The job's $1.00 are spent."), deployment.clock.now())
            deployment.store.jobs.request_stop(deployment.job(task.job), spent)
        assert deployment.merge(task).state is state


@pytest.mark.parametrize("state", [state for state in DETAIL_TYPES if state.is_terminal])
def test_every_event_on_the_way_to_every_ending_keeps_the_contract(deployment, monkeypatch, state):
    end_of(deployment, state)
    entries = announced(deployment, monkeypatch)
    known = SCHEMA["properties"].keys()
    for entry in entries:
        detail = json.loads(entry["Detail"])
        VALIDATOR.validate(detail)
        assert detail.keys() == known
        assert entry["Source"] == "backhaul"
        assert entry["DetailType"] == DETAIL_TYPES[JobState(detail["state"])]
        assert entry["EventBusName"] == "bus"
    last = json.loads(entries[-1]["Detail"])
    assert last["state"] == state
    assert len([entry for entry in entries if JobState(json.loads(entry["Detail"])["state"]).is_terminal]) == 1


def test_a_job_that_succeeds_is_announced_when_queued_started_and_done(deployment, bus):
    job = deployment.run("text-stats", DATA)
    assert deployment.announce(deployment.changes(), bus) is None
    assert [event.detail_type for event in bus.heard] == ["Job Queued", "Job Started", "Job Succeeded"]
    last = bus.heard[-1].detail
    assert last.event_id == f"{job.ref.job_id}.{job.moves}"
    assert (last.output.bucket, last.output.key, last.output.version_id) == (
        "data", job.output.key, job.output.version_id,
    )  # fmt: skip
    assert last.counts == job.counts
    assert bus.heard[-1].time == job.ended_at


def test_each_event_has_an_id_of_its_own_and_a_duplicate_has_the_same(deployment, bus):
    deployment.run("text-stats", DATA)
    changes = deployment.changes()
    deployment.announce(changes, bus)
    first = [event.detail.event_id for event in bus.heard]
    deployment.announce(changes, bus)
    again = [event.detail.event_id for event in bus.heard][len(first) :]
    assert first == again
    assert len(set(first)) == len(first)


def test_a_change_that_moves_no_state_is_silent(deployment, bus):
    task = deployment.start("text-stats", DATA)
    before = len(deployment.changes())
    deployment.store.jobs.note(deployment.job(task.job), due_at=deployment.clock.now())
    deployment.plan(task)
    for shard in deployment.shard_tasks(task):
        deployment.process(shard)
    noted = deployment.changes()[before:]
    assert len(noted) > 3
    deployment.announce(noted, bus)
    assert bus.heard == []


def test_the_processors_own_words_stay_out_of_events(deployment, bus, monkeypatch):
    job = deployment.job(a_job(deployment))
    deployment.store.jobs.move(job, JobState.FAILED, cause=Cause("processor_error", "It raised.", detail="secret"))
    deployment.announce(deployment.changes(), bus)
    (event,) = bus.heard
    assert event.detail.cause == Cause("processor_error", "It raised.")


def test_a_removed_job_is_not_announced_and_blocks_nothing(deployment, bus):
    ended = deployment.run("text-stats", DATA)
    boto3.client("dynamodb").delete_item(
        TableName="jobs",
        Key={"pk": {"S": f"T#{ended.ref.tenant}#J#{ended.ref.job_id}"}, "sk": {"S": "JOB"}},
    )
    last = deployment.changes()[-1]
    assert (last.after, bool(last.before)) == ({}, True)
    assert deployment.announce([last], bus) is None
    assert bus.heard == []


def many(deployment: Any, count: int) -> list[Change]:
    for _ in range(count):
        deployment.cancel(a_job(deployment))
    return [change for change in deployment.changes() if change.before]


def test_more_than_ten_changes_go_out_in_order_ten_at_a_time(deployment, bus):
    changes = many(deployment, 23)
    assert deployment.announce(changes, bus) is None
    assert [len(batch) for batch in bus.batches] == [10, 10, 3]
    assert [event.detail.job_id for event in bus.heard] == [change.after["job_id"]["S"] for change in changes]


@pytest.mark.parametrize("refused", [{0}, {9}, {10}, {3, 4}, {14, 20}])
def test_a_refusal_names_the_first_change_to_be_read_again_and_sends_nothing_after_its_batch(deployment, refused):
    changes = many(deployment, 23)
    ids = [f"{change.after['job_id']['S']}.{change.after['moves']['N']}" for change in changes]
    bus = Bus({ids[number] for number in refused})
    assert deployment.announce(changes, bus) == changes[min(refused)].sequence_number
    assert len(bus.heard) == (min(refused) // 10 + 1) * 10


def test_what_the_bus_refuses_comes_back_from_its_client(deployment, monkeypatch):
    client = boto3.client("events")
    monkeypatch.setattr(
        client,
        "put_events",
        lambda **_: {
            "FailedEntryCount": 1,
            "Entries": [{"EventId": "1"}, {"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"}],
        },
    )
    changes = many(deployment, 2)
    assert deployment.announce(changes, EventBus(client, "bus")) == changes[1].sequence_number


def test_a_run_that_is_merged_twice_has_one_ending(deployment, bus):
    job = deployment.run("text-stats", DATA)
    deployment.merge(RunTask(job.ref, 1))
    deployment.announce(deployment.changes(), bus)
    assert [event.detail_type for event in bus.heard].count("Job Succeeded") == 1


def test_a_redriven_job_is_announced_again_with_the_number_of_its_run(deployment, monkeypatch):
    task = deployment.start("text-stats", DATA, options={"chunk_bytes": 4})
    deployment.plan(task)
    first, *_ = deployment.shard_tasks(task)
    deployment.process(first)
    deployment.merge(task)
    again = deployment.redrive(task.job).job
    deployment.finish(RunTask(task.job, again.run))
    told = [json.loads(entry["Detail"]) for entry in announced(deployment, monkeypatch)]
    assert [(detail["run"], detail["state"]) for detail in told] == [
        (1, "QUEUED"), (1, "RUNNING"), (1, "PARTIAL"), (2, "QUEUED"), (2, "RUNNING"), (2, "SUCCEEDED"),
    ]  # fmt: skip
    for detail in told:
        VALIDATOR.validate(detail)


def test_what_was_done_of_a_cancelled_job_is_announced_with_its_output(deployment, monkeypatch):
    task = deployment.start("text-stats", DATA, options={"chunk_bytes": 4})
    deployment.plan(task)
    first, *_ = deployment.shard_tasks(task)
    deployment.process(first)
    deployment.cancel(task.job, "the wrong file")
    deployment.merge(task)
    last = json.loads(announced(deployment, monkeypatch)[-1]["Detail"])
    VALIDATOR.validate(last)
    assert (last["state"], last["cause"]["message"]) == ("CANCELLED", "The job was cancelled: the wrong file")
    assert last["output"]["size"] > 0


def test_an_event_from_before_there_were_redrives_still_keeps_the_contract():
    for example in SCHEMA["examples"]:
        VALIDATOR.validate({name: value for name, value in example.items() if name != "run"})


def breaker_changes(deployment: Any) -> list[Change]:
    """Every write of a breaker so far, as the flow table's stream says it."""
    streams = boto3.client("dynamodbstreams")
    (stream,) = streams.list_streams(TableName="flow")["Streams"]
    (shard,) = streams.describe_stream(StreamArn=stream["StreamArn"])["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(
        StreamArn=stream["StreamArn"], ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )
    records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    return [Change.of(record["dynamodb"]) for record in records if record["dynamodb"]["Keys"]["sk"]["S"] == "BREAKER"]


def failing(deployment: Any) -> Breaker:
    """A breaker that enough failures have opened."""
    breaker = Breaker("acme", BreakerRule(), deployment.store.breakers, deployment.clock)
    while isinstance(permit := breaker.may_call(), Permit):
        breaker.report(CallReport(permit, CallResult.FAILED))
        deployment.clock.advance(seconds=0.5)
    return breaker


def test_a_breaker_that_opens_and_closes_is_announced_once_each_whatever_its_probes_find(deployment, monkeypatch):
    breaker = failing(deployment)
    for result in (CallResult.FAILED, CallResult.FAILED, CallResult.OK):
        while not isinstance(permit := breaker.may_call(), Probe):
            deployment.clock.advance(seconds=1)
        breaker.report(CallReport(permit, result))
    changes = breaker_changes(deployment)
    bus = Bus()
    assert announce(changes, bus=bus, bucket="data") is None
    assert [event.detail_type for event in bus.heard] == ["Breaker Opened", "Breaker Closed"]
    opened, closed = (json.loads(msgspec.json.encode(event.detail)) for event in bus.heard)
    for each in (opened, closed):
        BREAKER_VALIDATOR.validate(each)
    assert opened["reason"]
    assert opened["next_probe_at"]
    assert closed["state"] == "closed"
    assert len(changes) > 4


def test_a_breaker_in_a_persons_hands_is_announced_with_who_and_why(deployment):
    breaker = Breaker("acme", BreakerRule(), deployment.store.breakers, deployment.clock)
    breaker.open("by hand", by="arn:aws:iam::1:user/ann", why="The bill is too high.")
    bus = Bus()
    announce(breaker_changes(deployment), bus=bus, bucket="data")
    (event,) = bus.heard
    assert (event.detail.by, event.detail.why) == ("arn:aws:iam::1:user/ann", "The bill is too high.")
    assert event.detail.next_probe_at is None


def test_the_breakers_contract_is_a_valid_schema_whose_examples_are_valid():
    Draft202012Validator.check_schema(BREAKER_SCHEMA)
    for example in BREAKER_SCHEMA["examples"]:
        BREAKER_VALIDATOR.validate(example)
        assert not BREAKER_VALIDATOR.is_valid(example | {"state": "broken"})
