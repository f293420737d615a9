"""Thousands of uploads for a hundred slots: every one runs exactly once, and none is lost while it waits.

    python -m prove.crowd --uploads 4384 --slots 100 --seed 1

The real dispatch, hand-over and sweep over moto, called one after the other in an order that the seed chooses. A run
is only its length here. Dispatchers, the function that hands slots on, and the holders of slots are killed on the way.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any, cast
from unittest import mock

import boto3
from botocore.client import BaseClient
from rich.progress import Progress

from backhaul.cli.screen import console
from backhaul.model import keys
from backhaul.model.job import JobRef, JobState, ObjectRef
from backhaul.model.settings import Settings
from backhaul.model.task import RunTask
from backhaul.plugin.registry import find_processors
from backhaul.stages.dispatch import Upload, dispatch, hand_on
from backhaul.stages.submit import Submission, submit
from backhaul.stages.sweep import mend_lost, sweep
from backhaul.store import RunStatus, RunStore, Store
from prove.simulation import create_stores, empty_aws
from prove.standins import Killed, Report, Runs, Time

MAX_RECEIVES = 5
"""Deliveries of a message before SQS sets it aside, as the stack says."""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}


class Crowd:
    """One deployment with too few slots, and everything that happens to it."""

    def __init__(self, uploads: int, slots: int, seed: int, on_progress: Callable[[int], None]) -> None:
        self._random = Random(seed)
        self._on_progress = on_progress
        self._clock = Time()
        self._slots = slots
        self._runs = Runs()
        self._report = Report(uploads)
        settings = Settings(
            data_bucket="data",
            jobs_table="jobs",
            flow_table="flow",
            max_running_jobs=slots,
            max_running_jobs_per_tenant=slots,
        )
        create_stores(boto3.client("s3"), boto3.client("dynamodb"))
        self._store = Store(settings, self._clock)
        self._settings = settings
        self._queue: deque[tuple[Upload, int]] = deque()
        self._ends_to_announce: deque[JobRef] = deque()
        """Ended jobs whose event the bus has not yet delivered to the function that hands slots on."""
        self._ended_at: dict[JobRef, datetime] = {}
        self._refs: list[JobRef] = []

    def run(self) -> Report:
        """Let everything happen, until nothing is left to do."""
        self._submit_all()
        swept = self._clock.now()
        done = 0
        while done < self._report.uploads:
            before = done
            self._clock.sleep(0.05)
            if self._queue:
                self._receive()
            done += self._let_runs_end()
            if self._ends_to_announce and self._random.random() < 0.9:
                self._hand_on(self._ends_to_announce.popleft())
            if self._clock.now() - swept >= timedelta(minutes=1):
                self._sweep()
                swept = self._clock.now()
            elif not self._queue and not self._ends_to_announce and not self._runs.live:
                self._clock.sleep(1)
            if done > before:
                self._on_progress(done - before)
            if self._clock.now() - Time().present > timedelta(days=3):
                self._report.violations.append(f"{self._report.uploads - done} jobs never ended")
                break
        self._sweep()
        return self._judge()

    def _submit_all(self) -> None:
        registry = find_processors()
        for number in range(self._report.uploads):
            wanted = Submission("text-stats", "f", 1)
            made = submit(
                wanted,
                f"TENANT{number % 7}",
                registry=registry,
                jobs=self._store.jobs,
                objects=self._store.objects,
                settings=self._settings,
                clock=self._clock,
            )
            ref = made.job.ref
            self._refs.append(ref)
            upload = Upload(ref, ObjectRef(keys.input_key(ref), "v1", 1))
            self._queue.append((upload, 1))
            if self._random.random() < 0.05:
                self._queue.append((upload, 1))

    def _receive(self) -> None:
        """Deliver a message, and again if its function dies."""
        upload, receives = self._queue.popleft()
        store = self._store

        def work() -> None:
            dispatch(upload, jobs=store.jobs, runs=cast(RunStore, self._runs), slots=store.slots, clock=self._clock)

        if self._survives("dispatch", work, 0.02):
            return
        if receives == MAX_RECEIVES:
            self._report.dead_letters += 1
        else:
            self._queue.append((upload, receives + 1))

    def _hand_on(self, ref: JobRef) -> None:
        store = self._store
        runs = cast(RunStore, self._runs)
        # Killed for good: an event that is lost, which the sweep has to make good.
        self._survives(
            "hand_on", lambda: hand_on(ref, jobs=store.jobs, runs=runs, slots=store.slots, clock=self._clock), 0.1
        )

    def _let_runs_end(self) -> int:
        """End some of the runs: most as they should, some by dying without a word."""
        ended = 0
        for name, job in list(self._runs.live.items()):
            if self._random.random() > 0.005:  # few end, so that the slots are always full
                continue
            del self._runs.live[name]
            if "salvage" not in name and self._random.random() < 0.05:
                self._runs.ended[name] = "ABORTED"
                self._report.kills["run"] += 1
                mend_lost(
                    RunTask(job.ref, job.run),
                    RunStatus("ABORTED"),
                    jobs=self._store.jobs,
                    runs=cast(RunStore, self._runs),
                    clock=self._clock,
                )
                continue
            self._runs.ended[name] = "SUCCEEDED"
            job = self._store.jobs.move(self._store.jobs.get(job.ref), JobState.MERGING, due_at=self._clock.now())
            state = JobState.FAILED if job.stop else JobState.SUCCEEDED
            ended += self._store.jobs.end(job, state).state.is_terminal
            self._ended_at[job.ref] = self._clock.now()
            self._ends_to_announce.append(job.ref)
        self._report.most_at_once = max(self._report.most_at_once, len(self._runs.live))
        return ended

    def _sweep(self) -> None:
        store = self._store
        swept = sweep(
            jobs=store.jobs,
            shards=store.shards,
            objects=store.objects,
            runs=cast(RunStore, self._runs),
            slots=store.slots,
            waits=store.waits,
            breakers=store.breakers,
            callbacks=store.callbacks,
            clock=self._clock,
        )
        self._report.violations += map(repr, swept.problems)
        held = [self._ended_at[ref] for ref in store.slots.get().members if ref in self._ended_at]
        longest = max(((self._clock.now() - ended).total_seconds() for ended in held), default=0.0)
        self._report.lost_slot_seconds = max(self._report.lost_slot_seconds, longest)

    def _survives(self, name: str, work: Callable[[], Any], chance: float) -> bool:
        """Do it, but by chance die at one of its store calls, before or after that had its effect."""
        if self._random.random() >= chance:
            work()
            return True
        fatal, after = self._random.randrange(8), self._random.random() < 0.5
        calls = 0
        real = BaseClient._make_api_call  # type: ignore[attr-defined]  # the stubs leave it out

        def dying(client: Any, *arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls - 1 < fatal:
                return real(client, *arguments)
            if after:
                real(client, *arguments)
            raise Killed

        try:
            with mock.patch.object(BaseClient, "_make_api_call", dying):
                work()
        except Killed:
            self._report.kills[name] += 1
            return False
        return True

    def _judge(self) -> Report:
        report = self._report
        runs = {name: count for name, count in self._runs.started.items() if "salvage" not in name}
        report.runs = sum(runs.values())
        expected = {keys.run_name(ref, 1) for ref in self._refs}
        if set(runs) != expected or set(runs.values()) != {1}:
            report.violations.append(f"{report.runs} runs of {len(runs)} names, not one of each upload")
        if report.most_at_once > self._slots:
            report.violations.append(f"{report.most_at_once} jobs ran at once")
        if report.dead_letters:
            report.violations.append(f"{report.dead_letters} messages went to the dead letters")
        if left := self._store.slots.get().members:
            report.violations.append(f"{len(left)} slots are held in the end")
        if report.lost_slot_seconds > 0:
            report.violations.append(f"a slot was lost for {report.lost_slot_seconds:.0f} s after a sweep")
        return report


def crowd(uploads: int, slots: int, seed: int, on_progress: Callable[[int], None] = lambda _: None) -> Report:
    """Let so many uploads meet so few slots, over an empty moto, and return what came of it."""
    with mock.patch.dict("os.environ", CREDENTIALS), empty_aws():
        return Crowd(uploads, slots, seed, on_progress).run()


def main() -> int:
    """Run what the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m prove.crowd", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--uploads", type=int, default=4384)
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    began = time.monotonic()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bars:
        bar = bars.add_task("jobs ended", total=wanted.uploads)
        report = crowd(wanted.uploads, wanted.slots, wanted.seed, lambda ended: bars.advance(bar, ended))
    kills = ", ".join(f"{count} of {name}" for name, count in sorted(report.kills.items()))
    met = (
        f"{report.uploads:,} uploads, {wanted.slots} slots: {report.runs:,} runs, at most {report.most_at_once} at once"
    )
    lost = f"{report.dead_letters} dead letters; killed: {kills or 'nothing'}"
    sys.stdout.write(f"{met}, {lost}; {time.monotonic() - began:.0f} s\n")
    for violation in report.violations:
        sys.stdout.write(f"VIOLATION {violation} (seed {wanted.seed})\n")
    return int(bool(report.violations))


if __name__ == "__main__":
    sys.exit(main())
