"""Checks of files: that S3 has every object to which records point, and no unfinished upload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from backhaul.admission.reconciler import ORPHANED_AFTER
from backhaul.model import keys
from backhaul.model.errors import Superseded
from backhaul.model.job import Job, JobState, ObjectRef
from backhaul.model.progress import DROPPED, Part, ShardRecord
from backhaul.operations.doctor.finding import Finding
from backhaul.operations.doctor.survey import Survey
from backhaul.store import ObjectStore
from backhaul.store.objects import Orphan

_NEEDING_RESULTS = (
    JobState.QUEUED,
    JobState.RUNNING,
    JobState.MERGING,
    JobState.PARTIAL,
    JobState.PAUSED,
    JobState.FAILED,
    JobState.CANCELLED,
)


def unfinished_uploads(survey: Survey) -> Iterator[Finding]:
    """Find abandoned multipart uploads; they cost money, and no listing of objects shows them."""
    for orphan in survey.store.objects.orphans(survey.now - ORPHANED_AFTER):
        what = f"the upload of {orphan.key} was never finished"
        repair = partial(_abort, survey.store.objects, orphan)
        yield Finding(what, "aborts the upload", since=orphan.initiated, key=orphan.upload_id, repair=repair)


def lost_results(survey: Survey) -> Iterator[Finding]:
    """Find shard records that point to results which are not in S3, of jobs that may still need them."""
    ended = {job.ref for job in survey.ended()}
    for job in survey.within(*_NEEDING_RESULTS):
        if job.state.is_terminal and job.ref not in ended:
            continue
        records = survey.records(job)  # before the listing: a worker stores an object before the record that names it
        if not any(record.parts for record in records):
            continue
        stored = survey.store.objects.sizes(keys.results_prefix(job.ref))
        lost = {each.index: parts for each in records if (parts := _lost(job, each, stored))}
        if not lost:
            continue
        shards = ", ".join(map(str, list(lost)[:5])) + ", …" * (len(lost) > 5)
        yield Finding(
            f"{sum(map(len, lost.values()))} result objects of shard {shards} are gone",
            "marks these shards as not done, so that the run or a redrive processes them again",
            job.ref,
            job.updated_at,
            repair=partial(_reopen, survey, job, frozenset(lost)),
        )


def lost_outputs(survey: Survey) -> Iterator[Finding]:
    """Find ended jobs whose output or receipt is not in S3."""
    for job in survey.ended():
        for name, found in (("output", job.output), ("receipt", job.receipt)):
            if found is not None and not survey.store.objects.exists(found):
                yield Finding(f"the job's {name} is gone", _remedy(job, found), job.ref, job.ended_at, name)


def _remedy(job: Job, found: ObjectRef) -> str:
    if job.state is JobState.SUCCEEDED:
        return f"by hand: restore {found.key} from a backup, or submit the file again"
    return f"by hand: redrive the job, which makes a new one, or restore {found.key} from a backup"


def _abort(objects: ObjectStore, orphan: Orphan) -> str:
    objects.abort(orphan)
    return "aborted"


def _lost(job: Job, record: ShardRecord, stored: Mapping[str, int]) -> tuple[Part, ...]:
    return tuple(
        part
        for part in record.parts
        if any(index != DROPPED and length for index, length in part.lengths)
        and stored.get(keys.result_key(job.ref, record.index, part.attempt, part.number), -1) < part.size
    )


def _reopen(survey: Survey, job: Job, lost: frozenset[int]) -> str:
    """Take back the results of the lost shards under a new claim, which fences off any worker that holds one.

    A shard loses all of its results, because its record holds only their sums: the lost part's share of them is not
    known. Stored steps stay, so that no answer is paid for twice.
    """
    reopened = []
    for shard in survey.plan(job):
        if shard.index not in lost:
            continue
        try:
            claimed = survey.store.shards.claim(job.ref, shard, job.run, expires_at=job.expires_at)
            # This claim is an attempt too. It hands over at once, so that the next one does not count it as a death.
            fresh = replace(claimed, handed_over=claimed.attempt)
            if _lost(job, claimed, survey.store.objects.sizes(keys.results_prefix(job.ref))):
                empty: dict[str, Any] = {
                    "parts": (),
                    "open": None,
                    "records": 0,
                    "bytes_done": 0,
                    "tallies": {},
                    "finished": False,
                }
                fresh = replace(fresh, **empty)
                reopened.append(shard.index)
            survey.store.shards.commit(job.ref, fresh)
        except Superseded:  # a later run, or a worker that claimed the shard after this, holds it
            continue
    return f"reopened shard {', '.join(map(str, reopened))}" if reopened else ""
