"""Rules on the results for the job's owner: the output, the receipt and the counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from prove.checker.evidence import Evidence, done_in


def output_is_right(evidence: Evidence) -> Iterator[str]:
    """The output equals the fault-free one, byte for byte, without the records in the receipt's missing chunks."""
    state = evidence.job.get("state")
    if state not in ("SUCCEEDED", "PARTIAL", "CANCELLED") or (state == "CANCELLED" and "output" not in evidence.job):
        return
    body = evidence.object(evidence.job.get("output"))
    if body is None:
        yield f"the job is {state} and its output does not exist"
        return
    if evidence.expected.output is None:
        return
    receipt = evidence.receipt or {}
    gaps = [(each["start"], each["end"]) for each in receipt.get("missing", [])]
    wanted = evidence.expected.output(evidence.expected.data, gaps)
    if body != wanted:
        yield f"the output is wrong: {_difference(body, wanted)}"


def missing_is_named(evidence: Evidence) -> Iterator[str]:
    """The receipt names exactly the chunks that no shard record holds, each with a cause; SUCCEEDED means none."""
    state, receipt = evidence.job.get("state"), evidence.receipt
    if state in ("SUCCEEDED", "PARTIAL") and receipt is None:
        yield f"the job is {state} and has no receipt"
    if receipt is None:
        return
    if receipt["state"] != state:
        yield f"the receipt says {receipt['state']} and the job {state}"
    named = Counter(each["index"] for each in receipt["missing"])
    held = {chunk for record in evidence.merged.values() for chunk in done_in(record)}
    absent = evidence.chunks.keys() - held
    if set(named) != absent:
        yield f"the receipt names {sorted(named)} as missing, and no record holds {sorted(absent)}"
    if repeated := [index for index, times in named.items() if times > 1]:
        yield f"the receipt names chunks more than once: {repeated}"
    if any(not (each.get("cause") or {}).get("code") for each in receipt["missing"]):
        yield "the receipt gives no cause for a missing chunk"
    if (state == "SUCCEEDED") != (not named) and state != "CANCELLED" and evidence.chunks:
        yield f"the job is {state} with {len(named)} chunks missing"


def dead_letters_are_sent(evidence: Evidence) -> Iterator[str]:
    """Each missing chunk has a dead letter of the last run, with the ID that all of its copies have.

    Dead letters of earlier runs do not count, because a redrive deletes them. A job that was cancelled needs none, and
    a job that was paused needs none for a chunk that no worker tried.
    """
    receipt = evidence.receipt
    if receipt is None or evidence.job.get("state") == "CANCELLED":
        return
    dead_letters = [json.loads(body) for body in evidence.final.queues.get("dead_letters", ())]
    known = {each["dead_letter_id"] for each in dead_letters}
    for each in receipt["missing"]:
        if evidence.job.get("state") == "PAUSED" and not each.get("tries"):
            continue
        if not each.get("message_id"):
            yield f"the receipt names no message for chunk {each['index']}"
        if f"{evidence.expected.job_id}.r{receipt['run']}.c{each['index']}" not in known:
            yield f"there is no dead letter of run {receipt['run']} for chunk {each['index']}"


def counts_are_true(evidence: Evidence) -> Iterator[str]:
    """The counts of the job and of the receipt agree with each other, with the plan and with the output."""
    receipt, counts = evidence.receipt, evidence.job.get("counts") or {}
    if receipt is None:
        return
    for name in ("chunks", "chunks_done", "chunks_failed", "records", "bytes_done"):
        if receipt["counts"].get(name) != counts.get(name):
            yield f"{name} is {receipt['counts'].get(name)} in the receipt and {counts.get(name)} in the job"
    if counts["chunks_done"] + len(receipt["missing"]) != counts["chunks"]:
        yield f"{counts['chunks_done']} chunks done and {len(receipt['missing'])} missing are not {counts['chunks']}"
    if counts["chunks"] != len(evidence.chunks):
        yield f"the job counts {counts['chunks']} chunks and its plan {len(evidence.chunks)}"
    gaps = [(each["start"], each["end"]) for each in receipt["missing"]]
    size = evidence.expected.record_bytes
    if size > 1 and counts["chunks"] and evidence.expected.output is not None:
        starts = range(0, len(evidence.expected.data), size)
        records = sum(not any(first <= start < end for first, end in gaps) for start in starts)
        if counts["records"] != records:
            yield f"the job counts {counts['records']} records; its output holds {records}"


def input_is_pinned(evidence: Evidence) -> Iterator[str]:
    """Every read of the input names the claimed version, and the job's version never changes."""
    pinned = (evidence.job.get("input") or {}).get("version_id")
    key = f"t/{evidence.expected.tenant}/j/{evidence.expected.job_id}/input/data"
    for call in evidence.history.calls:
        if call.operation == "GetObject" and call.subject == key and call.request.get("versionId") != pinned:
            yield f"{call.actor} reads version {call.request.get('versionId')} of the input, not {pinned}"
    versions = {
        (change.after or {}).get("input", {}).get("version_id")
        for _, change in evidence.job_writes
        if (change.after or {}).get("input")
    }
    if len(versions) > 1:
        yield f"the job's input changed: {sorted(map(str, versions))}"


def _difference(body: bytes, wanted: bytes) -> str:
    have, want = Counter(body.splitlines()), Counter(wanted.splitlines())
    lost, extra = want - have, have - want
    if not lost and not extra:
        return f"the same {sum(have.values())} lines in another order"
    return (
        f"{sum(lost.values())} lines lost, {sum(extra.values())} too many, first {next(iter((lost or extra).keys()))!r}"
    )
