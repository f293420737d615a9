"""What an earlier version stored, in the middle of its jobs, is taken up by the code of today."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import get_args, get_type_hints

import pytest

from backhaul import Transient
from backhaul.model import versions
from backhaul.model.breaker import Phase
from backhaul.model.dead_letter import ChunkDeadLetter
from backhaul.model.errors import UnreadableRecord
from backhaul.model.job import JobState
from backhaul.model.shard import Shard
from backhaul.model.task import RunTask, ShardTask
from backhaul.model.versions import VERSIONS, Rename, StoredRecord
from backhaul.operations.contents import Malformed, Queue, read
from backhaul.paid import channels as channel_module
from backhaul.stages.announce import Change
from backhaul.stages.command import raise_budget
from backhaul.stages.conclude import conclude_shard
from backhaul.stages.plan import Planned
from backhaul.stages.process import Outcome, Work
from backhaul.store import queues
from backhaul.store.budgets import BudgetKey
from backhaul.store.job_item import item_of
from backhaul.store.steps import Price
from tests.stages.operator_seat import make_operator
from tests.stages.stored import DATA, STORED, Model, Stored

NEWER = {"N": "99"}
HOUR = 3600
COST = (10 * 100 + 20 * 1000) * 1000
"""Nanodollars a call."""


@pytest.fixture
def model(monkeypatch):
    made = Model()
    monkeypatch.setattr(channel_module, "open_provider", lambda *_, **__: made)
    return made


@pytest.fixture
def stored(deployment, model):
    return Stored(deployment)


def missing(deployment, job):
    return [chunk["index"] for chunk in deployment.receipt(job)["missing"]]


# Jobs before, in the midst of and after their runs


def test_every_job_is_read_as_it_stood(stored):
    states = {role: stored.deployment.job(stored.ref(role)).state for role in stored.names}
    early = {"awaiting": "AWAITING_UPLOAD", "uploaded": "AWAITING_UPLOAD", "queued": "QUEUED", "merging": "MERGING"}
    ended = {role: role.upper() for role in ("succeeded", "partial", "failed", "paused", "cancelled", "expired")}
    assert states == dict.fromkeys(stored.names, "RUNNING") | early | ended
    policy = stored.deployment.job(stored.ref("queued")).policy
    assert (policy.tolerate, policy.fail_fast, policy.record_seconds) == ("50%", True, 60)
    assert (policy.deadline_seconds, policy.priority, policy.max_cost, policy.cache) == (7200, 7, Decimal("2.5"), True)


def test_a_chunk_that_was_done_in_part_goes_on_with_the_processors_state(stored):
    job = stored.finish("open")
    expected = b"".join(b"%d line %04d\n" % (number + 1, number) for number in range(40))
    assert (job.state, stored.deployment.read(job.output)) == (JobState.SUCCEEDED, expected)
    assert 0 < len(stored.done) < 40
    assert job.counts.tallies == {"numbered": 40}


def test_tries_that_were_made_count_and_the_policy_that_was_stored_says_how_many_there_are(stored):
    stored.trouble["line 0004"] = Transient("busy")
    stored.deployment.clock.advance(seconds=60)
    job = stored.finish("suspect")
    assert (job.state, missing(stored.deployment, job)) == (JobState.PARTIAL, [0])
    (dead_letter,) = (each for each in stored.deployment.dead_letters() if each["job_id"] == job.ref.job_id)
    assert [len(value) for value in dead_letter.values() if isinstance(value, list)] == [2], "one before, one of today"


def test_a_shard_that_waited_for_a_limit_uses_the_call_that_was_reserved_for_it(stored, model):
    record = stored.deployment.store.shards.get(stored.ref("waiting"), 0)
    assert record.wait.what == "slow has no room under its limit"
    (task,) = stored.shard_tasks("waiting")
    stored.deployment.clock.advance(seconds=stored.read("states")["waiting"]["last"]["seconds"])
    assert stored.deployment.process(task).outcome == "wait"
    assert model.asked == ["line 0001"], "the first was asked and paid for"


def test_a_chunk_that_had_failed_stays_failed_and_its_siblings_go_on(stored):
    job = stored.finish("failed_chunk")
    assert (job.state, missing(stored.deployment, job)) == (JobState.PARTIAL, [1])
    (chunk,) = stored.deployment.receipt(job)["missing"]
    dead_letters = {each["message_id"] for each in stored.deployment.dead_letters()}
    assert chunk["message_id"] in dead_letters
    assert len(stored.done) == 20


def test_what_a_worker_that_died_had_asked_is_not_asked_again_and_its_death_is_counted(stored):
    stored.deployment.clock.advance(seconds=60)
    job = stored.finish("died")
    assert (job.state, stored.deployment.read(job.output)) == (JobState.SUCCEEDED, DATA.upper())
    assert job.counts.retries >= 1
    assert len(stored.done) < 40


def test_what_step_functions_gave_up_is_missing_for_the_reason_it_said(stored):
    given = stored.read("states")["crashed"]
    store = stored.deployment.store
    task = ShardTask.from_state(given)
    conclude_shard(task, given["error"]["Error"], given["error"]["Cause"], jobs=store.jobs, shards=store.shards)
    job = stored.deployment.merge(stored.task("crashed"))
    assert (job.state, missing(stored.deployment, job)) == (JobState.PARTIAL, [2, 3])
    assert {each["cause"]["code"] for each in stored.deployment.receipt(job)["missing"]} == {"worker_died"}


@pytest.mark.parametrize(
    ("role", "state"), [("stopping", JobState.CANCELLED), ("lost", JobState.PARTIAL), ("merging", JobState.SUCCEEDED)]
)
def test_a_run_that_was_about_to_end_ends(stored, role, state):
    given = stored.read("states")[role]
    job = stored.deployment.merge(RunTask.from_state(given))
    assert job.state is state
    written = len(DATA) if state is JobState.SUCCEEDED else 100
    assert stored.deployment.read(job.output) == DATA[:written].upper()


def test_a_redrive_that_was_under_way_does_what_was_missing(stored):
    job = stored.finish("redriven")
    assert (job.state, job.run, stored.deployment.read(job.output)) == (JobState.SUCCEEDED, 2, DATA.upper())
    assert stored.deployment.store.jobs.of_run(job, 1).state is JobState.PARTIAL
    assert len(stored.done) < 10


def test_money_that_a_dead_worker_held_is_settled(stored, model):
    before = stored.deployment.store.budgets.get(BudgetKey.of_job(stored.ref("paying")))
    assert before.held > 0
    stored.deployment.clock.advance(seconds=60)
    job = stored.finish("paying")
    assert (job.state, stored.deployment.read(job.output)) == (JobState.SUCCEEDED, DATA.upper())
    after = stored.deployment.store.budgets.get(BudgetKey.of_job(job.ref))
    assert after.held == 0
    assert after.spent >= before.spent + len(model.asked) * COST
    assert len(model.asked) < 40


@pytest.mark.parametrize("role", ["partial", "failed", "cancelled"])
def test_a_job_that_had_ended_is_redriven(stored, role):
    done = stored.deployment.redrive(stored.ref(role))
    assert (done.started, done.job.state, done.job.run) == (True, JobState.RUNNING, 2)
    stored.deployment.plan(RunTask(done.job.ref, 2))
    stored.names[role]["run"] = 2
    job = stored.finish(role)
    assert (job.state, stored.deployment.read(job.output)) == (JobState.SUCCEEDED, DATA.upper())


def test_a_job_that_was_paused_goes_on_with_more_money_and_asks_nothing_twice(stored, model):
    ref, store = stored.ref("paused"), stored.deployment.store
    stores = {name: getattr(store, name) for name in ("jobs", "shards", "objects", "slots", "runs", "budgets")}
    done = raise_budget(ref, Decimal(5), "worth it", **stores, clock=stored.deployment.clock)
    assert done.started
    stored.names["paused"]["run"] = 2
    stored.deployment.plan(stored.task("paused"))
    job = stored.finish("paused")
    assert (job.state, stored.deployment.read(job.output)) == (JobState.SUCCEEDED, DATA.upper())
    assert 0 < len(model.asked) < 40


def test_the_sweep_sees_to_jobs_that_wait(stored):
    deployment, slots = stored.deployment, stored.deployment.store.slots
    assert slots.get().paused_tenants["T9"].reason == "the provider is down"
    assert slots.resume("T9", slots.get().paused_tenants["T9"])
    deployment.clock.advance(hours=2)
    deployment.swept().raise_problems()
    assert deployment.job(stored.ref("awaiting")).state is JobState.EXPIRED
    assert deployment.job(stored.ref("uploaded")).state is JobState.RUNNING
    queued = deployment.job(stored.ref("queued"))
    assert queued.state is JobState.RUNNING
    deployment.plan(stored.task("queued"))
    assert stored.finish("queued").state is JobState.SUCCEEDED


def test_a_message_of_an_upload_that_waited_in_the_queue_is_handled(stored):
    (message,) = stored.read("messages")["intake"]
    (job,) = stored.deployment.receive(message["body"])
    assert (job.ref, job.state) == (stored.ref("uploaded"), JobState.RUNNING)


# Dead letters, the stream, audit records, what guards calls


def test_dead_letters_are_shown_and_redriven(stored, monkeypatch):
    monkeypatch.setattr(queues, "WAIT_SECONDS", 0)
    operator = make_operator(stored.deployment)
    found = operator.dead_letters(job=stored.ref("partial").job_id)
    assert {dead_letter.chunk.chunk for dead_letter in found} == {1}
    assert all(dead_letter.chunk.cause.code == "processor_error" for dead_letter in found)
    settled = operator.redrive(job=stored.ref("partial").job_id)
    assert operator.runs_started == [stored.ref("partial")]
    assert [each.result.status for each in settled] == ["redriven"]
    for queue, messages in stored.read("messages").items():
        assert not any(isinstance(read(Queue(queue), each["body"]), Malformed) for each in messages)


def test_changes_in_the_stream_are_announced(stored):
    heard = []

    class Bus:
        def publish(self, events):
            heard.extend(events)
            return []

    changes = [Change(each["SequenceNumber"], each["OldImage"], each["NewImage"]) for each in stored.read("stream")]
    assert stored.deployment.announce(changes, Bus()) is None
    assert {event.detail.state for event in heard} == set(JobState) - {"AWAITING_UPLOAD", "MERGING"}


def test_what_guards_calls_is_read_as_it_stood(stored):
    store, now = stored.deployment.store, stored.deployment.clock.now()
    assert [each.provider.name for each in store.providers.list()] == ["acme", "down", "slow"]
    assert (store.breakers.get("down").state, store.breakers.get("acme").state) == (Phase.OPEN, Phase.CLOSED)
    assert sum(count.calls for count in store.breakers.get("acme").counts.values()) == 5
    assert store.limits.get("slow").requests > 0
    assert store.budgets.get(BudgetKey.of_stack(now.date())).cap == 10**12
    assert store.budgets.get(BudgetKey.of_tenant("T1", now.date())).usage["acme"].calls > 0
    assert store.slots.get().members >= {stored.ref("open"), stored.ref("redriven")}
    assert {each.action: each.outcome for each in store.audit.newest()} == {"discard": "begun", "redrive": "redriven"}


# What the state machine hands around


def test_a_worker_takes_what_an_execution_of_the_old_definition_hands_to_it(stored):
    given = stored.read("states")["died"]
    assert (ShardTask.from_state(given).left, ShardTask.from_state(given).overtaken) == (1, True)
    for last in ({}, {"outcome": "wait", "seconds": 3}, {"outcome": "continue", "seconds": 0, "attempt": 4}):
        task = ShardTask.from_state(given | {"last": last})
        assert (task.left, task.overtaken) == (last.get("attempt", 0), False)
    bare = {name: value for name, value in given.items() if name != "last"}
    del bare["shard"]["skip"]
    assert ShardTask.from_state(bare).shard.skip == frozenset()


def test_the_old_definition_knows_every_outcome_of_today():
    states = json.loads((STORED / "v1" / "definition.json").read_text())["States"]
    child = states["shards"]["ItemProcessor"]["States"]
    choices = {each["StringEquals"]: each["Next"] for each in child["finished?"]["Choices"]}
    outcomes = get_args(get_type_hints(Outcome)["outcome"])
    assert {name: choices.get(name, child["finished?"]["Default"]) for name in outcomes} == {
        "done": "done",
        "continue": "process",
        "wait": "wait",
    }
    answer = Outcome("wait", Work("p"), 5).to_state()
    assert answer["seconds"] == 5
    assert child["wait"]["SecondsPath"] == "$.last.seconds"
    planned = {each["StringEquals"]: each["Next"] for each in states["planned?"]["Choices"]}
    outcomes = get_args(get_type_hints(Planned)["outcome"])
    known = {name: planned.get(name, states["planned?"]["Default"]) for name in outcomes}
    assert known == {"planned": "shards", "complete": "merge", "ended": "ended"}
    assert "plan_key" in get_type_hints(Planned)


# Executions that began before the update: they keep their definition, and call the functions of today


class Once(dict[str, Exception]):
    """Trouble that is over once it has come."""

    def __getitem__(self, record: str) -> Exception:
        return self.pop(record)


def start_queued(stored):
    deployment, slots = stored.deployment, stored.deployment.store.slots
    slots.resume("T9", slots.get().paused_tenants["T9"])
    deployment.swept().raise_problems()
    assert deployment.job(stored.ref("queued")).state is JobState.RUNNING


def test_an_old_execution_waits_retries_and_ends_with_the_functions_of_today(stored):
    start_queued(stored)
    stored.trouble = Once({"line 0004": Transient("not yet", retry_after=HOUR)})
    execution = stored.execute("queued", crashes=2)
    job = stored.deployment.job(stored.ref("queued"))
    assert (execution.ended, job.state) == (("SUCCEEDED", "", ""), JobState.SUCCEEDED)
    assert stored.deployment.read(job.output) == DATA.upper()
    assert sorted(stored.done) == DATA.decode().splitlines(), "each was worked on once"
    assert job.counts.retries == 0, "the crashed calls began nothing, and who waited has not died"
    (waited,) = (each for each in execution.answers("process") if each["outcome"] == "wait")
    assert waited["timeout"] >= HOUR, "a definition of today would park it"
    assert execution.machine.time >= HOUR


def test_an_old_execution_names_the_shard_that_it_gave_up(stored):
    start_queued(stored)
    execution = stored.execute("queued", crashes=6)
    job = stored.deployment.job(stored.ref("queued"))
    assert job.policy.fail_fast
    assert (execution.ended[0], job.state, missing(stored.deployment, job)) == ("SUCCEEDED", JobState.FAILED, [0])
    assert {each["cause"]["code"] for each in stored.deployment.receipt(job)["missing"]} == {"worker_died"}


@pytest.mark.parametrize("of", ["plan", "merge"])
def test_an_old_execution_that_cannot_go_on_says_why(stored, of):
    start_queued(stored)
    execution = stored.execute("queued", crashes=6, of=of)
    job = stored.deployment.job(stored.ref("queued"))
    assert (job.state, job.cause.code) == (JobState.FAILED, "run_failed")
    assert execution.ended == ("FAILED", "Runtime.ExitError", "exited without an answer")


def test_an_old_execution_merges_what_a_lost_run_left(stored):
    execution = stored.execute("lost")
    assert [name for name, _ in execution.calls] == ["merge"]
    job = stored.deployment.job(stored.ref("lost"))
    assert (job.state, stored.deployment.read(job.output)) == (JobState.PARTIAL, DATA[:100].upper())


# A newer version


def test_a_job_of_a_newer_version_is_unreadable(stored):
    ref = stored.ref("succeeded")
    stored.change("jobs", f"T#{ref.tenant}#J#{ref.job_id}", "JOB", schema_version=NEWER)
    with pytest.raises(UnreadableRecord, match=r"version 99.*up to 2\. Another version of Backhaul wrote it"):
        stored.deployment.job(ref)


def test_an_ended_run_of_a_newer_version_is_unreadable(stored):
    job = stored.deployment.job(stored.ref("redriven"))
    stored.change("jobs", f"T#{job.ref.tenant}#J#{job.ref.job_id}", "RUN#000001", schema_version=NEWER)
    with pytest.raises(UnreadableRecord, match="run 1 of job"):
        stored.deployment.store.jobs.of_run(job, 1)


def test_a_shard_of_a_newer_version_is_neither_read_nor_claimed(stored):
    ref, shards = stored.ref("open"), stored.deployment.store.shards
    (task,) = stored.shard_tasks("open")
    before = shards.get(ref, 0).attempt
    stored.change("jobs", f"T#{ref.tenant}#J#{ref.job_id}", "SHARD#000000", schema_version=NEWER)
    for use in (lambda: shards.get(ref, 0), lambda: list(shards.all(ref)), lambda: stored.deployment.process(task)):
        with pytest.raises(UnreadableRecord, match="shard 0"):
            use()
    stored.change("jobs", f"T#{ref.tenant}#J#{ref.job_id}", "SHARD#000000")
    assert shards.get(ref, 0).attempt == before


def test_a_step_of_a_newer_version_is_unreadable(stored):
    ref, steps = stored.ref("died"), stored.deployment.store.steps
    pk = f"T#{ref.tenant}#J#{ref.job_id}"
    sk = next(each["sk"]["S"] for each in stored.items("jobs") if each["pk"]["S"] == pk and "STEP" in each["sk"]["S"])
    stored.change("jobs", pk, sk, schema_version=NEWER)
    with pytest.raises(UnreadableRecord, match="a step of job"):
        steps.recall(ref, 0, start=0, position=0)


def test_what_is_handed_on_by_a_newer_version_is_unreadable(stored):
    given = stored.read("states")["died"]
    line = given["shard"] | {"schema_version": 99}
    for state in (
        given | {"schema_version": 99},
        given | {"last": {"schema_version": 99}},
        given | {"shard": line},
    ):
        with pytest.raises(UnreadableRecord, match="version 99"):
            ShardTask.from_state(state)


def test_a_dead_letter_of_a_newer_version_is_named_as_such(stored):
    body = json.loads(stored.read("messages")["failed-chunks"][0]["body"]) | {"schema_version": 99}
    found = read(Queue.FAILED_CHUNKS, json.dumps(body))
    assert isinstance(found, Malformed)
    assert "version 99" in found.why


# What today's code writes


def test_every_record_that_is_written_says_its_version(deployment):
    ran = deployment.run("text-stats", DATA)
    job = item_of(ran)
    assert job["schema_version"] == {"N": str(VERSIONS[StoredRecord.JOB])}
    assert json.loads(Shard.from_value(_line()).to_line())["schema_version"] == VERSIONS[StoredRecord.PLAN_LINE]
    assert Outcome("done", Work("p")).to_state()["schema_version"] == VERSIONS[StoredRecord.OUTCOME]
    assert deployment.receipt(ran)["schema_version"] == VERSIONS[StoredRecord.RECEIPT]
    deployment.store.steps.keep(ran.ref, 0, (0, "s"), b"1", price=Price(1, 2, 3))
    deployment.store.jobs.keep_run(ran)
    items = deployment.store.jobs._client.query(
        TableName="jobs",
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": f"T#{ran.ref.tenant}#J#{ran.ref.job_id}"}},
    )["Items"]
    assert {each["sk"]["S"].split("#")[0] for each in items} == {"JOB", "RUN", "SHARD", "STEP"}
    assert all("schema_version" in each for each in items)


def test_a_dead_letter_of_today_comes_back_as_it_went_out(stored):
    body = stored.read("messages")["failed-chunks"][0]["body"]
    dead_letter = ChunkDeadLetter.from_json(body)
    assert ChunkDeadLetter.from_json(dead_letter.to_json()) == dead_letter


def _line():
    return {"shard": 0, "first_chunk": 0, "bounds": [0, 4], "quoted": []}


# A field with another name


@pytest.fixture
def renamed(monkeypatch):
    """As if `records` of a shard and `cause` of a job had other names in version 1."""
    renames = {
        StoredRecord.SHARD: (Rename(2, "old_records", "records"),),
        StoredRecord.JOB: (Rename(2, "old_cause", "cause"),),
    }
    added = {record: (*versions.RENAMES.get(record, ()), *more) for record, more in renames.items()}
    monkeypatch.setattr(versions, "RENAMES", versions.RENAMES | added)


@pytest.mark.usefixtures("renamed")
def test_what_is_written_under_its_new_name_is_not_found_under_the_old_one(stored):
    ref, store = stored.ref("partial"), stored.deployment.store
    pk = f"T#{ref.tenant}#J#{ref.job_id}"
    stored.change("jobs", pk, "SHARD#000000", records=None, old_records={"N": "7"})
    stored.change("jobs", pk, "JOB", cause=None, old_cause={"M": {"code": {"S": "c"}, "message": {"S": "So."}}})
    assert store.shards.get(ref, 0).records == 7
    assert store.jobs.get(ref).cause.message == "So."
    record = store.shards.claim(ref, Shard.from_value(_line()), 1)
    store.shards.commit(ref, replace(record, records=9))
    again = store.jobs.reopen(store.jobs.get(ref), due_at=stored.deployment.clock.now())
    assert (store.shards.get(ref, 0).records, again.cause, store.jobs.get(ref).cause) == (9, None, None)
