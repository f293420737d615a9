"""Real workers that are killed, stopped, or run out of time, and environments that are used again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from backhaul.client.client import Backhaul
from backhaul.client.discovery import client_of
from prove.checker.rework import Rework
from prove.deployed import Deployed, eventually
from prove.provider import Asked
from prove.registry import Trial
from prove.site import Job, Site, pause, real, settle
from prove.work import RECORD_BYTES, lines

COMMIT_SECONDS = 10.0


@real("F1.kill-workers", "Workers are killed with signal 9 in the middle of a record.")
def kill_workers(trial: Trial, site: Site) -> None:
    records, kills = 64, 3
    job = site.job(lines(trial.random, records), "slow", {"chunk_bytes": 2 * RECORD_BYTES, "seconds": 0.2})
    for least in sorted(trial.random.sample(range(2, records * 3 // 4), kills)):
        (*_, last) = job.begun(least)
        trial.expect(site.deployed.kill(last.pid), "the worker is gone already")
    settle(trial, job)
    again = site.provider.again(job.name)
    trial.expect(again >= kills, f"{again} records were begun again: the workers were not at work")
    trial.rework = Rework(again / kills, 0)


@real("F1.kill-plan-and-merge", "The planner and the merger are killed with signal 9 in their middle.")
def kill_plan_and_merge(trial: Trial, site: Site) -> None:
    slowly = {"chunk_bytes": 4 * RECORD_BYTES, "seconds": 0, "split_seconds": 1, "merge_seconds": 1}
    job = site.job(lines(trial.random, 12), "slow", slowly)
    for stage in ("split", "merge"):
        (first, *_) = job.begun(what=stage)
        pause(trial, 0, 0.9)
        trial.expect(site.deployed.kill(first.pid), f"the process of {stage} is gone already")
        job.begun(2, stage)
    settle(trial, job)


@real(
    "F1.steps", "Workers die in a long chunk of paid steps: no stored answer is paid again, little else is done again."
)
def steps_are_paid_once(trial: Trial, site: Site, records: int = 70, seconds: float = 0.25, kills: int = 2) -> None:
    job = site.job(lines(trial.random, records), "paid", {"chunk_bytes": records * RECORD_BYTES, "seconds": seconds})
    for number in range(1, kills + 1):
        (*_, last) = job.begun(number * records // (kills + 1) + trial.random.randrange(5), seconds=90)
        pause(trial, 0, seconds)
        trial.expect(site.deployed.kill(last.pid), "the worker is gone already")
    settle(trial, job, output=None, seconds=120)
    trial.violations += paid_too_often(job, kills)
    again = site.provider.again(job.name)
    allowed = kills * (COMMIT_SECONDS / seconds + 2)
    trial.expect(again <= allowed, f"{again} records were begun again; {allowed} are allowed")
    trial.rework = Rework(again / kills, 0)


def paid_too_often(job: Job, kills: int) -> list[str]:
    """Return which steps were paid again although their answer was stored."""
    calls: dict[tuple[str, ...], list[Asked]] = {}
    for asked in job.site.provider.steps(job.name):
        calls.setdefault(asked.what[1:], []).append(asked)
    found, twice = [], sum(len(each) - 1 for each in calls.values())
    output = output_of(job.site.deployed, job.id).decode().splitlines()
    used = {answer for line in output for answer in line.split()[1:]}
    for step, each in calls.items():
        # A stored answer is the one that counts: had there been one, the last call would have been for nothing.
        if each[-1].answer not in used:
            found.append(f"step {step} was paid {len(each)} times, and the last answer was not needed")
    if twice > kills:
        found.append(f"{twice} steps were paid again; {kills} workers died")
    if len(used) != 2 * len(job.data.splitlines()):
        found.append(f"the output has {len(used)} answers")
    return found


def output_of(deployed: Deployed, job_id: str, tenant: str | None = None) -> bytes:
    """Return what a job's output holds."""
    final = deployed.final(job_id, tenant)
    (item,) = (each for (_, _, sk), each in final.items.items() if sk == "JOB")
    return final.objects[item["output"]["key"], item["output"]["version_id"]]


@real("F2.stopped-worker", "A worker is stopped, a second one takes over and ends, then the first goes on.")
def stopped_worker(trial: Trial, site: Site) -> None:
    records = 12
    job = site.job(lines(trial.random, records), "slow", {"chunk_bytes": records * RECORD_BYTES, "seconds": 0.25})
    (*_, last) = job.begun(trial.random.randrange(1, records - 2))
    trial.expect(site.deployed.stop(last.pid), "the worker is gone already")
    try:
        second = site.deployed.invoke("workersprocess", {**order(job), "shard": plan(job)[0]})
        trial.expect(second["error"] is None and second["answer"]["outcome"] == "done", f"the second says {second}")
        (before,) = site.deployed.shards(job.id)
    finally:
        site.deployed.go_on(last.pid)
    settle(trial, job)
    (after,) = site.deployed.shards(job.id)
    for name in ("parts", "failed", "records", "bytes_done", "tallies", "finished", "open"):
        trial.expect(after.get(name) == before.get(name), f"the late worker changed {name} to {after.get(name)}")
    (part, *_) = after["parts"]
    trial.expect(part["attempt"] > 1, "the output is of the worker that was superseded")


@real("F2.stopped-merge", "A merger is stopped, a second one ends the job, then the first goes on.")
def stopped_merge(trial: Trial, site: Site) -> None:
    slowly = {"chunk_bytes": 4 * RECORD_BYTES, "seconds": 0, "merge_seconds": 1}
    job = site.job(lines(trial.random, 12), "slow", slowly)
    (first, *_) = job.begun(what="merge")
    pause(trial, 0, 0.9)
    trial.expect(site.deployed.stop(first.pid), "the merger is gone already")
    try:
        second = site.deployed.invoke("workersmerge", order(job))
        trial.expect(second["error"] is None, f"the second merger fails: {second}")
        before = item_of(job)
    finally:
        site.deployed.go_on(first.pid)
    eventually(lambda: site.deployed.final(job.id).runs.values(), lambda runs: "RUNNING" not in runs, 60)
    trial.expect(item_of(job) == before, f"the late merger changed the job: {item_of(job)} after {before}")
    settle(trial, job)


def order(job: Job) -> dict[str, Any]:
    """Return the input of a job's first run."""
    return {"tenant": job.site.deployed.tenant, "job_id": job.id, "run": 1}


def plan(job: Job) -> list[Any]:
    """Return the lines of a job's plan."""
    objects = job.site.deployed.final(job.id).objects
    (body,) = (body for (key, _), body in objects.items() if "/plan/" in key)
    return [json.loads(line) for line in body.splitlines()]


def item_of(job: Job) -> dict[str, Any]:
    """Return the job's item."""
    (item,) = (each for each in job.site.deployed.items(job.id) if each["sk"] == "JOB")
    return item


@real("F3.long-chunk", "A chunk takes 40 times as long as a function may run (40 min at 60 s, at a scale of 1:30).")
def long_chunk(trial: Trial, site: Site, timeout: int = 2, times: int = 40) -> None:
    seconds = 0.2
    records = round(times * timeout / seconds)
    usual = site.deployed.change("workersprocess", Timeout=timeout)
    try:
        job = site.job(
            lines(trial.random, records), "slow", {"chunk_bytes": records * RECORD_BYTES, "seconds": seconds}
        )
        settle(trial, job, seconds=times * timeout * 4 + 60)
    finally:
        site.deployed.change("workersprocess", **usual)
    (record,) = site.deployed.shards(job.id)
    trial.expect(record["attempt"] > times, f"{record['attempt']} attempts are too few for that")
    again, died = site.provider.again(job.name), record["retries"]
    trial.expect(again <= (died + 1) * (timeout / seconds), f"{again} records were begun again after {died} deaths")
    trial.rework = Rework(again / max(died, 1), 0)


@real("F4.leftovers", "Two tenants share a warm worker; each leaves all it can in memory and the temporary folder.")
def leftovers(trial: Trial, site: Site) -> None:
    pids = set()
    with second_client(site.deployed) as (other, tenant):
        for owner, dies in ((None, False), (other, False), (None, True), (other, False)):
            secret = b"secret-%08x" % trial.random.getrandbits(32)
            data = b"%s\n%s last\n" % (secret, secret)
            client = owner or site.deployed.client
            job_id = site.deployed.submit(data, "leftover", {"dies": dies}, {"max_tries": 1}, client=client)
            job = eventually(partial(client.job, job_id), lambda each: each.state.is_terminal)
            trial.expect(job.state == ("FAILED" if dies else "SUCCEEDED"), f"the job is {job.state}: {job.cause}")
            if dies:
                continue
            found = output_of(site.deployed, job_id, tenant if owner else None)
            strange = {word for word in found.split() if word.startswith(b"secret-")} - {secret}
            trial.expect(not strange, f"{'another' if owner else 'the first'} tenant finds {strange}")
            pids |= {line.split()[0] for line in found.splitlines()}
    trial.expect(len(pids) < 3, f"no two jobs shared a worker: {pids}")


@contextmanager
def second_client(deployed: Deployed) -> Iterator[tuple[Backhaul, str]]:
    """Yield a client of another tenant, and that tenant."""
    iam, name = deployed.admin("iam"), f"neighbour-{time.time_ns()}"
    user = iam.create_user(UserName=name)["User"]["UserId"]
    iam.attach_user_policy(UserName=name, PolicyArn=deployed.connection.outputs["ClientPolicyArn"])
    key = iam.create_access_key(UserName=name)["AccessKey"]
    own = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
    with client_of(replace(deployed.connection, **own)) as client:
        yield client, user
