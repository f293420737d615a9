"""What an event costs does not depend on how many jobs, or how many tenants, wait."""

from contextlib import contextmanager
from dataclasses import replace
from random import Random

import pytest
from botocore.client import BaseClient
from moto.backends import get_backend

from backhaul.admission.filling import QueuePlace
from backhaul.model.job import JobRef, JobState
from backhaul.model.policy import Policy
from backhaul.store import Store
from backhaul.store.codec import to_item
from backhaul.store.job_index import HELD_BACK, READY
from backhaul.store.job_item import item_of

DATA = b"one line\n"
RUNNING, QUEUED = JobState.RUNNING, JobState.QUEUED
MAX_CALLS = 40
MAX_READ_UNITS = 60
"""A consistent read of the slots is about 16 of them where 1,000 jobs run: their number is a setting."""
MAX_ITEMS_READ = 60


class Bill:
    """What was asked of AWS: calls, and items and read units of DynamoDB (consistent reads of 4 KB)."""

    def __init__(self):
        self.calls = []
        self.items = 0
        self.read_units = 0.0

    def add(self, name, request, answer):
        self.calls.append(name)
        items = answer.get("Items", [answer["Item"]] if "Item" in answer else [])
        self.items += len(items)
        size = sum(len(str(value)) for item in items for value in item.items())
        self.read_units += -(-size // 4096) * (1 if request.get("ConsistentRead") else 0.5)

    def check(self):
        assert len(self.calls) <= MAX_CALLS, self.calls
        assert self.items <= MAX_ITEMS_READ
        assert self.read_units <= MAX_READ_UNITS


@contextmanager
def billed(monkeypatch):
    bill, real = Bill(), BaseClient._make_api_call

    def counted(self, name, request):
        answer = real(self, name, request)
        bill.add(name, request, answer)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", counted)
        yield bill


@pytest.fixture
def limited(deployment):
    def of(most, most_per_tenant):
        settings = replace(deployment.settings, max_running_jobs=most, max_running_jobs_per_tenant=most_per_tenant)
        return replace(deployment, settings=settings, store=Store(settings, deployment.clock))

    return of


def put_waiting(deployment, tenants, each, *, queue=READY):
    """Queued jobs, written into the emulated table itself: as version 1 stored them if they are all READY."""
    model = deployment.job(deployment.submit("text-stats", DATA, tenant="T0").job.ref)
    table = get_backend("dynamodb")["123456789012"]["us-east-1"].tables["jobs"]
    table.stream_shard = None  # nobody reads it here, and it is half of what a write costs
    for number in range(each):
        for place, tenant in enumerate(tenants):
            ref = JobRef(tenant, f"{number * len(tenants) + place:026d}")
            turn = QueuePlace(5, number + 1, ref.job_id).to_key()
            job = replace(model, ref=ref, state=QUEUED, run=1, queue=queue, turn=turn, due_at=deployment.clock.now())
            table.put_item(item_of(job))


def hold_slots(deployment, tenants, each):
    """Slots that jobs hold which are not under test."""
    members = {tenant: [f"{tenant}/9{number:025d}" for number in range(each)] for tenant in tenants}
    item = to_item({"pk": "SLOTS", "sk": "SLOTS", "turn_5": 1})
    item["members"] = {"SS": [name for names in members.values() for name in names]}
    item |= {f"t_{tenant}": {"SS": names} for tenant, names in members.items()}
    get_backend("dynamodb")["123456789012"]["us-east-1"].tables["flow"].put_item(item)


def arrival(deployment, tenant, **request):
    ref = deployment.submit("text-stats", DATA, tenant=tenant, **request).job.ref
    return deployment.put_input(ref, DATA)


def redrivable(deployment, tenant):
    ref = deployment.submit("text-stats", DATA, tenant=tenant).job.ref
    upload = deployment.put_input(ref, DATA)
    job = deployment.store.jobs.move(deployment.job(ref), QUEUED, input=upload.object, run=1)
    return deployment.store.jobs.move(job, JobState.FAILED).ref


TENANTS = [f"T{number:03d}" for number in range(1000)]
CROWDS = {
    "one tenant with thousands": (["T1"], 2000, 20),
    "a thousand tenants": (TENANTS, 1, 1),
}


@pytest.mark.parametrize("queue", [READY, HELD_BACK])
@pytest.mark.parametrize("crowd", CROWDS)
def test_an_event_makes_a_bounded_number_of_calls_whoever_waits(limited, monkeypatch, crowd, queue):
    tenants, each, held = CROWDS[crowd]
    deployment = limited(2000, held)
    put_waiting(deployment, tenants, each, queue=queue)
    hold_slots(deployment, tenants, held)
    own, other = arrival(deployment, tenants[0]), arrival(deployment, "OTHER")
    failed = redrivable(deployment, tenants[-1])
    for event in (
        lambda: deployment.dispatch(own),
        lambda: deployment.dispatch(other),
        lambda: deployment.dispatch(own),
        lambda: deployment.hand_on(JobRef(tenants[0], f"{0:026d}")),
        lambda: deployment.redrive(failed),
    ):
        with billed(monkeypatch) as bill:
            event()
        bill.check()
    assert deployment.job(own.job).state is QUEUED
    if queue == HELD_BACK:
        assert deployment.job(other.job).state is RUNNING


def test_a_free_slot_goes_to_the_tenants_next_job_though_thousands_wait(limited, monkeypatch):
    deployment = limited(2000, 1)
    put_waiting(deployment, TENANTS, 1, queue=HELD_BACK)
    hold_slots(deployment, TENANTS, 1)
    ended = JobRef("T500", "9" + "0" * 25)
    deployment.store.slots.drop(ended)
    with billed(monkeypatch) as bill:
        assert deployment.hand_on(ended) == 1
    bill.check()
    assert deployment.job(JobRef("T500", f"{500:026d}")).state is RUNNING


def test_the_sweep_starts_what_waits_behind_thousands_that_may_not(limited):
    deployment = limited(2000, 1)
    put_waiting(deployment, ["T1"], 600)
    hold_slots(deployment, ["T1"], 1)
    other = arrival(deployment, "OTHER")
    deployment.store.slots.pause("OTHER", "too much", "someone")
    deployment.dispatch(other)
    slots = deployment.store.slots
    assert slots.resume("OTHER", slots.get().pause_of("OTHER"))  # and whoever resumed it was killed
    assert deployment.sweep() == {"freed_slot": 1, "started": 2}  # the slot's holder does not exist
    assert deployment.job(other.job).state is RUNNING
    assert len(deployment.store.jobs.ready(100)) < 100 < len(list(deployment.store.jobs.queued())), "they are set apart"


# The order of starts, after every event and without a sweep


def startable(deployment):
    """Those that wait and whose tenant may start one, in the order of the queue."""
    slots, store = deployment.store.slots.get(), deployment.store.slots
    waiting = deployment.store.jobs.open(QUEUED)
    return sorted((job for job in waiting if not store.is_full_for(job.ref.tenant, slots)), key=lambda job: job.turn)


def arrive(deployment, random):
    deployment.clock.advance(seconds=1)
    tenant, policy = random.choice(["T1", "T1", "T1", "T2", "T3"]), Policy(priority=random.choice([5, 5, 7]))
    deployment.dispatch(arrival(deployment, tenant, policy=policy))


def end_one(deployment, random):
    """Let a job end and its slot come free; returns who may start by then, and what tells dispatch of the end."""
    ended = random.choice(sorted(deployment.store.slots.get().members))
    deployment.store.jobs.move(deployment.job(ended), JobState.FAILED)
    deployment.store.slots.drop(ended)
    return startable(deployment), lambda: deployment.hand_on(ended)


def test_after_every_event_no_slot_is_free_while_a_job_may_start_and_nobody_overtakes(limited):
    deployment, random = limited(4, 2), Random(7)
    seen = 0
    for _ in range(40):
        running = deployment.store.slots.get().members
        before, event = startable(deployment), lambda: arrive(deployment, random)
        if running and random.random() < 0.5:
            before, event = end_one(deployment, random)
        event()
        members, waits = deployment.store.slots.get().members, startable(deployment)
        assert len(members) == 4 or not waits, "a slot is free, and a job may have it"
        left = [job.turn for job in before if job.ref in {each.ref for each in waits}]
        started = [job.turn for job in before if job.ref in members]
        assert not left or not started or max(started) < min(left), "a later job was started first"
        seen += len(started)
    assert seen > 5
