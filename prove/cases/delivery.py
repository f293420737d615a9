"""Events and messages that come twice, late, out of order, or about nothing."""

from __future__ import annotations

import json
from typing import Any

from prove.faults import Fault, at
from prove.functions import Invocation
from prove.messages import MAX_RECEIVES
from prove.registry import Trial, case
from prove.surroundings import Surroundings
from prove.work import RECORD_BYTES, lines
from prove.world import World, notification

RECORDS = 9


def _settle(trial: Trial, world: World) -> None:
    trial.expect(world.run(), "the deployment does not settle")


@case("F6", "S3 tells of an upload twice, and once more when the job is at work or has ended.")
def duplicate_event(trial: Trial) -> None:
    with trial.world() as world:
        world.intake.doubled = 1.0
        data = lines(trial.random, RECORDS)
        job = world.submit(data, upload=False)
        body = world.upload(job, data)
        for seconds in (trial.random.uniform(0, 15), trial.random.uniform(15, 40)):
            world.simulation.spawn("s3", lambda: world.intake.send(body), delay=seconds)
        world.simulation.run(lambda: False, longest=world.simulation.time + 60)
        _settle(trial, world)
        trial.check(world, job)
        trial.expect(len(world.runs.executions) == 1, f"{len(world.runs.executions)} runs were started")


@case("F7", "The events of two uploads to one key arrive in any order; one of them is pinned and the other ignored.")
def out_of_order(trial: Trial) -> None:
    with trial.world() as world:
        first, second = lines(trial.random, RECORDS), lines(trial.random, RECORDS)
        job = world.submit(first, upload=False)
        bodies = [world.upload(job, data, notify=False) for data in (first, second)]
        for body in trial.random.sample(bodies, 2):
            world.intake.send(body)
        _settle(trial, world)
        versions = [json.loads(body)["Records"][0]["s3"]["object"]["versionId"] for body in bodies]
        pinned = versions.index(world.job(job)["input"]["version_id"])
        trial.check(world, job, data=(first, second)[pinned])


@case("F8", "The input is overwritten while the job is at work on it.")
def overwritten(trial: Trial) -> None:
    with trial.world() as world:
        job = world.submit(lines(trial.random, RECORDS))
        other = lines(trial.random, RECORDS)
        moment = world.simulation.time + trial.random.uniform(2.0, 14.0)
        world.simulation.run(lambda: world.job(job)["state"] != "AWAITING_UPLOAD", longest=moment + 60)
        world.simulation.run(lambda: False, longest=max(moment, world.simulation.time))
        world.upload(job, other)
        _settle(trial, world)
        trial.check(world, job)


@case("F9", "The event is about an empty object: not the file that was declared.")
def empty_object(trial: Trial) -> None:
    with trial.world() as world:
        job = world.submit(lines(trial.random, RECORDS), upload=False)
        world.upload(job, b"")
        _settle(trial, world)
        trial.check(world, job, ends="FAILED", output=None)
        trial.expect(not world.runs.executions, "a run was started")


@case("F9.deleted", "The object is gone, every version of it, before its job reads it.")
def deleted_object(trial: Trial) -> None:
    with trial.world() as world:
        data = lines(trial.random, RECORDS)
        job = world.submit(data, upload=False)
        key = f"t/{job.tenant}/j/{job.job_id}/input/data"
        body = world.upload(job, data, notify=False)
        version = json.loads(body)["Records"][0]["s3"]["object"]["versionId"]
        world.intake.send(body)
        when = world.simulation.time + trial.random.uniform(0.0, 4.0)
        world.simulation.run(lambda: False, longest=when)
        world.delete(key, version)
        _settle(trial, world)
        trial.check(world, job, ends="FAILED PARTIAL SUCCEEDED")
        state = world.job(job)["state"]
        trial.expect(state == "FAILED" or _was_read(world), f"the job is {state} though its input is gone")


def _was_read(world: World) -> bool:
    return any(call.step == "get input" and call.function == "process" and call.applied for call in world.history.calls)


@case("F10", "Two pollers get one message at once, and one of them hangs on the way.")
def two_pollers(trial: Trial) -> None:
    step = trial.random.choice(("read job", "move QUEUED", "move RUNNING", "StartExecution"))
    hang = Fault("pause after", at("dispatch", step), seconds=trial.random.uniform(0.1, 20.0))
    with trial.world(hang) as world:
        world.intake.doubled = 1.0
        job = world.submit(lines(trial.random, RECORDS))
        _settle(trial, world)
        trial.check(world, job)
        trial.expect(len(world.runs.executions) == 1, f"{len(world.runs.executions)} runs were started")


@case("F11", "A message becomes visible again while its receiver still works on it.")
def visible_again(trial: Trial) -> None:
    step = trial.random.choice(("read job", "move QUEUED", "move RUNNING", "StartExecution"))
    hang = Fault("pause before", at("dispatch", step), seconds=trial.random.uniform(180.0, 400.0), zombie=True)
    with trial.world(hang) as world:
        job = world.submit(lines(trial.random, RECORDS))
        _settle(trial, world)
        world.simulation.run(lambda: False, longest=world.simulation.time + 600)
        trial.check(world, job)
        trial.expect(len(world.runs.executions) == 1, f"{len(world.runs.executions)} runs were started")


@case("F12", "Two messages of a batch of five cannot be understood; the others are not held up by them.")
def bad_batch(trial: Trial) -> None:
    with trial.world() as world:
        jobs, bodies = [], ["not JSON", json.dumps({"Records": [{"s3": {}}]})]
        for _ in range(3):
            data = lines(trial.random, RECORDS)
            jobs.append(world.submit(data, upload=False, options={"seconds": 0.0}))
            bodies.append(world.upload(jobs[-1], data, notify=False))
        world.intake.send_together(*trial.random.sample(bodies, len(bodies)))
        _settle(trial, world)
        world.simulation.run(lambda: len(world.intake.dead) == 2, longest=world.simulation.time + 3600)
        trial.check(world, *jobs)
        trial.expect(len(world.intake.dead) == 2, f"{len(world.intake.dead)} messages lie in the dead-letter queue")
        trial.expect(
            all(each.receives == 1 for each in world.intake.sent if each not in world.intake.dead),
            "a good message was delivered again for its neighbours' sake",
        )


MALFORMED: tuple[Any, ...] = (
    "not an object",
    {"batchItemFailures": "message-1"},
    {"batchItemFailures": ["message-1"]},
    {"batchItemFailures": [{"itemIdentifier": ""}]},
    {"batchItemFailures": [{"itemIdentifier": None}]},
    {"batchItemFailures": [{"item": "message-1"}]},
    {"batchItemFailures": [{"itemIdentifier": "no such message"}]},
)


@case(
    "F12.answer",
    "Lambda cannot understand which messages of a batch have failed: all come again, and none counts twice.",
)
def malformed_answer(trial: Trial) -> None:
    with trial.world() as world:
        seconds, handler = world.functions.handlers["dispatch"]
        left = [trial.random.choice(MALFORMED) for _ in range(trial.random.randrange(1, MAX_RECEIVES))]
        batches = len(left) + 1

        def misunderstood(invocation: Invocation, world: Surroundings) -> Any:
            answer = handler(invocation, world)
            return left.pop() if left and "messages" in invocation.event else answer

        world.functions.handlers["dispatch"] = (seconds, misunderstood)
        jobs, bodies = [], ["not JSON"]
        for _ in range(3):
            data = lines(trial.random, RECORDS)
            jobs.append(world.submit(data, upload=False, options={"seconds": 0.0}))
            bodies.append(world.upload(jobs[-1], data, notify=False))
        world.intake.send_together(*trial.random.sample(bodies, len(bodies)))
        world.simulation.run(lambda: bool(world.intake.dead), longest=3600)
        _settle(trial, world)
        trial.check(world, *jobs)
        started = len(world.runs.executions)
        trial.expect(started == len(jobs), f"{started} runs were started for {len(jobs)} uploads")
        dead = [each.body[:8] for each in world.intake.dead]
        trial.expect(dead == ["not JSON"], f"{len(dead)} messages lie in the dead-letter queue: {dead}")
        received = [each.receives for each in world.intake.sent if each not in world.intake.dead]
        trial.expect(received == [batches] * len(jobs), f"good messages came {received} times, not {batches}")


@case("F13", "A message fails until it lies in the dead-letter queue, and is moved back when the outage is over.")
def dead_and_back(trial: Trial) -> None:
    outage = Fault("refuse", at("dispatch", "read job"), times=10_000, code="ProvisionedThroughputExceededException")
    with trial.world(outage) as world:
        job = world.submit(lines(trial.random, RECORDS))
        world.simulation.run(lambda: bool(world.intake.dead), longest=3600)
        trial.expect(len(world.intake.dead) == 1, "the message does not reach the dead-letter queue")
        outage.times = 0
        for message in list(world.intake.dead):
            world.intake.dead.remove(message)
            world.intake.redeliver(message)
        _settle(trial, world)
        trial.check(world, job)


@case("F13.lost", "The event of an upload never comes; the sweep finds the upload.")
def lost_event(trial: Trial) -> None:
    with trial.world() as world:
        data = lines(trial.random, RECORDS)
        job = world.submit(data, upload=False)
        world.upload(job, data, notify=False)
        _settle(trial, world)
        trial.check(world, job)


@case("F14", "Every function is invoked twice for one cause, at once or half a minute later.")
def invoked_twice(trial: Trial) -> None:
    with trial.world() as world:
        for name in ("dispatch", "plan", "process", "merge", "conclude", "announce"):
            world.functions.doubled[name] = 0.6
        job = world.submit(lines(trial.random, 3 * RECORDS))
        _settle(trial, world)
        trial.check(world, job)


@case("F15", "The stream repeats itself, the bus refuses entries, and the announcer dies now and then.")
def bus_trouble(trial: Trial) -> None:
    kill = Fault("kill after", at("announce"), times=3, chance=0.4)
    with trial.world(kill) as world:
        world.stream.doubled, world.bus.refuses = 0.5, 0.4
        jobs = [world.submit(lines(trial.random, RECORDS)) for _ in range(2)]
        _settle(trial, world)
        trial.check(world, *jobs)
        trial.expect(not world.stream.dead, "an event was given up")


@case("F43", "Events for keys that only look like inputs start nothing and harm nobody.")
def key_tricks(trial: Trial) -> None:
    with trial.world() as world:
        data = lines(trial.random, RECORDS)
        mine, theirs = (world.submit(data, tenant=tenant, upload=False) for tenant in ("tenant1", "tenant10"))
        tricks = [
            f"t/tenant1/j/../../tenant10/j/{theirs.job_id}/input/data",
            f"t/tenant1//j/{theirs.job_id}/input/data",
            f"t%2Ftenant1%2Fj%2F{mine.job_id}/input/data",
            f"t/tenant1/j/{mine.job_id}/input/data+",
            f"t/tenant1/j/{theirs.job_id}/input/data",
            f"t/tenánt1/j/{mine.job_id}/input/data",
            "t/" + "x" * 1000 + "/input/data",
        ]
        for key in tricks:
            world.intake.send(notification(key, RECORDS * RECORD_BYTES, "v1"))
        world.simulation.run(lambda: len(world.intake.dead) == len(tricks), longest=3600)
        trial.expect(len(world.intake.dead) == len(tricks), f"{len(world.intake.dead)} of {len(tricks)} were refused")
        trial.expect(not world.runs.executions, "a trick key started a run")
        for job in (mine, theirs):
            world.upload(job, data)
        _settle(trial, world)
        trial.check(world, mine, theirs)
