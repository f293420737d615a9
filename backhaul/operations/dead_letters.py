"""Finds dead letters in their queues: each once, with its reason and however many copies it has."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from backhaul.model.dead_letter import ChunkDeadLetter
from backhaul.model.errors import DeadLetterNotFound, InvalidRequest, JobNotFound, UnreadableRecord
from backhaul.model.job import Job, JobRef
from backhaul.operations.contents import Content, LostBatch, Malformed, Queue, Uploads, job_of, read
from backhaul.operations.holding import Held
from backhaul.operations.reasons import MEANINGS, DeadLetterReason, Standing, classify
from backhaul.store import JobStore, ShardStore
from backhaul.store.queues import Message

SHORTEST_ID = 8
"""The fewest characters of a message's ID that a list shows."""
SHORTEST_NAME = 4
"""The fewest characters with which an operator can name a dead letter, if no other ID begins with them."""


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter, with all copies of its message."""

    queue: Queue
    content: Content
    reason: DeadLetterReason
    copies: tuple[Message, ...]
    standing: Job | None
    """The dead letter's job; None if it does not exist."""

    @property
    def oldest(self) -> Message:
        """The copy that was sent first; its message ID names the dead letter."""
        return min(self.copies, key=lambda copy: (copy.sent_at, copy.message_id))

    @property
    def job(self) -> JobRef | None:
        """The tenant and ID of the dead letter's job, even if that does not exist; None if it names none."""
        return job_of(self.content)

    @property
    def chunk(self) -> ChunkDeadLetter | None:
        """The failed chunk in the dead letter; None if it is about something else."""
        return self.content if isinstance(self.content, ChunkDeadLetter) else None

    @property
    def dead_letter_id(self) -> str | None:
        """The ID that the sender gave the dead letter, the same in every copy; None if it gave none."""
        return self.chunk.dead_letter_id if self.chunk else None

    @property
    def sent_at(self) -> datetime:
        """When the first copy was sent."""
        return self.oldest.sent_at

    @property
    def says(self) -> str:
        """The failure in words."""
        if self.chunk is not None:
            return self.chunk.cause.message
        if isinstance(self.content, Malformed):
            return self.content.why
        if isinstance(self.content, LostBatch):
            return f"{self.content.size} changes of the jobs table were not announced."
        state = f"; the job is {self.standing.state}" if self.standing else ""
        return f"{MEANINGS[self.reason].capitalize()}{state}."

    def is_called(self, name: str) -> bool:
        """Return whether `name` is the dead letter's ID, or the beginning of a message ID of one of its copies."""
        return name == self.dead_letter_id or any(copy.message_id.startswith(name) for copy in self.copies)


@dataclass(frozen=True)
class Wanted:
    """The selection of dead letters for a command."""

    ids: tuple[str, ...] = ()
    queues: tuple[Queue, ...] = tuple(Queue)
    reason: DeadLetterReason | None = None
    job: str | None = None
    tenant: str | None = None
    limit: int | None = None

    def may_fit(self, content: Content) -> bool:
        """Return whether a dead letter with this content is wanted, as far as that is known without the store."""
        job = job_of(content)
        return (self.job is None or (job is not None and job.job_id == self.job)) and (
            self.tenant is None or (job is not None and job.tenant == self.tenant)
        )


@dataclass(frozen=True)
class Found:
    """The result of a search: the dead letters, whether these are all, and the wanted IDs that were not found."""

    dead_letters: tuple[DeadLetter, ...]
    complete: bool = True
    missing: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise `DeadLetterNotFound` if a wanted ID was not found."""
        if self.missing:
            names = ", ".join(map(repr, self.missing))
            raise DeadLetterNotFound(
                f"No dead letter has the ID {names}. It is gone, or another command is working on it: try "
                "again in 5 minutes."
            )


def find(wanted: Wanted, held: Held, *, jobs: JobStore, shards: ShardStore) -> Found:
    """Return the wanted dead letters, in the order of their queues; all received messages stay held.

    The queues are searched at the same time, because it takes seconds to be sure that a queue holds no more.
    """
    with ThreadPoolExecutor(len(wanted.queues)) as threads:
        try:
            searches = [_Search(queue, wanted, held, _Standings(jobs, shards)) for queue in wanted.queues]
            # Not `map`: after an exception in one thread, or Ctrl-C, the others must stop before they are waited for.
            running = [threads.submit(search.dead_letters) for search in searches]
            dead_letters = [dead_letter for each in running for dead_letter in each.result()]
        except BaseException:
            held.stop()
            raise
    if wanted.ids:
        return _chosen(dead_letters, wanted)
    complete = len(dead_letters) <= (wanted.limit or len(dead_letters))
    return Found(tuple(dead_letters[: wanted.limit]), complete)


@dataclass
class _Copies:
    content: Content
    reason: DeadLetterReason
    messages: list[Message] = field(default_factory=list)


@dataclass(frozen=True)
class _Search:
    queue: Queue
    wanted: Wanted
    held: Held
    standings: _Standings

    def dead_letters(self) -> list[DeadLetter]:
        """Return the queue's wanted dead letters: one more than the limit if there are more, so that this is known."""
        found: dict[str, _Copies] = {}
        for message in self.held.receive(self.queue):
            self._sort(message, found)
            if self.wanted.limit and not self.wanted.ids and len(found) > self.wanted.limit:
                break
        return [self._dead_letter(each) for each in found.values()]

    def _sort(self, message: Message, found: dict[str, _Copies]) -> None:
        content = read(self.queue, message.body)
        if not self.wanted.may_fit(content):
            return
        key = _identity(content, message)
        if key not in found:
            reason = classify(content, self.standings.of(content))
            if self.wanted.reason not in (None, reason):
                return
            found[key] = _Copies(content, reason)
        found[key].messages.append(message)

    def _dead_letter(self, each: _Copies) -> DeadLetter:
        job = self.standings.job(job_of(each.content))
        return DeadLetter(self.queue, each.content, each.reason, tuple(each.messages), job)


def done_chunks(job: JobRef, shards: ShardStore) -> frozenset[int]:
    """Return the chunks of a job that have a result."""
    return frozenset[int]().union(*(record.done() for record in shards.all(job)))


def short_ids(dead_letters: Iterable[DeadLetter]) -> dict[str, str]:
    """Return the shortest beginning of each dead letter's ID that no other has, of at least eight characters."""
    known = sorted(copy.message_id for dead_letter in dead_letters for copy in dead_letter.copies)
    return {each: _shortest(each, known[max(at - 1, 0) : at + 2]) for at, each in enumerate(known)}


def _shortest(name: str, neighbours: list[str]) -> str:
    for length in range(SHORTEST_ID, len(name)):
        if sum(each.startswith(name[:length]) for each in neighbours) == 1:
            return name[:length]
    return name


def _identity(content: Content, message: Message) -> str:
    if isinstance(content, ChunkDeadLetter):
        return f"{content.tenant}/{content.dead_letter_id}"
    return message.body


def _chosen(dead_letters: list[DeadLetter], wanted: Wanted) -> Found:
    chosen: dict[str, DeadLetter] = {}
    missing = []
    for name in dict.fromkeys(wanted.ids):
        if len(name) < SHORTEST_NAME:
            raise InvalidRequest(f"{name!r} is too short for an ID. Write at least {SHORTEST_NAME} characters of it.")
        called = [dead_letter for dead_letter in dead_letters if dead_letter.is_called(name)]
        if len(called) > 1:
            fits = ", ".join(dead_letter.oldest.message_id for dead_letter in called[:5])
            raise InvalidRequest(f"The ID {name!r} fits {len(called)} dead letters. Write more of it: {fits}.")
        if called:
            chosen[called[0].oldest.message_id] = called[0]
        else:
            missing.append(name)
    return Found(tuple(chosen.values())[: wanted.limit], missing=tuple(missing))


class _Standings:
    """Reads from the store the state of each job and of its chunks, once a job."""

    def __init__(self, jobs: JobStore, shards: ShardStore) -> None:
        self._jobs = jobs
        self._shards = shards
        self._known: dict[JobRef, Job | None] = {}
        self._unreadable: set[JobRef] = set()
        self._done: dict[JobRef, frozenset[int]] = {}

    def of(self, content: Content) -> Standing:
        if isinstance(content, Uploads):
            refs = {upload.job for upload in content.uploads}
            jobs = {ref: job for ref in refs if (job := self.job(ref)) is not None}
            return Standing(jobs, readable=not refs & self._unreadable)
        ref = job_of(content)
        job = self.job(ref)
        if ref is None or job is None:
            return Standing(readable=ref not in self._unreadable)
        if ref not in self._done:
            self._done[ref] = done_chunks(ref, self._shards)
        return Standing({ref: job}, self._done[ref])

    def job(self, ref: JobRef | None) -> Job | None:
        if ref is None:
            return None
        if ref not in self._known:
            try:
                self._known[ref] = self._jobs.get(ref)
            except JobNotFound:
                self._known[ref] = None
            except UnreadableRecord:  # one unreadable job must not hide all dead letters
                self._known[ref] = None
                self._unreadable.add(ref)
        return self._known[ref]
