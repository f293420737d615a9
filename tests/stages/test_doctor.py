"""The doctor finds each damage by its own check and no other, mends it once, and leaves what is healthy alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import boto3
import msgspec
import pytest

from backhaul.admission.reconciler import ORPHANED_AFTER, Reconciler
from backhaul.model import keys
from backhaul.model.dead_letter import ChunkDeadLetter
from backhaul.model.errors import Superseded
from backhaul.model.job import Cause, JobRef, JobState, Stop, StopKind
from backhaul.model.policy import Policy
from backhaul.model.task import RunTask
from backhaul.operations.connection import LOCAL_CLOUD, Operations, Outputs
from backhaul.operations.contents import Queue
from backhaul.operations.doctor import CHECKS, SurveyScope, examine, treat
from backhaul.operations.reasons import DeadLetterReason
from backhaul.store import RunStatus, RunStore, SlotStore, queues
from tests.commands import parse
from tests.stages.conftest import TENANT

DATA = b"".join(b"line %04d\n" % number for number in range(40))
WHO = "arn:aws:iam::123456789012:user/operator"
OPTIONS = {"chunk_bytes": 100}
ABSENT_JOB = JobRef(TENANT, "0" * 26)


@pytest.fixture
def operations(deployment, monkeypatch):
    monkeypatch.setattr(queues, "WAIT_SECONDS", 0)
    sqs, settings = boto3.client("sqs"), deployment.settings
    values = {
        name: sqs.create_queue(QueueName=name)["QueueUrl"]
        for name in ("IntakeQueueUrl", *(queue.kind.output for queue in Queue))
    }
    values["AlarmTopicArn"] = boto3.client("sns").create_topic(Name="alarms")["TopicArn"]
    address = {"Protocol": "sqs", "Endpoint": "arn:aws:sqs:us-east-1:123456789012:IntakeQueueUrl"}
    boto3.client("sns").subscribe(TopicArn=values["AlarmTopicArn"], **address)
    return Operations(Outputs("The stack", values), settings, deployment.store, deployment.clock, WHO)


class Ward:
    """A deployment, its doctor, and ways to do damage."""

    def __init__(self, deployment, operations):
        self.deployment = deployment
        self.operations = operations
        self.store = deployment.store
        self.scope = SurveyScope()

    @property
    def slots(self):
        return self.store.slots.get()

    def examine(self):
        return examine(self.operations, self.scope)

    def names(self):
        return [found.check for found in self.examine().findings]

    def treat(self):
        return treat(self.operations, self.scope)

    def start(self, **request):
        return self.deployment.start("redact", DATA, options=OPTIONS, **request)

    def planned(self, **request):
        task = self.start(**request)
        self.deployment.plan(task)
        return task

    def worked(self):
        """A running job with all of its shards done."""
        task = self.planned()
        for shard in self.deployment.shard_tasks(task):
            self.deployment.process(shard)
        return task

    def queued(self, tenant=TENANT):
        """A job that waits although there are slots: whoever queued it was killed before it could start it."""
        job = self.deployment.submit("redact", DATA, options=OPTIONS, tenant=tenant).job
        upload = self.deployment.put_input(job.ref, DATA)
        reconciler = self.reconciler()
        return reconciler.admission.claim(job, upload.object)

    def reconciler(self):
        store = self.store
        return Reconciler(store.jobs, store.objects, store.runs, store.slots, self.deployment.clock)

    def put(self, ref, **values):
        """Write attributes of a job's record past every rule; None removes one."""
        gone = [name for name, value in values.items() if value is None]
        kept = {name: value for name, value in values.items() if value is not None}
        removal = " REMOVE " + ", ".join(f"#{name}" for name in gone) if gone else ""
        setting = "SET " + ", ".join(f"#{name} = :{name}" for name in kept) if kept else ""
        boto3.client("dynamodb").update_item(
            TableName="jobs",
            Key={"pk": {"S": keys.partition(ref)}, "sk": {"S": "JOB"}},
            UpdateExpression=setting + removal,
            ExpressionAttributeNames={f"#{name}": name for name in values},
            **({"ExpressionAttributeValues": {f":{name}": value for name, value in kept.items()}} if kept else {}),
        )

    def end(self, ref, status):
        for execution in self.deployment.executions():
            if execution.name.startswith(ref.job_id):
                execution.status = status

    def end_well(self, task):
        """End a run as it does when all is well: its job first, then its execution, then its slot."""
        job = self.deployment.finish(task)
        self.end(task.job, "SUCCEEDED")
        self.deployment.hand_on(task.job)
        return job

    def advance(self, **step):
        self.deployment.clock.advance(**step)


@pytest.fixture
def ward(deployment, operations):
    return Ward(deployment, operations)


# Damages, each done on purpose: (check, what a repair leads to or None where a person must mend it)


def lose_run(ward):
    ward.end(ward.start().job, "FAILED")


def lose_merge(ward):
    task = ward.worked()
    job = ward.deployment.job(task.job)
    ward.store.jobs.move(job, JobState.MERGING, due_at=ward.deployment.clock.now() + timedelta(minutes=20))
    ward.end(task.job, "TIMED_OUT")


def lose_start(ward):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunStore, "start", lambda *_, **__: None)
        ward.start()
    ward.advance(minutes=3)


def hold_slot_of_nobody(ward):
    ward.store.slots.restore(ABSENT_JOB)


def hold_slot_after_end(ward):
    task = ward.start()
    ward.end_well(task)
    ward.store.slots.restore(task.job)
    ward.advance(minutes=3)


def hold_slot_before_upload(ward):
    ward.store.slots.restore(ward.deployment.submit("redact", DATA).job.ref)


def drop_slot_of_running(ward):
    ward.store.slots.drop(ward.start().job)


def forget_to_start(ward):
    ward.queued()
    ward.advance(minutes=3)


def forget_who_has_a_slot(ward):
    ward.store.slots.most = 1
    assert ward.store.slots.take(ward.queued().ref, 5, 1)
    ward.advance(minutes=3)


def fall_out_of_queue(ward):
    ward.put(ward.queued().ref, queue=None, turn=None)


def fall_out_of_sight_of_the_sweep(ward):
    ward.put(ward.start().job, open_state=None)


def lose_due_time(ward):
    ward.put(ward.start().job, due_at=None)


def stay_among_open_jobs(ward):
    task = ward.start()
    ward.end_well(task)
    ward.put(task.job, open_state={"S": "RUNNING"}, due_at={"S": "2026-11-22T12:00:00Z"})


def miscount(ward):
    task = ward.start()
    job = ward.end_well(task)
    ward.store.jobs.note(job, counts=replace(job.counts, records=7, chunks_done=1))


def lose_the_event_of_an_upload(ward):
    ward.deployment.put_input(ward.deployment.submit("redact", DATA, options=OPTIONS).job.ref, DATA)
    ward.advance(hours=2)


def never_upload(ward):
    ward.deployment.submit("redact", DATA)
    ward.advance(hours=2)


def leave_an_upload_unfinished(ward):
    begun = ward.deployment.s3.create_multipart_upload(Bucket="data", Key=keys.output_key(ABSENT_JOB, 1, "aa"))
    parts = ward.deployment.s3.list_multipart_uploads(Bucket="data")["Uploads"]
    assert begun["UploadId"] == parts[0]["UploadId"]
    ward.deployment.clock.time = parts[0]["Initiated"] + ORPHANED_AFTER
    assert ward.names() == []  # the bucket's lifecycle rule may still remove it
    ward.deployment.clock.advance(seconds=1)


def lose_results(ward):
    task = ward.worked()
    stored = ward.store.objects.sizes(keys.results_prefix(task.job))
    ward.deployment.s3.delete_object(Bucket="data", Key=min(stored))


def lose_results_of_a_paused_job(ward):
    task = ward.planned()
    ward.deployment.process(ward.deployment.shard_tasks(task)[0])
    spent = Stop(StopKind.BUDGET, Cause("budget_exhausted", "It is spent."), ward.deployment.clock.now())
    ward.store.jobs.request_stop(ward.deployment.job(task.job), spent)
    ward.end_well(task)
    stored = ward.store.objects.sizes(keys.results_prefix(task.job))
    ward.deployment.s3.delete_object(Bucket="data", Key=min(stored))
    ward.advance(minutes=3)


def ignore_a_stop(ward):
    job = ward.deployment.job(ward.start().job)
    cause = Cause("cancelled", "The job was cancelled.")
    ward.store.jobs.request_stop(job, Stop(StopKind.CANCEL, cause, ward.deployment.clock.now()))
    ward.advance(minutes=21)


def miss_the_deadline(ward):
    ward.start(policy=Policy(deadline_seconds=60))
    ward.advance(minutes=5)


MENDED = {
    "lost-run": (lose_run, lose_merge),
    "unbegun-run": (lose_start,),
    "idle-slot": (hold_slot_of_nobody, hold_slot_after_end, hold_slot_before_upload),
    "missing-slot": (drop_slot_of_running,),
    "idle-queue": (forget_to_start, forget_who_has_a_slot),
    "unplaced-job": (fall_out_of_queue,),
    "unlisted-job": (fall_out_of_sight_of_the_sweep, lose_due_time, stay_among_open_jobs),
    "wrong-counts": (miscount,),
    "late-upload": (lose_the_event_of_an_upload, never_upload),
    "unfinished-upload": (leave_an_upload_unfinished,),
    "lost-results": (lose_results, lose_results_of_a_paused_job),
    "ignored-stop": (ignore_a_stop,),
    "missed-deadline": (miss_the_deadline,),
}


@pytest.mark.parametrize(
    ("check", "damage"), [(check, damage) for check, damages in MENDED.items() for damage in damages]
)
def test_each_damage_is_found_by_its_check_alone_and_mended_once(ward, check, damage):
    ward.scope = SurveyScope(tenants=(TENANT,))
    damage(ward)
    before = ward.examine()
    assert [found.check for found in before.findings] == [check]
    treated = ward.treat()
    # A run that was ended by force is lost: what it had committed is merged by another.
    followed = ["lost-run"] if check == "ignored-stop" else []
    assert [each.finding.check for each in treated.repairs] == [check, *followed]
    assert all(each.succeeded for each in treated.repairs)
    assert treated.left.findings == ()
    assert ward.examine().findings == ()
    writes = len(ward.deployment.stream())
    assert ward.treat().repairs == ()
    assert len(ward.deployment.stream()) == writes


def test_every_mendable_check_is_damaged_in_these_tests():
    reported = {"stalled-shards", "lost-output", "unreadable-job", "dead-letters", "unheard-alarms"}
    reported |= {"small-quota"}  # in tests/unit/test_lambda_quota.py: moto knows no quotas
    assert {check.name for check in CHECKS} == MENDED.keys() | reported


def test_a_healthy_deployment_with_jobs_in_every_state_shows_nothing(ward):
    deployment = ward.deployment
    ward.scope = SurveyScope(tenants=(TENANT,))
    deployment.submit("redact", DATA)  # AWAITING_UPLOAD
    ward.start()  # RUNNING, not planned
    ward.planned()
    merging = ward.worked()
    job = deployment.job(merging.job)
    ward.store.jobs.move(job, JobState.MERGING, due_at=deployment.clock.now() + timedelta(minutes=20))
    assert ward.end_well(ward.start()).state is JobState.SUCCEEDED
    cancelled = ward.planned()
    deployment.process(deployment.shard_tasks(cancelled)[0])
    deployment.cancel(cancelled.job)
    assert deployment.merge(cancelled).state is JobState.CANCELLED
    ward.end(cancelled.job, "SUCCEEDED")
    deployment.hand_on(cancelled.job)
    paused = ward.planned()
    deployment.process(deployment.shard_tasks(paused)[0])
    spent = Stop(StopKind.BUDGET, Cause("budget_spent", "It is spent."), deployment.clock.now())
    ward.store.jobs.request_stop(deployment.job(paused.job), spent)
    assert deployment.merge(paused).state is JobState.PAUSED
    ward.end(paused.job, "SUCCEEDED")
    deployment.hand_on(paused.job)
    failed = deployment.submit("redact", DATA)
    deployment.dispatch(deployment.put_input(failed.job.ref, DATA + b"more"))
    assert deployment.job(failed.job.ref).state is JobState.FAILED
    expired = deployment.submit("redact", DATA).job
    ward.store.jobs.move(expired, JobState.EXPIRED)
    ward.store.slots.pause("PAUSED", "tests", "me")
    assert deployment.job(ward.queued("PAUSED").ref).state is JobState.QUEUED
    ward.advance(minutes=3)
    assert ward.examine().findings == ()
    states = {job.state for job in ward.store.jobs.newest(TENANT)}
    assert states == set(JobState) - {JobState.QUEUED, JobState.PARTIAL}


def test_a_repair_is_written_down_with_who_and_what(ward):
    task = ward.start()
    ward.store.slots.drop(task.job)
    ward.treat()
    for job in (None, task.job):
        (record,) = ward.store.audit.newest(job)
        assert (record.action, record.who, record.outcome) == ("doctor missing-slot", WHO, "mended: held_slot")
        assert record.job == f"{TENANT}/{task.job.job_id}"
        assert "has no slot" in record.why


def test_an_upload_that_is_claimed_is_run_and_a_lost_run_is_merged_to_its_end(ward):
    lose_the_event_of_an_upload(ward)
    ward.treat()
    (execution,) = ward.deployment.executions()
    job_id = execution.name.removesuffix("-1")
    assert ward.deployment.job(JobRef(TENANT, job_id)).state is JobState.RUNNING
    ward.end(JobRef(TENANT, job_id), "FAILED")
    ward.treat()
    assert [each.name for each in ward.deployment.executions()] == [f"{job_id}-1", f"{job_id}-1-salvage"]


def test_a_slot_that_is_freed_goes_to_who_waits_in_the_same_treatment(ward):
    ward.store.slots.most = 1
    ward.store.slots.restore(ABSENT_JOB)
    waiting = ward.queued()
    ward.advance(minutes=3)
    treated = ward.treat()
    assert [each.finding.check for each in treated.repairs] == ["idle-slot", "idle-queue"]
    assert treated.left.findings == ()
    assert ward.deployment.job(waiting.ref).state is JobState.RUNNING


def test_who_waits_for_good_reason_is_left_waiting(ward):
    ward.store.slots.most_per_tenant = 1
    ward.start()
    ward.queued()
    ward.store.slots.pause("PAUSED", "tests", "me")
    ward.queued("PAUSED")
    ward.advance(minutes=3)
    assert ward.names() == []
    ward.store.slots.most = 1
    ward.queued("OTHER")
    ward.advance(minutes=3)
    assert ward.names() == []
    ward.store.slots.most = 2
    ward.queued("OTHER")
    ward.advance(minutes=3)
    assert ward.names() == ["idle-queue"]


# Races


def test_taking_back_results_fences_the_worker_that_holds_the_shard_and_its_successor_does_all_again(ward):
    deployment = ward.deployment
    task = ward.planned()
    (*others, last) = deployment.shard_tasks(task)
    for shard in others:
        deployment.process(shard)
    held = ward.store.shards.claim(task.job, others[0].shard, task.run)  # a worker that is about to commit
    stored = ward.store.objects.sizes(keys.results_prefix(task.job))
    deployment.s3.delete_object(Bucket="data", Key=min(stored))
    treated = ward.treat()
    assert [each.finding.check for each in treated.repairs] == ["lost-results"]
    with pytest.raises(Superseded):
        ward.store.shards.commit(task.job, held)
    for shard in (others[0], last):
        assert deployment.process(shard).outcome == "done"
    job = deployment.merge(task)
    assert (job.state, job.counts.records, job.counts.retries) == (JobState.SUCCEEDED, 40, 0)
    assert deployment.read(job.output) == DATA


def test_results_that_a_worker_has_written_again_meanwhile_stay(ward):
    task = ward.worked()
    stored = ward.store.objects.sizes(keys.results_prefix(task.job))
    body = deployment_body(ward, min(stored))
    ward.deployment.s3.delete_object(Bucket="data", Key=min(stored))
    (found,) = ward.examine().findings
    ward.deployment.s3.put_object(Bucket="data", Key=min(stored), Body=body)
    assert found.repair() == ""
    job = ward.deployment.merge(task)
    assert (job.state, ward.deployment.read(job.output)) == (JobState.SUCCEEDED, DATA)


def deployment_body(ward, key):
    return ward.deployment.s3.get_object(Bucket="data", Key=key)["Body"].read()


def test_a_job_that_was_redriven_after_it_was_found_keeps_its_new_run(ward):
    task = ward.planned()
    ward.deployment.process(ward.deployment.shard_tasks(task)[0])
    ward.end(task.job, "FAILED")
    (found,) = ward.examine().findings
    assert ward.deployment.merge(task).state is JobState.PARTIAL
    ward.deployment.hand_on(task.job)
    redriven = ward.deployment.redrive(task.job).job
    assert (redriven.state, redriven.run) == (JobState.RUNNING, 2)
    assert found.repair() == ""
    names = [each.name for each in ward.deployment.executions()]
    assert names == [f"{task.job.job_id}-1", f"{task.job.job_id}-2"]
    assert ward.deployment.job(task.job) == redriven
    assert ward.deployment.finish(RunTask(task.job, 2)).state is JobState.SUCCEEDED


def test_a_slot_that_is_given_to_a_job_which_ends_in_that_moment_does_not_leak(ward):
    task = ward.start()
    ward.store.slots.drop(task.job)
    (found,) = ward.examine().findings
    ward.end_well(task)
    assert found.repair() == ""
    assert ward.slots.members == frozenset()


def test_a_slot_is_not_taken_from_a_job_that_was_redriven_meanwhile(ward):
    task = ward.planned()
    ward.deployment.process(ward.deployment.shard_tasks(task)[0])
    ward.deployment.merge(task)
    ward.end(task.job, "SUCCEEDED")
    ward.advance(minutes=3)
    (found,) = ward.examine().findings
    assert found.check == "idle-slot"
    ward.deployment.redrive(task.job)
    assert found.repair() == ""
    assert ward.slots.members == {task.job}


def test_what_is_true_only_between_two_reads_is_not_said(ward, monkeypatch):
    """The job begins after the slots were read and before the job is."""
    waiting = ward.queued()
    get, looks = SlotStore.get, []

    def late(store):
        slots = get(store)
        looks.append(slots)
        if len(looks) == 1:
            ward.reconciler().admission.fill()
        return slots

    ward.scope = SurveyScope(tenants=(TENANT,))
    monkeypatch.setattr(SlotStore, "get", late)
    assert ward.names() == []
    assert ward.deployment.job(waiting.ref).state is JobState.RUNNING


def test_a_repair_that_fails_is_told_and_keeps_no_other_from_being_done(ward, monkeypatch):
    drop_slot_of_running(ward)
    hold_slot_of_nobody(ward)

    def refuse(*_):
        raise Superseded("not now")

    monkeypatch.setattr(SlotStore, "drop", refuse)
    treated = ward.treat()
    assert [(each.finding.check, each.succeeded) for each in treated.repairs] == [
        ("idle-slot", False),
        ("missing-slot", True),
    ]
    assert [found.check for found in treated.left.findings] == ["idle-slot"]
    outcomes = {record.action: record.outcome for record in ward.store.audit.newest()}
    assert outcomes["doctor idle-slot"] == "failed: Superseded: not now"


# What a person must mend


def test_shards_without_a_sign_of_life_are_reported(ward):
    task = ward.planned()
    ward.store.shards.claim(task.job, ward.deployment.shard_tasks(task)[0].shard, task.run)
    ward.advance(seconds=31)
    (found,) = ward.examine().findings
    assert (found.check, found.ref, found.repair) == ("stalled-shards", task.job, None)
    assert "shard 0 " in found.what


def test_a_job_that_this_version_cannot_read_is_reported_and_everything_else_checked(ward):
    odd, task = ward.start().job, ward.start()
    boto3.client("dynamodb").update_item(
        TableName="jobs",
        Key={"pk": {"S": keys.partition(odd)}, "sk": {"S": keys.JOB_SORT_KEY}},
        UpdateExpression="SET policy = :policy",
        ExpressionAttributeValues={":policy": {"M": {"of_a_later_version": {"BOOL": True}}}},
    )
    ward.end(task.job, "FAILED")
    lost, unreadable = ward.examine().findings
    assert (lost.check, lost.ref) == ("lost-run", task.job)
    assert (unreadable.check, unreadable.ref, unreadable.repair) == ("unreadable-job", odd, None)
    assert "of_a_later_version" in unreadable.what
    assert odd in ward.slots.members


@pytest.mark.parametrize("kind", ["output", "receipt"])
def test_an_output_or_receipt_that_is_gone_is_reported(ward, kind):
    job = ward.end_well(ward.start())
    lost = getattr(job, kind)
    ward.deployment.s3.delete_object(Bucket="data", Key=lost.key, VersionId=lost.version_id)
    assert ward.names() == []  # nobody knows the tenant: none of its jobs is open
    ward.scope = SurveyScope(tenants=(TENANT,))
    (found,) = ward.examine().findings
    assert (found.check, found.ref, found.repair) == ("lost-output", job.ref, None)
    assert f"the job's {kind} is gone" in found.what
    assert lost.key in found.mends_by


def test_jobs_that_ended_long_ago_are_looked_at_only_if_asked_for(ward):
    miscount(ward)
    ward.advance(days=2)
    (job,) = ward.store.jobs.newest(TENANT)
    for scope, found in {
        SurveyScope(tenants=(TENANT,)): [],
        SurveyScope(tenants=(TENANT,), all_ended=True): ["wrong-counts"],
        SurveyScope(tenants=(TENANT,), job=job.ref): ["wrong-counts"],
    }.items():
        ward.scope = scope
        assert ward.names() == found


def test_old_dead_letters_are_reported_for_each_queue_with_the_command_for_them(ward, operations):
    job = ward.end_well(ward.start())
    cause = Cause("processor_error", "It failed.")
    at = ward.deployment.clock.now()
    dead_letter = ChunkDeadLetter(
        1, f"{job.ref.job_id}.r1.c0", TENANT, job.ref.job_id, 1, "redact", 0, 0, 0, 4, 0, cause, (), job.input, at
    )
    sqs, url = boto3.client("sqs"), operations.outputs.get
    sqs.send_message(QueueUrl=url("FailedChunksUrl"), MessageBody=msgspec.json.encode(dead_letter).decode())
    sqs.send_message(QueueUrl=url("IntakeDeadLettersUrl"), MessageBody="nonsense")
    ward.deployment.clock.time = datetime.now(UTC)
    assert ward.names() == []
    ward.advance(days=1, minutes=1)
    intake, resolved = ward.examine().findings
    assert "1 malformed" in intake.what
    named = [each.mends_by.removeprefix("by hand: ") for each in (intake, resolved)]
    look, discard = map(parse, named)
    assert (look["queue"], named[0].split()[2]) == (Queue.INTAKE, "list")
    wanted = (Queue.FAILED_CHUNKS, DeadLetterReason.RESOLVED, "resolved")
    assert (discard["queue"], discard["reason"], discard["why"], named[1].split()[2]) == (*wanted, "discard")
    assert {intake.repair, resolved.repair} == {None}


def test_alarms_that_nobody_hears_are_reported_and_a_stack_without_them_is_skipped(ward, operations):
    sns = boto3.client("sns")
    (heard,) = sns.list_subscriptions()["Subscriptions"]
    sns.unsubscribe(SubscriptionArn=heard["SubscriptionArn"])
    (found,) = ward.examine().findings
    assert (found.check, found.repair) == ("unheard-alarms", None)
    assert "aws sns subscribe" in found.mends_by
    outputs = operations.outputs
    for other in (replace(outputs, stack=LOCAL_CLOUD), replace(outputs, values=without_topic(outputs.values))):
        found = examine(replace(operations, outputs=other), SurveyScope())
        assert found.findings == ()
        assert "unheard-alarms" in found.skipped[0]


def without_topic(values):
    return {name: value for name, value in values.items() if name != "AlarmTopicArn"}


def test_a_check_that_cannot_be_made_is_said_and_keeps_no_other_from_being_made(ward, monkeypatch):
    ward.start()
    hold_slot_of_nobody(ward)

    def fail(*_, **__):
        raise Superseded("no")

    monkeypatch.setattr(RunStore, "status", fail)
    found = {each.check: each.what for each in ward.examine().findings}
    assert found["idle-slot"].startswith("a slot is held by a job that does not exist")
    assert found["lost-run"].startswith("the check failed: ")
    assert RunStatus("RUNNING").is_live
