"""Conversion of jobs to DynamoDB items and back."""

from __future__ import annotations

from dataclasses import MISSING, fields

import msgspec

from backhaul.model import keys
from backhaul.model.errors import InvalidRequest
from backhaul.model.job import Job
from backhaul.model.versions import FIELD, VERSIONS, StoredRecord, unreadable, upgraded
from backhaul.store.codec import Item, convert, from_item, to_item

_FIELDS = tuple(item.name for item in fields(Job))
_REQUIRED = frozenset(item.name for item in fields(Job) if item.default is MISSING and item.default_factory is MISSING)


def item_of(job: Job) -> Item:
    """Return the DynamoDB item of a job."""
    values = {name: getattr(job, name) for name in _FIELDS if name != "ref"}
    values |= {"pk": keys.partition(job.ref), "sk": keys.JOB_SORT_KEY}
    values |= {"tenant": job.ref.tenant, "job_id": job.ref.job_id, FIELD: VERSIONS[StoredRecord.JOB]}
    values |= {"options": msgspec.json.encode(job.options).decode()}
    values |= {"open_state": None if job.state.is_terminal else job.state}
    return to_item(values)


def job_of(item: Item) -> Job:
    """Return the job that an item of the table, or an image of the stream, holds; raises `UnreadableRecord`."""
    values = from_item(item)
    whose = f"job {values.get('job_id')} of tenant {values.get('tenant')}"
    values = upgraded(StoredRecord.JOB, values, whose)
    try:
        values["ref"] = {"tenant": values["tenant"], "job_id": values["job_id"]}
        values["options"] = msgspec.json.decode(values["options"])
        # A field that an older version did not write takes its default. A field without a default that is absent is
        # None, because items hold no None.
        return convert({name: values.get(name) for name in _FIELDS if name in values or name in _REQUIRED}, Job)
    except (msgspec.MsgspecError, LookupError, TypeError, InvalidRequest) as problem:
        raise unreadable(whose, f"{type(problem).__name__}: {problem}") from problem
