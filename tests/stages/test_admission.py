"""Who may run now: so many jobs in all and of each tenant, in turn, and nobody is forgotten."""

from dataclasses import replace

import boto3
import pytest

from backhaul.admission.admission import Admission
from backhaul.model.job import Cause, JobRef, JobState
from backhaul.model.policy import Policy
from backhaul.model.task import RunTask
from backhaul.store import JobStore, RunStore, SlotStore, Store, job_index
from backhaul.store.job_index import QueueEntry
from tests.stages.test_crashes import Crash, crash_once
from tests.stages.test_dispatch import in_threads

DATA = b"one line\n"
RUNNING, QUEUED = JobState.RUNNING, JobState.QUEUED


@pytest.fixture
def limited(deployment):
    """A deployment with room for so many jobs."""

    def of(most, most_per_tenant=100):
        settings = replace(deployment.settings, max_running_jobs=most, max_running_jobs_per_tenant=most_per_tenant)
        return replace(deployment, settings=settings, store=Store(settings, deployment.clock))

    return of


@pytest.fixture
def single(limited):
    """A deployment that runs one job at a time."""
    return limited(1)


def arrive(deployment, tenant="T1", **policy):
    """A job whose upload was announced; the jobs of a test sort by age."""
    deployment.clock.advance(seconds=1)
    ref = deployment.submit("text-stats", DATA, tenant=tenant, policy=Policy(**policy)).job.ref
    deployment.dispatch(deployment.put_input(ref, DATA))
    return ref


def arrive_unstarted(deployment, tenant="T1"):
    """A job that joined the queue just before its dispatcher died."""
    job = deployment.submit("text-stats", DATA, tenant=tenant).job
    upload = deployment.put_input(job.ref, DATA)
    admission(deployment).claim(job, upload.object)
    return job.ref


def admission(deployment):
    store = deployment.store
    return Admission(store.jobs, store.runs, store.slots, deployment.clock)


def states(deployment, refs):
    return [deployment.job(ref).state for ref in refs]


def running(deployment, refs):
    return [ref for ref in refs if deployment.job(ref).state is RUNNING]


def members(deployment):
    return deployment.store.slots.get().members


def end(deployment, ref):
    """Let the job end and the world hear of it; returns how many were started for it."""
    deployment.finish(RunTask(ref, deployment.job(ref).run))
    return deployment.hand_on(ref)


def order_of_starts(deployment, refs):
    """Let one job after the other end; returns those that waited, in the order in which they were started."""
    started, current = [], running(deployment, refs)
    while current:
        (ref,) = current
        assert end(deployment, ref) <= 1
        current = running(deployment, refs)
        started += current
    return started


# Limits


def test_no_more_jobs_run_than_there_are_slots(limited):
    deployment = limited(3)
    refs = [arrive(deployment, f"T{number}") for number in range(5)]
    assert states(deployment, refs) == [RUNNING] * 3 + [QUEUED] * 2
    assert members(deployment) == set(refs[:3])
    assert deployment.sweep() == {}
    assert len(deployment.executions()) == 3


def test_a_tenant_at_its_limit_keeps_no_other_from_starting(limited):
    deployment = limited(10, most_per_tenant=2)
    greedy = [arrive(deployment, "T1") for _ in range(4)]
    others = [arrive(deployment, tenant) for tenant in ("T2", "T3", "T2", "T2")]
    assert states(deployment, greedy) == [RUNNING, RUNNING, QUEUED, QUEUED]
    assert states(deployment, others) == [RUNNING, RUNNING, RUNNING, QUEUED]
    assert end(deployment, greedy[1]) == 1
    assert running(deployment, greedy) == [greedy[0], greedy[2]]
    assert states(deployment, others) == [RUNNING, RUNNING, RUNNING, QUEUED]


def test_of_many_that_arrive_at_once_as_many_run_as_there_are_slots(limited):
    deployment = limited(5, most_per_tenant=2)
    refs, uploads = [], []
    for number in range(12):
        refs.append(deployment.submit("text-stats", DATA, tenant=f"T{number % 3}").job.ref)
        uploads.append(deployment.put_input(refs[-1], DATA))
    pending = iter(uploads)
    in_threads(len(uploads), lambda: deployment.dispatch(next(pending)))
    deployment.sweep()
    going = running(deployment, refs)
    assert len(going) == 5
    assert members(deployment) == set(going)
    assert all(sum(ref.tenant == tenant for ref in going) <= 2 for tenant in ("T0", "T1", "T2"))
    assert {each.name for each in deployment.executions()} == {f"{ref.job_id}-1" for ref in going}


def test_a_limit_that_is_lowered_ends_no_job_and_is_kept_from_then_on(limited):
    deployment = limited(3)
    refs = [arrive(deployment) for _ in range(4)]
    deployment = limited(2)
    assert states(deployment, refs) == [RUNNING, RUNNING, RUNNING, QUEUED]
    assert end(deployment, refs[0]) == 0
    assert end(deployment, refs[1]) == 1
    assert running(deployment, refs) == refs[2:]


def test_a_limit_that_is_raised_is_used_by_the_next_sweep(limited):
    refs = [arrive(limited(1)) for _ in range(3)]
    deployment = limited(3)
    assert deployment.sweep() == {"started": 2}
    assert running(deployment, refs) == refs


# Turns


def test_jobs_of_one_tenant_start_in_the_order_in_which_they_came(single):
    refs = [arrive(single) for _ in range(4)]
    assert order_of_starts(single, refs) == refs[1:]


def test_tenants_take_turns_however_many_jobs_each_has_waiting(single):
    first = arrive(single, "T0")
    many = [arrive(single, "T1") for _ in range(4)]
    few = [arrive(single, "T2") for _ in range(2)]
    one = arrive(single, "T3")
    expected = [many[0], few[0], one, many[1], few[1], many[2], many[3]]
    assert order_of_starts(single, [first, *many, *few, one]) == expected


def test_who_comes_late_is_next_after_those_whose_turn_it_is(single):
    first = arrive(single, "T0")
    many = [arrive(single, "T1") for _ in range(6)]
    for ref in (first, many[0], many[1]):
        end(single, ref)
    late = arrive(single, "T2")
    assert order_of_starts(single, [*many, late]) == [many[3], late, many[4], many[5]]


def test_higher_priorities_start_first_and_tenants_take_turns_within_each(single):
    first = arrive(single, "T0")
    usual = [arrive(single, "T1"), arrive(single, "T1"), arrive(single, "T2")]
    lowest = arrive(single, "T3", priority=0)
    urgent = [arrive(single, "T1", priority=9), arrive(single, "T1", priority=9), arrive(single, "T2", priority=9)]
    refs = [first, *usual, lowest, *urgent]
    started = order_of_starts(single, refs)
    assert set(started[:3]) == set(urgent)
    assert set(started[3:6]) == set(usual)
    assert started[6] == lowest


def test_many_urgent_jobs_cost_nobody_the_turn_among_the_others(single):
    first = arrive(single, "T0")
    urgent = [arrive(single, "T1", priority=9) for _ in range(6)]
    many = [arrive(single, "T2") for _ in range(5)]
    for ref in (first, *urgent):
        end(single, ref)
    late = arrive(single, "T3")
    assert set(order_of_starts(single, [*many, late])[:2]) == {many[1], late}


def test_jobs_that_came_with_one_turn_start_by_age(single):
    first = arrive(single, "T0")
    same = [arrive(single, tenant) for tenant in ("T9", "T5", "T7")]
    assert order_of_starts(single, [first, *same]) == same


# Slots come back


def ends(deployment, ref):
    deployment.finish(RunTask(ref, 1))


def is_cancelled(deployment, ref):
    deployment.cancel(ref)
    deployment.merge(RunTask(ref, 1))


def fails(deployment, ref):
    deployment.store.jobs.move(deployment.job(ref), JobState.FAILED, cause=Cause("c", "It did."))


def vanishes(deployment, ref):
    """DynamoDB forgets a job that has expired."""
    key = {"pk": {"S": f"T#{ref.tenant}#J#{ref.job_id}"}, "sk": {"S": "JOB"}}
    boto3.client("dynamodb").delete_item(TableName="jobs", Key=key)


@pytest.mark.parametrize("leave", [ends, is_cancelled, fails])
def test_a_slot_is_handed_on_when_its_job_has_ended(single, leave):
    holder, waiting = arrive(single, "T1"), arrive(single, "T2")
    leave(single, holder)
    assert single.job(waiting).state is QUEUED
    assert single.hand_on(holder) == 1
    assert (single.job(waiting).state, members(single)) == (RUNNING, {waiting})
    assert single.hand_on(holder) == 0


@pytest.mark.parametrize("leave", [ends, is_cancelled, fails, vanishes])
def test_a_slot_whose_end_nobody_heard_of_is_taken_back_by_the_sweep(single, leave):
    holder, waiting = arrive(single, "T1"), arrive(single, "T2")
    leave(single, holder)
    assert single.sweep() == {"freed_slot": 1, "started": 1}
    assert (single.job(waiting).state, members(single)) == (RUNNING, {waiting})
    assert single.sweep() == {}


def test_a_word_of_a_job_that_still_runs_takes_no_slot_from_it(single):
    holder, waiting = arrive(single), arrive(single)
    assert single.hand_on(holder) == 0
    assert (members(single), single.job(waiting).state) == ({holder}, QUEUED)


def test_a_late_word_of_an_earlier_run_takes_no_slot_from_the_next(single):
    ref = arrive(single)
    fails(single, ref)
    assert single.redrive(ref).job.state is RUNNING
    assert single.hand_on(ref) == 0
    assert members(single) == {ref}


def test_a_word_of_a_job_that_nobody_knows_starts_who_waits(deployment):
    waiting = arrive_unstarted(deployment)
    assert deployment.hand_on(JobRef("T1", "0" * 26)) == 1
    assert deployment.job(waiting).state is RUNNING


def test_a_queued_job_that_is_cancelled_never_starts_and_the_next_takes_its_turn(single):
    holder, gone, waiting = arrive(single), arrive(single), arrive(single)
    assert single.cancel(gone).state is JobState.CANCELLED
    assert end(single, holder) == 1
    assert running(single, [gone, waiting]) == [waiting]
    assert len(single.executions()) == 2


def test_a_job_that_is_cancelled_as_it_is_started_gives_its_slot_back(single, monkeypatch):
    holder, gone = arrive(single), arrive(single)
    ends(single, holder)
    move = JobStore.move

    def cancelled_first(self, job, to, **changes):
        monkeypatch.setattr(JobStore, "move", move)
        single.cancel(job.ref)
        return move(self, job, to, **changes)

    monkeypatch.setattr(JobStore, "move", cancelled_first)
    assert single.hand_on(holder) == 0
    assert (single.job(gone).state, members(single)) == (JobState.CANCELLED, frozenset())
    assert len(single.executions()) == 1


def test_a_redriven_job_waits_for_a_slot_like_any_other(single):
    failed = arrive(single, "T1")
    fails(single, failed)
    holder = arrive(single, "T2")
    single.hand_on(failed)
    assert single.job(holder).state is RUNNING
    redriven = single.redrive(failed)
    assert (redriven.started, redriven.job.state, redriven.job.run) == (True, QUEUED, 2)
    assert end(single, holder) == 1
    assert (single.job(failed).state, single.job(failed).run) == (RUNNING, 2)
    assert single.executions()[-1].name == f"{failed.job_id}-2"


# Pauses


def test_a_job_that_is_redriven_before_its_slot_is_taken_back_waits_for_the_end_of_a_pause(single):
    failed = arrive(single, "T1")
    fails(single, failed)
    single.store.slots.pause("T1", "a bad release", "someone")
    assert single.redrive(failed).job.state is QUEUED
    single.hand_on(failed)
    assert (single.sweep(), single.job(failed).state, members(single)) == ({}, QUEUED, set())


@pytest.mark.parametrize("paused", [None, "T1"], ids=["everybody", "the tenant"])
def test_what_is_paused_starts_nothing_whatever_happens_and_goes_on_when_it_is_resumed(limited, paused):
    deployment = limited(1)
    holder = arrive(deployment, "T1")
    deployment.store.slots.pause(paused, "the provider is down", "someone")
    waiting = [arrive(deployment, "T1") for _ in range(2)]
    assert end(deployment, holder) == 0
    assert deployment.sweep() == {}
    assert states(deployment, waiting) == [QUEUED, QUEUED]
    assert deployment.store.slots.get().pause_of("T1").reason == "the provider is down"
    slots = deployment.store.slots
    assert slots.resume(paused, slots.get().pause_of("T1"))
    assert deployment.sweep() == {"started": 1}
    assert order_of_starts(deployment, waiting) == waiting[1:]


def test_a_pause_ends_no_job_that_runs(deployment):
    ref = arrive(deployment)
    deployment.store.slots.pause(None, "maintenance", "someone")
    assert deployment.finish(RunTask(ref, 1)).state is JobState.SUCCEEDED


def test_a_paused_tenant_keeps_no_other_from_starting(single):
    holder = arrive(single, "T0")
    single.store.slots.pause("T1", "too much", "someone")
    paused, other = arrive(single, "T1"), arrive(single, "T2")
    assert end(single, holder) == 1
    assert states(single, [paused, other]) == [QUEUED, RUNNING]


def test_a_tenant_that_is_resumed_stays_paused_with_everybody(deployment):
    slots = deployment.store.slots
    for tenant in (None, "T1", "T2"):
        slots.pause(tenant, f"pause of {tenant}", "someone")
    (everybodys, own) = slots.get().paused, slots.get().paused_tenants["T1"]
    assert slots.resume("T1", own)
    assert not slots.resume("T9", own)  # never paused
    waiting = [arrive(deployment, "T1"), arrive(deployment, "T2")]
    assert states(deployment, waiting) == [QUEUED, QUEUED]
    assert not slots.resume(None, own)  # not that pause
    assert slots.resume(None, everybodys)
    assert deployment.sweep() == {"started": 1}
    assert states(deployment, waiting) == [RUNNING, QUEUED]
    assert slots.get().paused_tenants.keys() == {"T2"}


def test_a_pause_that_comes_as_a_slot_is_taken_is_obeyed(deployment):
    ref = arrive_unstarted(deployment)
    seen = deployment.store.slots.get()
    deployment.store.slots.pause(None, "now", "someone")
    deployment.store.slots.get = lambda: seen
    assert admission(deployment).fill() == 0
    assert deployment.job(ref).state is QUEUED


# Nobody is forgotten


def test_a_queued_job_whose_event_was_handled_is_started_by_the_end_of_another(deployment):
    other = arrive(deployment)
    waiting = arrive_unstarted(deployment)
    assert end(deployment, other) == 1
    assert deployment.job(waiting).state is RUNNING


def test_a_queued_job_whose_event_was_handled_is_started_by_the_sweep(deployment):
    waiting = [arrive_unstarted(deployment) for _ in range(3)]
    assert deployment.sweep() == {"started": 3}
    assert states(deployment, waiting) == [RUNNING] * 3
    assert len(deployment.executions()) == 3


def test_the_newest_job_starts_though_the_index_does_not_show_it_yet(deployment, monkeypatch):
    monkeypatch.setattr(JobStore, "ready", lambda *_: ())
    monkeypatch.setattr(JobStore, "queued_of", lambda *_, **__: ())
    assert deployment.job(arrive(deployment)).state is RUNNING


def test_the_newest_job_does_not_overtake_who_waits(single, monkeypatch):
    """The sweep, or another dispatcher, frees a slot in the moment in which one more arrives."""
    holder, waiting = arrive(single, "T1"), arrive(single, "T2")
    ends(single, holder)
    single.store.slots.drop(holder)
    newest = arrive(single, "T3")
    assert states(single, [waiting, newest]) == [RUNNING, QUEUED]


def test_an_index_that_still_shows_what_was_started_starts_nothing_twice(limited, monkeypatch):
    deployment = limited(3)
    refs = [arrive(deployment) for _ in range(2)]
    shown = [QueueEntry(ref, f"4#000000000{number}#{ref.job_id}") for number, ref in enumerate(refs, 1)]
    ended = arrive(deployment)
    ends(deployment, ended)
    shown.append(QueueEntry(ended, f"4#0000000003#{ended.job_id}"))
    monkeypatch.setattr(JobStore, "queued", lambda _: iter(shown))
    monkeypatch.setattr(JobStore, "ready", lambda *_: tuple(shown))
    monkeypatch.setattr(JobStore, "queued_of", lambda *_, **__: tuple(shown))
    deployment.hand_on(ended)
    deployment.sweep()
    assert states(deployment, refs) == [RUNNING, RUNNING]
    assert members(deployment) == set(refs)
    assert len(deployment.executions()) == 3


STARTING = [(SlotStore, "take"), (JobStore, "move"), (RunStore, "start")]


def crashes(test):
    test = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])(test)
    return pytest.mark.parametrize(("owner", "step"), STARTING, ids=[name for _, name in STARTING])(test)


@crashes
def test_a_crash_at_any_step_of_a_start_is_mended_by_the_sweep(deployment, monkeypatch, owner, step, after):
    ref = arrive_unstarted(deployment)
    crash_once(monkeypatch, owner, step, after=after)
    with pytest.raises(Crash):
        admission(deployment).fill()
    deployment.sweep()
    deployment.clock.advance(minutes=6)
    deployment.sweep()
    assert (deployment.job(ref).state, members(deployment)) == (RUNNING, {ref})
    assert [each.name for each in deployment.executions()] == [f"{ref.job_id}-1"]


@crashes
def test_a_crash_as_the_last_slot_is_handed_on_is_mended_by_the_sweep(single, monkeypatch, owner, step, after):
    holder, waiting = arrive(single), arrive(single)
    ends(single, holder)
    single.end_run("SUCCEEDED")
    crash_once(monkeypatch, owner, step, after=after)
    with pytest.raises(Crash):
        single.hand_on(holder)
    single.sweep()
    single.clock.advance(minutes=6)
    single.sweep()
    assert (single.job(waiting).state, members(single)) == (RUNNING, {waiting})
    assert single.executions()[-1].name == f"{waiting.job_id}-1"


def test_a_crash_before_the_slot_is_given_back_is_mended_by_the_sweep(single, monkeypatch):
    holder, waiting = arrive(single), arrive(single)
    ends(single, holder)
    crash_once(monkeypatch, SlotStore, "drop", after=False)
    with pytest.raises(Crash):
        single.hand_on(holder)
    assert single.sweep() == {"freed_slot": 1, "started": 1}
    assert single.job(waiting).state is RUNNING


def test_a_job_that_runs_without_a_slot_is_given_one_by_the_sweep(single):
    """It was redriven between two steps of `hand_on`, or ran before there were slots."""
    ref = arrive(single)
    single.store.slots.drop(ref)
    single.sweep()
    assert members(single) == {ref}
    assert single.job(arrive(single)).state is QUEUED


def test_a_job_that_is_redriven_as_its_slot_is_taken_back_runs_with_a_slot(single, monkeypatch):
    ref = arrive(single)
    fails(single, ref)
    drop = SlotStore.drop

    def late(self, member):
        monkeypatch.setattr(SlotStore, "drop", drop)
        assert single.redrive(ref).job.state is RUNNING
        drop(self, member)

    monkeypatch.setattr(SlotStore, "drop", late)
    single.hand_on(ref)
    single.sweep()
    assert (single.job(ref).state, members(single)) == (RUNNING, {ref})


def test_a_job_that_cannot_be_started_keeps_no_other_from_it(deployment, monkeypatch):
    bad, *good = [arrive_unstarted(deployment) for _ in range(3)]
    start = RunStore.start

    def refuse(self, job, **salvage):
        if job.ref == bad:
            raise OSError("refused")
        start(self, job, **salvage)

    monkeypatch.setattr(RunStore, "start", refuse)
    assert deployment.swept().problems
    assert {each.name for each in deployment.executions()} == {f"{ref.job_id}-1" for ref in good}


def test_a_long_queue_of_a_paused_tenant_keeps_no_other_from_starting(deployment, monkeypatch):
    monkeypatch.setattr(job_index, "_QUEUED_FIRST", 3)
    deployment.store.slots.pause("T1", "too much", "someone")
    for _ in range(5):
        arrive(deployment, "T1", priority=9)
    other = arrive(deployment, "T2")
    deployment.sweep()
    assert deployment.job(other).state is RUNNING


# Slots as they are kept


def test_a_slot_is_taken_once_however_often_and_given_back_once(deployment):
    slots, ref = deployment.store.slots, JobRef("T1", "0" * 26)
    assert slots.take(ref, 5, 5)
    assert slots.take(ref, 5, 5)
    slots.restore(ref)
    assert slots.get().members == {ref}
    slots.drop(ref)
    slots.drop(ref)
    assert slots.get().members == frozenset()
    assert slots.take(ref, 5, 6)


def test_a_job_that_runs_already_is_given_its_slot_though_there_is_no_room(single):
    slots, refs = single.store.slots, [JobRef("T1", f"{number:026d}") for number in range(2)]
    assert slots.take(refs[0], 5, 1)
    assert not slots.take(refs[1], 5, 1)
    slots.restore(refs[1])
    assert slots.get().members == set(refs)
    assert slots.take(refs[1], 5, 1), "who holds a slot may take it"


def test_who_holds_a_slot_keeps_it_through_a_pause(deployment):
    slots, ref = deployment.store.slots, JobRef("T1", "0" * 26)
    assert slots.take(ref, 5, 1)
    slots.pause("T1", "too much", "someone")
    assert slots.take(ref, 5, 1)
    assert not slots.take(JobRef("T1", "1" * 26), 5, 1)


def test_of_many_that_want_the_last_slot_one_gets_it(single):
    pending = iter([JobRef("T1", f"{number:026d}") for number in range(8)])
    got = in_threads(8, lambda: single.store.slots.take(next(pending), 5, 1))
    assert got.count(True) == 1
    assert len(members(single)) == 1


def test_turns_of_a_tenant_follow_each_other_and_begin_where_others_are(deployment):
    slots = deployment.store.slots
    assert [slots.next_turn("T1", 5) for _ in range(3)] == [1, 2, 3]
    assert slots.next_turn("T2", 5) == 1
    slots.take(JobRef("T1", "0" * 26), 5, 3)
    assert (slots.next_turn("T3", 5), slots.next_turn("T2", 5), slots.next_turn("T1", 5)) == (4, 4, 4)
