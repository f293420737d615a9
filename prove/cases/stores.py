"""Stores that throttle, answer late or not at all, or answer with what was."""

from __future__ import annotations

from prove.cases.workers import one_job
from prove.faults import Fault, at
from prove.history import Call
from prove.registry import Trial, case
from prove.work import POISON, RECORD_BYTES, lines

_TABLE = ("UpdateItem", "PutItem", "GetItem", "Query")
_WORKERS = ("dispatch", "plan", "process", "merge", "conclude", "announce", "sweep")


def _on_table(call: Call) -> bool:
    return call.operation in _TABLE and call.function in _WORKERS


def _reads(call: Call) -> bool:
    return call.operation in ("GetItem", "Query") and call.function in _WORKERS


def _on_objects(call: Call) -> bool:
    return call.operation.endswith("Object") and call.function in _WORKERS


@case("F16", "DynamoDB throttles in bursts.")
def throttled(trial: Trial) -> None:
    code = "ProvisionedThroughputExceededException"
    burst = trial.random.randrange(3, 30)
    faults = [Fault("refuse", _on_table, skip=trial.random.randrange(15), times=burst, code=code)]
    one_job(trial, *faults)


@case("F16.conflicts", "One write in four meets a transaction conflict or an internal error.")
def conflicts(trial: Trial) -> None:
    codes = ("TransactionConflictException", "InternalServerError", "ThrottlingException")
    one_job(trial, *(Fault("refuse", _on_table, times=8, chance=0.1, code=code) for code in codes))


@case("F16.lost", "A write is applied and its answer lost; the writer recognises its own.")
def lost_answer(trial: Trial) -> None:
    steps = ("claim", "commit", "move QUEUED", "move RUNNING", "move MERGING", "move SUCCEEDED", "note job")
    one_job(trial, *(Fault("lost", at(step=step)) for step in trial.random.sample(steps, 3)))


@case("F16.storm", "One answer in eight of any store is lost.")
def lost_answers(trial: Trial) -> None:
    one_job(trial, Fault("lost", lambda call: call.function in _WORKERS, times=15, chance=0.125))


@case("F16.outage", "DynamoDB or S3 answers nothing but errors for minutes, again and again; no chunk is blamed.")
def outages(trial: Trial) -> None:
    random = trial.random
    dead = Fault("kill before", at("process"), skip=random.randrange(5, 20))
    with trial.world(dead) as world:  # after a death workers are careful, and blame who is in work when they die
        world.functions.noticed_late = 0.0
        job = world.submit(lines(random, 27), policy={"deadline_seconds": 86_400})
        for _ in range(3):
            struck = Fault("refuse", random.choice((_on_table, _on_objects)), times=10**6, code="InternalServerError")
            world.simulation.run(lambda: False, longest=world.simulation.time + random.uniform(5.0, 25.0))
            world.inject(struck)
            world.simulation.run(lambda: False, longest=world.simulation.time + random.uniform(30.0, 600.0))
            world.network.faults.remove(struck)
        trial.expect(world.run(), "the deployment does not settle")
        trial.check(world, job)


@case("F17", "Eventually consistent reads, of tables and indexes, are up to three seconds late.")
def stale(trial: Trial) -> None:
    _stale(trial, 3.0)


@case("F17.long", "Eventually consistent reads are up to five minutes late: DynamoDB promises no limit.")
def long_stale(trial: Trial) -> None:
    _stale(trial, 300.0)


def _stale(trial: Trial, most: float) -> None:
    kill = Fault("kill before", at("dispatch", "StartExecution"), times=trial.random.randrange(1, 4))
    late = [trial.random.uniform(0.1, most) for _ in range(2)]
    slow = [Fault("stale", _reads, times=200, chance=0.3, seconds=seconds) for seconds in late]
    one_job(trial, kill, *slow, stale=True)


@case("F18", "A job's item is gone, as after its time to live, while its run is at work: nothing brings it back.")
def gone(trial: Trial) -> None:
    with trial.world() as world:
        job = world.submit(lines(trial.random, 9))
        when = world.simulation.time + trial.random.uniform(4.0, 14.0)
        world.simulation.run(lambda: False, longest=when)
        key = (world.settings.jobs_table, f"T#{job.tenant}#J#{job.job_id}", "JOB")
        world.tables.delete(key)
        trial.expect(world.run(longest=24 * 3600.0), "the deployment does not settle")
        trial.expect(world.tables.read(key) is None, "the job's item came back")
        left = [name for name, run in world.runs.executions.items() if run.status == "RUNNING"]
        trial.expect(not left, f"runs are left: {left}")


@case("F18.there", "An event comes once more a month later, when the job's item should be gone and is still there.")
def still_there(trial: Trial) -> None:
    with trial.world(sweeps=False) as world:
        data = lines(trial.random, 9)
        job = world.submit(data, upload=False)
        body = world.upload(job, data)
        trial.expect(world.run(), "the deployment does not settle")
        world.simulation.run(lambda: False, longest=31 * 86400.0)
        world.intake.send(body)
        world.simulation.run(lambda: False, longest=world.simulation.time + 3600)
        trial.check(world, job)
        trial.expect(len(world.runs.executions) == 1, "the late event started another run")


@case("F19", "Every chunk of a large shard fails with a long story; its record stays far from 400 KB.")
def large_item(trial: Trial) -> None:
    with trial.world() as world:
        data = b"".join(b"%-60s\n" % f"record {number:05d} {POISON}".encode() for number in range(64))
        job = world.submit(data, options={"chunk_bytes": 61, "seconds": 0.0})
        trial.expect(world.run(), "the deployment does not settle")
        trial.check(world, job, ends="FAILED", output=None, record_bytes=61, rework_records=None)


@case("F20", "S3 answers 503 and 500, resets connections and sends half of a body.")
def objects_trouble(trial: Trial) -> None:
    one_job(
        trial,
        Fault("refuse", _on_objects, times=10, chance=0.15, code="SlowDown"),
        Fault("refuse", _on_objects, times=5, chance=0.1, code="InternalError"),
        Fault("reset", at(operation="GetObject"), times=4, chance=0.3),
        Fault("truncate", at(operation="GetObject"), times=4, chance=0.3),
        processor=trial.random.choice(("mark", "total")),
    )


@case("F20.down", "S3 answers nothing but 503 for a while, longer than a client's retries.")
def objects_down(trial: Trial) -> None:
    skip, times = trial.random.randrange(6), trial.random.randrange(5, 25)
    one_job(trial, Fault("refuse", _on_objects, skip=skip, times=times, code="SlowDown"))


@case("F20.plan", "The plan is read by half when the shards are merged.")
def half_a_plan(trial: Trial) -> None:
    one_job(trial, Fault(trial.random.choice(("truncate", "reset")), at("merge", "get plan")))


@case(
    "F20.corrupt",
    "A bit of the plan or of a result is another one where S3's checksum tells of it: in an object that is read whole.",
)
def corrupted(trial: Trial) -> None:
    step = trial.random.choice(("get plan", "get results"))
    one_job(trial, Fault("corrupt", at("merge", step), times=trial.random.choice((1, 2))))


@case(
    "F20.corrupt-tail",
    "A bit of its predecessor's results is another one when a worker reads them, to write them again with its own.",
)
def corrupted_tail(trial: Trial) -> None:
    one_job(trial, Fault("kill after", at("process", "commit")), Fault("corrupt", at("process", "get results")))


@case("F21", "A merge dies in the middle of a multipart upload; what it leaves is no part of the output.")
def orphan(trial: Trial) -> None:
    step = trial.random.choice(("UploadPartCopy output", "complete output"))
    kill = Fault("kill after", at("merge", step), times=trial.random.randrange(1, 3))
    world = one_job(trial, kill, multipart=True)
    trial.expect(any(call.outcome == "killed after" for call in world.history.calls), "no merge died")


@case("F22", "DynamoDB returns two items on a page.")
def pages(trial: Trial) -> None:
    kill = Fault("kill after", at("process"), skip=trial.random.randrange(12))
    with trial.world(kill, page=2) as world:
        data = lines(trial.random, 36)
        job = world.submit(data, options={"chunk_bytes": 2 * RECORD_BYTES})
        trial.expect(world.run(), "the deployment does not settle")
        trial.check(world, job)
