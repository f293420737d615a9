"""Rules on shards: a superseded worker changes nothing, and no committed result is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prove.checker.evidence import DROPPED, Evidence, done_in, parts_of, shard_of


def superseded_write_nothing(evidence: Evidence) -> Iterator[str]:
    """After a claim, no worker with a lower attempt changes the record; no two write different results to one key."""
    tokens: dict[tuple[str, int], int] = {}
    for call, change in evidence.writes:
        shard = shard_of(change.sk)
        if shard is None or call.function != "process":
            continue
        before, after = (change.before or {}).get("attempt", 0), (change.after or {}).get("attempt", 0)
        own = tokens.get((call.actor, shard))
        if after > before:
            tokens[call.actor, shard] = after
        elif own is None:
            yield f"{call.actor} changes shard {shard} without a claim"
        elif own < before:
            yield f"{call.actor} holds attempt {own} of shard {shard} and writes over attempt {before}"
    writers: dict[str, dict[str, str]] = {}
    for call in evidence.history.calls:
        if (
            call.applied
            and call.operation == "PutObject"
            and call.target == "results"
            and _is_own(evidence, call.subject)
        ):
            writers.setdefault(call.subject, {})[call.actor] = call.answer.get("sha256", "")
    for key, found in writers.items():
        if len(set(found.values())) > 1:
            yield f"{', '.join(found)} write different results to {key}"


def checkpoints_grow(evidence: Evidence) -> Iterator[str]:
    """Attempts never fall, no committed part is dropped or changed, and no chunk is committed twice."""
    for call, change in evidence.writes:
        if shard_of(change.sk) is None:
            continue
        if change.after is None:
            yield f"{call.actor} deletes {change.sk}"
            continue
        before, after = change.before or {}, change.after
        if after.get("attempt", 0) < before.get("attempt", 0):
            yield f"{call.actor} lowers the attempt of {change.sk}"
        had, has = _flat(before), _flat(after)
        if not still_holds(had, has):
            yield f"{call.actor} drops or changes what was committed of {change.sk}: {had} becomes {has}"
        failed = {each["index"] for each in after.get("failed", [])}
        if both := sorted(done_in(after) & failed):
            yield f"{call.actor} commits chunks {both} of {change.sk} as done and as failed"
        if lost := sorted(done_in(before) - done_in(after)):
            yield f"{call.actor} drops chunks {lost} of {change.sk}"


def _flat(record: dict[str, Any]) -> list[tuple[int, int]]:
    """Return the content of a shard record as (chunk, bytes), without regard to the objects that hold it."""
    found: list[tuple[int, int]] = []
    for lengths in parts_of(record).values():
        for chunk, size in lengths:
            if found and found[-1][0] == chunk:
                found[-1] = (chunk, found[-1][1] + size)
            else:
                found.append((chunk, size))
    return found


def still_holds(had: list[tuple[int, int]], has: list[tuple[int, int]]) -> bool:
    """Return whether every byte of `had` is still in `has`, as its chunk's or as dropped."""
    left = [each for each in reversed(has) if each[1]]  # an empty result has no place in the order of bytes
    for chunk, size in had:
        while size:
            if not left or left[-1][0] not in (chunk, DROPPED):
                return False
            own, room = left.pop()
            if room > size:  # dropped pieces that lie side by side became one
                left.append((own, room - size))
            size -= min(size, room)
    return True


def merge_follows_pointers(evidence: Evidence) -> Iterator[str]:
    """The merge that ended the job read only results to which records point, and each of those exists in full."""
    prefix = f"t/{evidence.expected.tenant}/j/{evidence.expected.job_id}/results/"
    sizes = {key: len(body) for (key, _), body in evidence.final.objects.items()}
    pointed: dict[str, int] = {}
    for shard, record in [*evidence.shards.items(), *evidence.merged.items()]:
        for (attempt, number), lengths in parts_of(record).items():
            pointed[f"{prefix}{shard:06d}.a{attempt}.p{number}"] = sum(size for _, size in lengths)
    for key, size in pointed.items():
        if size and sizes.get(key) != size:
            yield f"a record points to {size} bytes in {key}, which has {sizes.get(key)}"
    output = (evidence.job.get("output") or {}).get("key")
    winner = {call.actor for call in evidence.history.calls if output and call.subject == output and call.applied}
    for call in evidence.history.calls:
        if call.actor not in winner:
            continue
        copied = call.request.get("CopySource", "").partition("/")[2]
        read = call.subject if call.operation == "GetObject" else copied
        if read.startswith(prefix) and read not in pointed:
            yield f"{call.actor} merges {read}, to which no record points"


def _is_own(evidence: Evidence, key: str) -> bool:
    return f"/j/{evidence.expected.job_id}/" in key
