"""Job records in DynamoDB: every move between states is one conditional write."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from backhaul.model import keys
from backhaul.model.errors import JobNotFound, RunNotFound
from backhaul.model.job import Cause, Counts, Job, JobRef, JobState, ObjectRef, Stop, StopKind
from backhaul.model.versions import FIELD, VERSIONS, StoredRecord, former
from backhaul.store.codec import Item, arguments, from_item, naming, read_item, removing, setting, to_item
from backhaul.store.job_index import HELD_BACK, READY, JobIndex, QueueEntry
from backhaul.store.job_item import item_of, job_of

_UNSTOPPED = "attribute_not_exists(#stop)"


@dataclass(frozen=True)
class _EndedRun:
    state: JobState
    run: int
    started_at: datetime | None = None
    ended_at: datetime | None = None
    output: ObjectRef | None = None
    receipt: ObjectRef | None = None
    counts: Counts | None = None
    cause: Cause | None = None


class JobStore(JobIndex):
    """The job records of one deployment."""

    def create(self, job: Job) -> Job:
        """Store a new job and return it; if its ID is taken, return the job that is stored under it."""
        try:
            self._client.put_item(
                TableName=self._table,
                Item=item_of(job),
                ConditionExpression="attribute_not_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException as refused:
            stored: Item = refused.response["Item"]  # type: ignore[typeddict-item]  # the stubs do not know it
            return job_of(stored)
        return job

    def get(self, ref: JobRef, *, consistent: bool = True) -> Job:
        """Return the job as last written; raises `JobNotFound`.

        A read that is not consistent costs half, and may return the job as it was a moment ago.
        """
        found = self._client.get_item(TableName=self._table, Key=_key(ref), ConsistentRead=consistent)
        if "Item" not in found:
            raise JobNotFound(ref.job_id)
        return job_of(found["Item"])

    def move(self, job: Job, to: JobState, *, due_at: datetime | None = None, **changes: Any) -> Job:
        """Move the job to a state if the table of moves allows it, and return the job as it now stands.

        The caller must check the returned state. Nothing is written when another writer was first, or when the job
        has begun another run since the caller read it. Raises `JobNotFound`.
        """
        # A caller that read an open job decides about that run only. Only a redrive opens a job that has ended.
        sources = {state for state in to.predecessors if state.is_terminal == job.state.is_terminal}
        return self._move(job, to, sources, due_at=due_at, **changes)

    def move_from(self, job: Job, to: JobState, **changes: Any) -> Job:
        """Move the job only if it is still in the state that the caller read; return it as it now stands."""
        return self._move(job, to, {job.state} & to.predecessors, **changes)

    def end(self, job: Job, to: JobState, **changes: Any) -> Job:
        """Move the job like `move`, but not if the request to stop it has changed since the caller read the job."""
        also, kind = _UNSTOPPED, {}
        if job.stop:
            also, kind = "#stop.#kind = :kind", {"kind": job.stop.kind}
        sources = {state for state in to.predecessors if not state.is_terminal}
        return self._move(job, to, sources, also=also, given=kind, **changes)

    def reopen(self, job: Job, **changes: Any) -> Job | None:
        """Queue a job that has ended for another run, and return it; None if another writer reopened it first."""
        gone = ("ended_at", "started_at", "output", "receipt", "cause", "stop", "deadline_at")
        sources = {job.state} & JobState.QUEUED.predecessors
        order = secrets.token_hex(8)
        queued = self._move(job, JobState.QUEUED, sources, remove=gone, run=job.run + 1, order=order, **changes)
        return queued if queued.order == order else None

    def request_stop(self, job: Job, stop: Stop) -> Job:
        """Ask the job's run to stop, unless it has ended or was asked before; return the job as it now stands.

        A cancellation replaces a stop for a spent budget: that one would only pause the job, and a paused job can go
        on later.
        """
        unstopped, kind = _UNSTOPPED, {}
        if stop.kind is StopKind.CANCEL:
            unstopped, kind = f"({_UNSTOPPED} OR #stop.#kind = :kind)", {"kind": StopKind.BUDGET}
        return self._update(
            job.ref,
            {"stop": stop},
            condition=f"#run = :of_run AND (#state = :running OR #state = :merging) AND {unstopped}",
            given={"of_run": job.run, "running": JobState.RUNNING, "merging": JobState.MERGING} | kind,
            names=("state", "run", *kind),
        )

    def note(self, job: Job, **changes: Any) -> Job:
        """Change fields of the job, unless its state has changed meanwhile; return it as it now stands."""
        return self._update(
            job.ref,
            changes,
            condition="#state = :now AND #run = :of_run",
            given={"now": job.state, "of_run": job.run},
            names=("state", "run"),
        )

    def move_in_queue(self, entry: QueueEntry, *, ready: bool) -> None:
        """Move a waiting job to the `READY` part of the queue, or to the `HELD_BACK` part; it keeps its turn."""
        values = {"queue": READY if ready else HELD_BACK}
        with suppress(self._client.exceptions.ConditionalCheckFailedException):  # the job no longer waits
            self._client.update_item(
                TableName=self._table,
                Key=_key(entry.job),
                UpdateExpression=setting(values),
                ConditionExpression="#turn = :turn",
                ExpressionAttributeNames=naming([*values, "turn"]),
                ExpressionAttributeValues=arguments(values | {"turn": entry.turn}),
            )

    def is_indexed(self, ref: JobRef) -> bool:
        """Return whether the job is in exactly the indexes that belong to its state; raises `JobNotFound`."""
        found = self._client.get_item(TableName=self._table, Key=_key(ref), ConsistentRead=True)
        if "Item" not in found:
            raise JobNotFound(ref.job_id)
        item, job = found["Item"], job_of(found["Item"])
        waits = "queue" in item or "turn" in item
        if job.state.is_terminal:
            return not waits and "open_state" not in item and "due_at" not in item
        listed = "due_at" in item and from_item(item).get("open_state") == job.state
        return listed and (job.state is JobState.QUEUED or not waits)

    def index_anew(self, job: Job, due_at: datetime) -> Job:
        """Put the job into its state's indexes, unless the state has changed; return the job as it now stands."""
        ended = job.state.is_terminal
        return self._update(
            job.ref,
            {"state": job.state} | ({} if ended else {"open_state": job.state, "due_at": due_at}),
            remove=(("open_state", "due_at") if ended else ())
            + (() if job.state is JobState.QUEUED else ("queue", "turn")),
            condition="#state = :now AND #run = :of_run",
            given={"now": job.state, "of_run": job.run},
            names=("state", "run"),
        )

    def keep_run(self, job: Job) -> None:
        """Store the end of the job's last run as an item of its own, before a redrive; a repeat changes nothing."""
        values = {name: getattr(job, name) for name in (*(each.name for each in fields(_EndedRun)), "expires_at")}
        self._client.put_item(
            TableName=self._table,
            Item=to_item(
                values
                | {"pk": keys.partition(job.ref), "sk": keys.run_sort_key(job.run)}
                | {FIELD: VERSIONS[StoredRecord.ENDED_RUN]}
            ),
        )

    def of_run(self, job: Job, run: int) -> Job:
        """Return the job as it was at the end of an earlier run; raises `RunNotFound`."""
        if run == job.run:
            return job
        key = to_item({"pk": keys.partition(job.ref), "sk": keys.run_sort_key(run)})
        found = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        if "Item" not in found:
            raise RunNotFound(job.ref.job_id, run)
        kept = read_item(found["Item"], StoredRecord.ENDED_RUN, _EndedRun, f"run {run} of job {job.ref.job_id}")
        return replace(job, **{each.name: getattr(kept, each.name) for each in fields(_EndedRun)})

    def _move(
        self,
        job: Job,
        to: JobState,
        sources: Collection[JobState],
        *,
        also: str = "",
        given: Mapping[str, Any] = MappingProxyType({}),
        remove: tuple[str, ...] = (),
        due_at: datetime | None = None,
        **changes: Any,
    ) -> Job:
        now = self._clock.now()
        values = changes | {"state": to, "updated_at": now}
        if to.is_terminal:
            values["ended_at"] = now
            remove += ("open_state", "due_at")
        else:
            values |= {"open_state": to, "due_at": due_at}
        if to is not JobState.QUEUED:
            remove += ("queue", "turn")
        # No state leads to this move, so there is nothing to write, and the caller gets the job as it stands.
        if not sources:
            return self.get(job.ref)
        allowed = " OR ".join(f"#state = :from_{state}" for state in sorted(sources))
        return self._update(
            job.ref,
            values,
            remove=remove,
            condition=" AND ".join(filter(None, [f"({allowed})", "#run = :of_run", also])),
            given={f"from_{state}": state for state in sources} | {"of_run": job.run} | dict(given),
            is_move=True,
            names=("state", "run", *(["stop"] if also else []), *given),
        )

    def _update(
        self,
        ref: JobRef,
        values: dict[str, Any],
        *,
        condition: str,
        given: dict[str, Any],
        remove: tuple[str, ...] = (),
        is_move: bool = False,
        names: tuple[str, ...] = (),
    ) -> Job:
        stored = {name: value for name, value in values.items() if value is not None}
        remove += former(StoredRecord.JOB, [*stored, *remove])
        stored[FIELD] = VERSIONS[StoredRecord.JOB]
        expression = setting(stored) + (", moves = moves + :one" if is_move else "")
        expression += removing(remove)
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=_key(ref),
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames=naming(stored) | naming(names) | naming(remove),
                ExpressionAttributeValues=arguments(stored | given | ({"one": 1} if is_move else {})),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException as refused:
            current: Item | None = refused.response.get("Item")  # type: ignore[assignment]  # the stubs do not know it
            if not current:
                raise JobNotFound(ref.job_id) from None
            return job_of(current)
        return job_of(answer["Attributes"])


def _key(ref: JobRef) -> Item:
    return to_item({"pk": keys.partition(ref), "sk": keys.JOB_SORT_KEY})
