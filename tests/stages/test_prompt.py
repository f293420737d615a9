"""prompt, embed and research in a deployment: order, refusals, bounded repairs, and never paying twice."""

import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from backhaul import Answer, ModelRefused, Usage
from backhaul.model.job import JobState
from backhaul.model.money import DOLLAR
from backhaul.model.policy import Policy
from backhaul.paid import channels as channel_module
from backhaul.plugin.context import RecordCursor
from backhaul.plugin.registry import find_processors
from backhaul.providers import Provider
from backhaul.store.budgets import BudgetKey
from backhaul.worker import commit as commits
from prove.strict import strict
from tests.stages.test_crashes import Crash

PROJECT = Path(__file__).resolve().parents[2]
RESEARCH = find_processors(PROJECT / "processors").get("research")
SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}


@pytest.fixture(scope="module")
def strict_provider():
    with strict() as fake:
        yield fake


@pytest.fixture
def fake(deployment, strict_provider):
    strict_provider.reset(invalid_share=0, context_tokens=0)
    set_up(deployment, base_url=strict_provider.url)
    return strict_provider


def set_up(deployment, **changes):
    settings = {"name": "acme", "kind": "openai", "base_url": "https://api.acme.example/v1", "model": "m"}
    prices = {"price_input": 100, "price_output": 1000}
    deployment.store.providers.put(Provider(**settings | prices | changes), version=None, by="tests")


def run(deployment, name, data, **options):
    job = deployment.run(name, data, options={"provider": "acme", "prompt": "{{record}}"} | options)
    return job, lines_of(deployment, job)


def lines_of(deployment, job):
    text = deployment.read(job.output).decode()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def jsonl(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


# Against the strict provider.


def test_every_record_has_its_answer_in_order_over_many_chunks(deployment, fake):
    records = [{"id": number, "word": f"word{number}"} for number in range(60)]
    job, lines = run(deployment, "prompt", jsonl(*records), prompt="upper: {{word}}", chunk_bytes=200)
    assert job.state is JobState.SUCCEEDED
    assert job.counts.chunks > 5
    assert [line["input"] for line in lines] == records
    assert [line["output"] for line in lines] == [record["word"].upper() for record in records]
    counts = fake.counts()
    assert (counts["paid"], {each["paid"] for each in counts["by_content"].values()}) == (60, {1})
    assert all(line["usage"]["output_tokens"] > 0 for line in lines)


def test_refused_filtered_and_too_long_records_are_kept_with_their_cause_and_asked_once(deployment, fake):
    fake.reset(context_tokens=60)
    data = b"echo: one\nrefuse: two\nfilter: three\necho: %s\necho: five\n" % (b"x" * 400)
    job, lines = run(deployment, "prompt", data, format="lines")
    assert job.state is JobState.SUCCEEDED
    assert [line["output"] for line in lines] == ["one", None, None, None, "five"]
    codes = [line["error"]["code"] for line in lines if "error" in line]
    assert codes == ["model_refused", "model_refused", "prompt_too_long"]
    assert job.counts.tallies == {"error model_refused": 2, "error prompt_too_long": 1}
    assert fake.counts()["calls"] == 5
    assert "rather not" not in json.dumps(lines)  # what the model said to a refusal


def test_with_fail_a_refusal_costs_its_chunk_alone_and_the_receipt_says_why(deployment, fake):
    data = b"echo: one\necho: two\nrefuse: three\necho: four\necho: five\n"
    job, lines = run(deployment, "prompt", data, format="lines", on_error="fail", chunk_bytes=12)
    assert job.state is JobState.PARTIAL
    assert "five" in [line["output"] for line in lines]
    (missing,) = deployment.receipt(job)["missing"]
    assert missing["cause"]["code"] == "model_refused"
    assert "three" not in json.dumps(missing)


@pytest.mark.parametrize("repairs", [0, 2])
def test_answers_that_do_not_follow_the_schema_are_mended_so_often_and_no_more(deployment, fake, repairs):
    fake.reset(invalid_share=1)
    data = jsonl(*({"id": number} for number in range(5)))
    job, lines = run(deployment, "prompt", data, schema=SCHEMA, repairs=repairs)
    assert job.state is JobState.SUCCEEDED
    assert {line["error"]["code"] for line in lines} == {"invalid_answer"}
    assert fake.counts()["calls"] == 5 * (1 + repairs)
    assert job.counts.tallies["error invalid_answer"] == 5


def test_most_answers_are_good_after_repairs_where_some_are_not(deployment, fake):
    fake.reset(invalid_share=0.4)
    data = jsonl(*({"id": number} for number in range(20)))
    job, lines = run(deployment, "prompt", data, schema=SCHEMA, repairs=3)
    assert all(line["output"]["mood"] in ("good", "bad") for line in lines if "error" not in line)
    assert sum("error" in line for line in lines) <= 5
    assert fake.counts()["calls"] == 20 + job.counts.tallies["repairs"]


def test_answers_that_are_no_json_again_and_again_are_the_records_failure_after_its_tries(deployment, fake):
    fake.control(outage="malformed", seconds=600)
    options = {"provider": "acme", "prompt": "{{record}}", "format": "lines", "concurrency": 1}
    job = deployment.run("prompt", b"echo: one\n", options=options, policy=Policy(max_tries=3))
    fake.control(outage=None)
    (missing,) = deployment.receipt(job)["missing"]
    assert (job.state, missing["cause"]["code"]) == (JobState.FAILED, "unreadable_answer")
    # Each was paid for, and after the record's tries there are no more.
    assert (fake.counts()["calls"], fake.counts()["paid"]) == (3, 3)


def test_an_unknown_field_fails_the_job_before_anything_is_paid(deployment, fake):
    job = deployment.run("prompt", b"a,b\n1,2\n3,4\n", options={"provider": "acme", "prompt": "{{c}}", "format": "csv"})
    assert job.state is JobState.FAILED
    (missing,) = deployment.receipt(job)["missing"]
    assert missing["cause"]["code"] == "missing_field"
    assert "no field 'c'" in missing["cause"]["detail"]
    assert fake.counts()["calls"] == 0


def test_a_file_that_is_not_of_the_format_costs_nothing_and_says_where(deployment, fake):
    job = deployment.run("prompt", b"a,b\n1,2\n", options={"provider": "acme", "prompt": "{{record}}"})
    assert (job.state, job.cause.code, job.cause.position) == (JobState.FAILED, "unsuitable_input", 0)
    assert fake.counts()["calls"] == 0


def test_vectors_come_in_order_with_one_call_for_a_batch(deployment, fake):
    records = [{"id": number, "text": f"text {number}"} for number in range(50)]
    job = deployment.run("embed", jsonl(*records), options={"provider": "acme", "batch": 20, "dimensions": 4})
    lines = lines_of(deployment, job)
    assert [line["input"] for line in lines] == records
    assert {len(line["embedding"]) for line in lines} == {4}
    assert fake.counts()["paid"] == 3
    again = deployment.run("embed", jsonl(*records), options={"provider": "acme", "batch": 7, "dimensions": 4})
    assert lines_of(deployment, again) == lines


def test_a_text_over_the_window_costs_its_batch_nothing(deployment, fake):
    fake.reset(context_tokens=20)
    data = b"one\ntwo\n%s\nfour\n" % (b"x" * 400)
    job = deployment.run("embed", data, options={"provider": "acme", "format": "lines"})
    errors = [line.get("error", {}).get("code") for line in lines_of(deployment, job)]
    assert errors == [None, None, "prompt_too_long", None]


def test_research_answers_every_topic_in_three_calls(deployment, fake):
    asking = deployment.with_processors(RESEARCH)
    job = asking.run("research", b"tea\n\ncoffee\n", options={"provider": "acme"})
    lines = lines_of(asking, job)
    assert [line["topic"] for line in lines] == ["tea", "coffee"]
    assert all(line["report"].startswith("answer ") for line in lines)
    assert fake.counts()["paid"] == 6


# Dying, and not paying twice.


class Model:
    """A paid model that obeys, and counts what it was asked by content."""

    max_texts = 0

    def __init__(self):
        self.asked = Counter()
        self.refuses = ""

    def call(self, request, *, key=None, timeout=None):
        self.asked[repr(request)] += 1
        if hasattr(request, "texts"):
            return Answer([[float(len(text))] for text in request.texts], Usage(10))
        content = request.messages[-1].content
        if self.refuses and self.refuses in content:
            raise ModelRefused("No.", input_tokens=10)
        return Answer(self._answer(request, content), Usage(10, 20))

    def _answer(self, request, content):
        if content.startswith("Each of the "):
            records = [json.loads(line)["text"] for line in content.splitlines()[2:]]
            answers = [{"record": number, "answer": text.upper()} for number, text in enumerate(records, 1)]
            return json.dumps({"answers": answers})
        if request.json_schema:
            return json.dumps({"questions": [f"{content}?"]})
        return content.upper()


@pytest.fixture
def model(deployment, monkeypatch):
    made = Model()
    set_up(deployment)
    monkeypatch.setattr(channel_module, "open_provider", lambda *_, **__: made)
    return made


def ended(deployment, task, shard):
    while (outcome := deployment.process(shard)).outcome != "done":
        deployment.clock.advance(seconds=outcome.seconds)
    job = deployment.merge(task)
    assert job.state is JobState.SUCCEEDED
    return job


def begun(deployment, name, data, policy=None, **options):
    options = {"provider": "acme"} | options
    task = deployment.start(name, data, options=options, policy=policy or Policy())
    deployment.plan(task)
    (shard,) = deployment.shard_tasks(task)
    return task, shard


def crash_at(monkeypatch, owner, name, times, *, after=True):
    """Let the call of a method after so many others be the last thing the process does."""
    real, left = getattr(owner, name), [times]

    def counting(*args, **kwargs):
        left[0] -= 1
        if left[0] >= 0:
            return real(*args, **kwargs)
        monkeypatch.setattr(owner, name, real)
        if after:
            real(*args, **kwargs)
        raise Crash

    monkeypatch.setattr(owner, name, counting)


TOPICS = b"tea\ncoffee\n"


@pytest.mark.parametrize("stored", range(6))
def test_research_that_is_killed_between_any_two_steps_pays_for_each_once(deployment, model, monkeypatch, stored):
    asking = deployment.with_processors(RESEARCH)
    expected = lines_of(asking, asking.run("research", TOPICS, options={"provider": "acme", "concurrency": 1}))
    once = dict(model.asked)
    assert len(once) == 6
    model.asked.clear()
    task, shard = begun(asking, "research", TOPICS, concurrency=1)
    crash_at(monkeypatch, type(asking.store.steps), "keep", stored)
    with pytest.raises(Crash):
        asking.process(shard)
    assert sum(model.asked.values()) == stored + 1
    job = ended(asking, task, shard)
    assert lines_of(asking, job) == expected
    assert model.asked == once


LINES = b"".join(b"line %02d\n" % number for number in range(30))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("prompt", {"prompt": "{{record}}", "format": "lines", "group": 4}),
        ("embed", {"format": "lines", "batch": 4}),
    ],
)
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("moment", [0, 2])
@pytest.mark.parametrize("after", [False, True])
def test_groups_are_the_same_after_a_crash_in_the_midst_of_a_chunk(
    deployment, model, monkeypatch, name, options, concurrency, moment, after
):
    monkeypatch.setattr(commits, "COMMIT_SECONDS", 0.0)
    expected = lines_of(deployment, deployment.run(name, LINES, options={"provider": "acme"} | options))
    once = dict(model.asked)
    assert len(once) == 8
    model.asked.clear()
    task, shard = begun(deployment, name, LINES, concurrency=concurrency, **options)
    crash_at(monkeypatch, type(deployment.store.shards), "commit", moment, after=after)
    with pytest.raises(Crash):
        deployment.process(shard)
    job = ended(deployment, task, shard)
    assert lines_of(deployment, job) == expected
    assert model.asked == once
    assert (job.counts.records, len(expected)) == (30, 30)


def test_a_group_that_is_refused_is_asked_about_one_by_one_and_only_the_culprit_is_without_answer(deployment, model):
    model.refuses = "line 05"
    job, lines = run(deployment, "prompt", LINES, format="lines", group=10)
    assert [line["input"] for line in lines if line["output"] is None] == ["line 05"]
    assert len(model.asked) == sum(model.asked.values()) == 3 + 10
    assert job.counts.tallies == {"error model_refused": 1}


def test_a_spent_budget_pauses_groups_too_and_nothing_is_paid_twice(deployment, model):
    options = {"prompt": "{{record}}", "format": "lines", "group": 3, "max_tokens": 20}
    task, shard = begun(deployment, "prompt", LINES, policy=Policy(max_cost="0.15"), **options)
    assert deployment.process(shard).outcome == "done"
    job = deployment.merge(task)
    assert job.state is JobState.PAUSED
    paid = sum(model.asked.values())
    assert 0 < paid < 10
    deployment.store.budgets.raise_cap(BudgetKey.of_job(job.ref), DOLLAR, by="me", why="more")
    deployment.redrive(job.ref)
    again = deployment.finish(type(task)(job.ref, job.run + 1))
    assert again.state is JobState.SUCCEEDED
    assert [line["output"] for line in lines_of(deployment, again)] == LINES.decode().upper().splitlines()
    assert set(model.asked.values()) == {1}


def test_records_of_a_refused_group_have_their_time_each(deployment, model, monkeypatch):
    seen = []
    real = RecordCursor.waits_for
    monkeypatch.setattr(RecordCursor, "waits_for", lambda at, record: (seen.append(record.value), real(at, record)))
    call = model.call
    asked_alone = threading.Event()

    def slow(request, **given):
        if "line 01" in repr(request) and "Each of" not in repr(request):
            asked_alone.wait(2)  # long enough for a look at who is in work
        return call(request, **given)

    model.call = slow
    model.refuses = "line 02"
    _, lines = run(deployment, "prompt", b"line 00\nline 01\nline 02\n", format="lines", group=3)
    assert [line["output"] for line in lines] == ["LINE 00", "LINE 01", None]
    assert "line 01" in seen
