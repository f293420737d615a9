"""The checker finds what is wrong with histories that are made up by hand, and nothing in one that is right."""

import json
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest

from prove.checker import Expected, check, fencing
from prove.history import Call, Change, Final, History, Published, Work

JOB, TENANT = "0123456789abcdefghjkmnpqrs", "tenant"
PK, ROOT = f"T#{TENANT}#J#{JOB}", f"t/{TENANT}/j/{JOB}"
DATA = b"record 00000\nrecord 00001\nrecord 00002\nrecord 00003\n"
SIZE = 13


def upper(data, gaps=()):
    lines = [data[start : start + SIZE] for start in range(0, len(data), SIZE)]
    kept = [line for number, line in enumerate(lines) if not any(a <= number * SIZE < b for a, b in gaps)]
    return b"".join(kept).upper()


@dataclass
class Story:
    """A run of a job of two shards with two chunks each, told call by call."""

    history: History = field(default_factory=History)
    items: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def call(self, actor, operation, step="", subject="", *, sk=None, values=None, **request):
        change = ()
        if sk is not None:
            key = ("jobs", PK, sk)
            before = deepcopy(self.items.get(key))
            self.items[key] = (before or {}) | deepcopy(values or {})
            change = (Change(*key, before, deepcopy(self.items[key])),)
        number = len(self.history.calls) + 1
        function = actor.partition("#")[0]
        target = "results" if "/results/" in subject else ""
        call = Call(number, float(number), actor, function, operation, target, step, subject or f"{PK}|{sk}", request)
        call.job_id, call.outcome, call.applied, call.changes = JOB, "ok", True, change
        self.history.calls.append(call)
        return call

    def put(self, actor, key, body):
        call = self.call(actor, "PutObject", subject=f"{ROOT}/{key}")
        call.answer = {"version": "v1", "sha256": str(hash(body))}
        self.objects[f"{ROOT}/{key}", "v1"] = body
        return {"key": f"{ROOT}/{key}", "version_id": "v1", "size": len(body)}

    def move(self, state, actor="merge#1", **values):
        moves = self.job.get("moves", -1) + 1
        self.call(actor, "UpdateItem", f"move {state}", sk="JOB", values={"state": state, "moves": moves, **values})
        if state != "AWAITING_UPLOAD" and state != "MERGING":
            self.tell(state, moves)

    def tell(self, state, moves, **values):
        detail = {"event_id": f"{JOB}.{moves}", "job_id": JOB, "state": state, **values}
        self.history.published.append(Published(0.0, "Job", detail))

    def claim(self, actor, shard, attempt):
        self.call(actor, "UpdateItem", "claim", sk=f"SHARD#{shard:06d}", values={"attempt": attempt})

    def commit(self, actor, shard, parts):
        held = [{"attempt": a, "number": n, "lengths": lengths} for a, n, lengths in parts]
        self.call(actor, "UpdateItem", "commit", sk=f"SHARD#{shard:06d}", values={"parts": held, "finished": True})

    def work(self, *records):
        self.history.work += [Work(0.0, "process#1", JOB, f"record {number:05d}") for number in records]

    def read(self, actor, key, **request):
        self.call(actor, "GetObject", subject=f"{ROOT}/{key}", **request)

    @property
    def job(self):
        return self.items.get(("jobs", PK, "JOB"), {})

    def verdicts(self, **expected):
        usual = {"data": DATA, "output": upper, "record_bytes": SIZE, "rework_records": 1}
        wanted = Expected(JOB, TENANT, frozenset({"SUCCEEDED"}), **(usual | expected))
        final = Final(self.items, self.objects, runs={f"{JOB}-1": "SUCCEEDED"})
        return {each.rule for each in check(self.history, final, [wanted])}


def receipt(state="SUCCEEDED", missing=(), done=4):
    counts = {
        "chunks": 4,
        "chunks_done": done,
        "chunks_failed": len(missing),
        "records": done,
        "bytes_done": SIZE * done,
    }
    return {"state": state, "run": 1, "missing": list(missing), "counts": counts}


def begun() -> Story:
    story = Story()
    story.move("AWAITING_UPLOAD", "submit#1")
    story.move("QUEUED", "dispatch#1", run=1, input={"key": f"{ROOT}/input/data", "version_id": "v0"})
    story.move("RUNNING", "dispatch#1")
    lines = [{"shard": n, "first_chunk": 2 * n, "bounds": [26 * n, 26 * n + 13, 26 * n + 26]} for n in (0, 1)]
    story.put("plan#1", "plan/r1.jsonl", "\n".join(map(json.dumps, lines)).encode())
    return story


def done(story: Story, shard: int, actor: str, attempt: int = 1) -> None:
    story.read(actor, "input/data", versionId="v0")
    story.put(actor, f"results/{shard:06d}.a{attempt}.p0", DATA[26 * shard : 26 * shard + 26].upper())
    story.commit(actor, shard, [(attempt, 0, [(2 * shard, 13), (2 * shard + 1, 13)])])
    story.work(2 * shard, 2 * shard + 1)


def ended(story: Story, output: bytes = DATA.upper(), **changes: Any) -> Story:
    told = receipt(**changes)
    story.move("MERGING")
    story.call("merge#1", "Query", "list shards")
    refs = {"output": story.put("merge#1", "output/r1", output)}
    refs["receipt"] = story.put("merge#1", "receipt/r1.json", json.dumps(told).encode())
    story.move(told["state"], counts=told["counts"], **refs)
    return story


def whole() -> Story:
    story = begun()
    for shard in (0, 1):
        story.claim(f"process#{shard}", shard, 1)
        done(story, shard, f"process#{shard}")
    return story


def test_a_history_that_is_right_is_found_right():
    assert not ended(whole()).verdicts()


def test_a_job_that_never_ends_is_found():
    assert "the job ends, and as it should" in whole().verdicts()


@pytest.mark.parametrize("output", [DATA.upper()[SIZE:], DATA.upper() + DATA.upper()[:SIZE], DATA])
def test_an_output_that_lacks_repeats_or_changes_a_record_is_found(output):
    assert "the output is the fault-free one" in ended(whole(), output).verdicts()


def test_a_receipt_that_does_not_name_what_is_missing_is_found():
    story = begun()
    story.claim("process#0", 0, 1)
    done(story, 0, "process#0")
    assert "every missing chunk is named" in ended(story, DATA.upper()[:26], done=4).verdicts()


def test_a_success_with_something_missing_is_found():
    missing = [{"index": 3, "start": 39, "end": 52, "cause": {"code": "x"}, "message_id": "m"}]
    assert "every missing chunk is named" in ended(whole(), missing=missing).verdicts()


def test_a_missing_chunk_without_a_dead_letter_is_found():
    missing = [{"index": 3, "start": 39, "end": 52, "cause": {"code": "x"}, "message_id": None}]
    assert "every missing chunk has its dead letter" in ended(whole(), missing=missing).verdicts()


def test_counts_that_disagree_are_found():
    assert "counts are true" in ended(whole(), done=3).verdicts()


def test_a_write_of_a_superseded_worker_is_found():
    story = begun()
    story.claim("process#0", 0, 1)
    story.claim("process#9", 0, 2)
    done(story, 0, "process#0")
    assert "a superseded worker writes nothing" in story.verdicts()


def test_a_write_of_a_worker_that_claimed_nothing_is_found():
    story = begun()
    done(story, 0, "process#0")
    assert "a superseded worker writes nothing" in story.verdicts()


@pytest.mark.parametrize(
    ("had", "has"),
    [
        ([(-1, 88), (5, 44)], [(-1, 132), (4, 110)]),
        ([(4, 10), (-1, 5), (4, 10)], [(-1, 25)]),
        ([(4, 10)], [(4, 10), (5, 1)]),
        ([(4, 10), (5, 0), (6, 1)], [(4, 10), (5, 0), (6, 2), (7, 0)]),
    ],
)
def test_what_was_dropped_beside_what_had_been_dropped_is_no_loss(had, has):
    assert fencing.still_holds(had, has)


@pytest.mark.parametrize("has", [[], [(4, 9)], [(5, 10)], [(-1, 9)], [(-1, 5), (5, 5)]])
def test_bytes_that_are_gone_or_another_chunks_are_a_loss(has):
    assert not fencing.still_holds([(4, 10)], has)


def test_a_checkpoint_that_forgets_what_was_committed_is_found():
    story = whole()
    story.commit("process#0", 0, [(1, 0, [(0, 13)])])
    assert "checkpoints only grow" in story.verdicts()


def test_a_merge_that_reads_an_orphan_is_found():
    story = whole()
    story.put("process#7", "results/000000.a7.p0", b"orphan")
    story.read("merge#1", "results/000000.a7.p0")
    assert "merge reads what records point to" in ended(story).verdicts()


def test_a_pointer_to_a_result_that_was_never_stored_is_found():
    story = whole()
    del story.objects[f"{ROOT}/results/000001.a1.p0", "v1"]
    assert "merge reads what records point to" in ended(story).verdicts()


def test_an_illegal_move_is_found():
    story = begun()
    story.move("SUCCEEDED")
    assert "moves are legal" in story.verdicts()


def test_a_second_end_of_a_run_is_found():
    story = ended(whole())
    story.move("FAILED")
    assert {"an ended run never changes", "moves are legal"} <= story.verdicts()


def test_an_output_that_changes_after_the_end_is_found():
    story = ended(whole())
    story.call("merge#2", "UpdateItem", sk="JOB", values={"output": {"key": "other", "version_id": "v1"}})
    assert "an ended run never changes" in story.verdicts()


def test_an_event_that_never_went_out_is_found():
    story = ended(whole())
    story.history.published.pop()
    assert "one event ID for each change" in story.verdicts()


def test_two_event_ids_for_one_end_are_found():
    story = ended(whole())
    story.tell("SUCCEEDED", 9)
    assert "one event ID for each change" in story.verdicts()


def test_copies_of_an_event_that_differ_are_found():
    story = ended(whole())
    story.tell("SUCCEEDED", story.job["moves"], output="another")
    assert "one event ID for each change" in story.verdicts()


def test_a_read_of_another_version_of_the_input_is_found():
    story = whole()
    story.read("process#1", "input/data", versionId="v2")
    assert "the input is pinned" in ended(story).verdicts()


def test_work_that_is_done_again_for_no_lost_worker_is_found():
    story = whole()
    story.work(0)
    assert "rework is bounded" in ended(story).verdicts()


def test_a_slot_that_an_ended_job_holds_is_found():
    story = ended(whole())
    story.items["flow", "SLOTS", "SLOTS"] = {"pk": "SLOTS", "members": [f"{TENANT}/{JOB}"]}
    assert "slots are held by running jobs only" in story.verdicts()


def test_an_item_near_the_limit_is_found():
    story = ended(whole())
    story.call("process#0", "UpdateItem", sk="SHARD#000000", values={"note": "x" * 450_000})
    assert "items stay small" in story.verdicts()


def test_the_checker_imports_nothing_of_what_it_checks():
    import ast
    from pathlib import Path

    import prove.checker as checker

    for path in [*Path(checker.__file__).parent.glob("*.py"), Path(checker.__file__).parents[1] / "history.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in getattr(node, "names", [])]
            assert not any(str(name).startswith("backhaul") for name in names), path
