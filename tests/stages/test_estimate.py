"""An estimate beside what a job then really does: calls, tokens and time, on three texts of different kinds."""

from __future__ import annotations

import ast
import csv
import io
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from backhaul import Chat, ConcurrentProcessor, Csv, Embed, Lines, Message, Processor
from backhaul.estimate.estimate import Range
from backhaul.estimate.sampling import TextSource, look_at
from backhaul.model.errors import CannotEstimate, InvalidOption, InvalidRequest, UnknownProcessor, UnsuitableInput
from backhaul.model.job import JobState
from backhaul.model.settings import Settings
from backhaul.paid import channels as channel_module
from backhaul.plugin.processor import Expected
from backhaul.providers import Answer, Provider, Usage, estimate_input
from backhaul.stages.estimate import EstimateRequest, estimate
from backhaul.store import Store
from backhaul.worker import time_limit

PROJECT = Path(__file__).parents[2]
ANSWER_TOKENS = 12
BATCH = 16


class Ask(Processor):
    """Ask a model about every line that is not blank."""

    name = "ask"
    reads = Lines()

    def process(self, record, ctx):
        return ctx.call("acme", question(record)).content if record.strip() else record

    def expect(self, records):
        asked = [question(record) for record in records if record.strip()]
        tokens = sum(map(estimate_input, asked))
        yield Expected("acme", len(asked), tokens, len(asked) * ANSWER_TOKENS, len(asked) * 50)


class AskRows(Ask):
    """The same for the column `text` of a table."""

    name = "ask-rows"
    reads = Csv()

    def process(self, record, ctx):
        return super().process(record["text"], ctx)

    def expect(self, records):
        return super().expect([record["text"] for record in records])


class EmbedBatches(Processor):
    """Ask for the vectors of lines, several at a time."""

    name = "embed-batches"
    reads = Lines()

    def process_chunk(self, records, ctx):
        texts = (record.value for record in records if record.value.strip())
        for batch in batches(texts):
            yield repr(ctx.call("acme", Embed(texts=batch)).content).encode() + b"\n"

    def expect(self, records):
        for batch in batches(record for record in records if record.strip()):
            yield Expected("acme", 1, estimate_input(Embed(texts=batch)))


def question(text):
    return Chat(system="Summarise this in one word.", messages=(Message("user", text),), max_tokens=50)


def batches(texts) -> Iterator[tuple[str, ...]]:
    texts = iter(texts)
    return iter(lambda: tuple(itertools.islice(texts, BATCH)), ())


class Model:
    """A provider that counts what it is asked, and makes of an input as many tokens as we would guess."""

    max_texts = 2048

    def __init__(self):
        self.counts = Counter()
        self.lock = threading.Lock()

    def call(self, request, *, key=None, timeout=None):
        out = 0 if isinstance(request, Embed) else ANSWER_TOKENS
        usage = Usage(estimate_input(request), out)
        with self.lock:
            self.counts += Counter(calls=1, input_tokens=usage.input_tokens, output_tokens=out)
        content = [[0.0]] * len(request.texts) if isinstance(request, Embed) else "word"
        return Answer(content, usage)


@pytest.fixture
def model(monkeypatch):
    made = Model()
    monkeypatch.setattr(channel_module, "open_provider", lambda *_, **__: made)
    return made


@pytest.fixture
def asking(deployment, model):
    return deployment.with_processors(Ask, AskRows, EmbedBatches)


def set_up(deployment, name="acme", **changes):
    settings = {"name": name, "kind": "openai", "base_url": "https://api.acme.example/v1", "model": "m"}
    prices = {"price_input": 1, "price_output": 4}
    deployment.store.providers.put(Provider(**settings | prices | changes), version=None, by="tests")


def estimated(deployment, request):
    return estimate(
        request,
        registry=deployment.registry,
        providers=deployment.store.providers,
        settings=deployment.settings,
        clock=deployment.clock,
    )


def looked(deployment, processor, data, options):
    return look_at(partial(deployment.registry.create, processor, options), TextSource(data))


def told(deployment, processor, data, options):
    """What the API answers to what the command line reads."""
    look = looked(deployment, processor, data, options)
    return estimated(
        deployment, request_of(processor=processor, size=len(data), options=options, expected=look.to_json())
    )


def request_of(**body):
    return EstimateRequest.from_json(msgspec.json.encode({"processor": "ask", "size": 100} | body))


def lines_of(paths: Iterable[Path], size: int) -> bytes:
    """As many whole lines of the files as fit; a file may be cut in the midst of a character, and lines may not."""
    return b"".join(path.read_bytes() for path in paths)[:size].rpartition(b"\n")[0] + b"\n"


def english(size: int = 4 * 4096) -> bytes:
    return lines_of([PROJECT / "README.md", *sorted((PROJECT / "docs").glob("[o-s]*.md"))], size)


def source() -> bytes:
    return lines_of(sorted((PROJECT / "backhaul/stages").glob("*.py")), 4 * 4096)


def table() -> bytes:
    """What the modules say of themselves: rows of very different lengths, with line breaks inside quotes."""
    written = io.StringIO()
    rows = csv.writer(written)
    rows.writerow(["module", "name", "text"])
    for path in sorted((PROJECT / "backhaul").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (said := ast.get_docstring(node)):
                rows.writerow([path.stem, getattr(node, "name", ""), said])
            if written.tell() > 3.5 * 4096:
                return written.getvalue().encode()
    raise AssertionError("there are fewer docstrings than that")


TEXTS = [
    pytest.param("ask", english, id="english"),
    pytest.param("ask", source, id="python"),
    pytest.param("ask-rows", table, id="csv"),
    pytest.param("embed-batches", english, id="embedded"),
]
OPTIONS = {"chunk_bytes": 4096}


@pytest.mark.parametrize(("processor", "text"), TEXTS)
def test_an_estimate_is_what_the_job_then_asks_for_and_waits_for(asking, model, processor, text):
    set_up(asking, requests_per_minute=600)
    data = text()
    made = told(asking, processor, data, OPTIONS)
    began = asking.clock.now()
    job = asking.run(processor, data, options=OPTIONS)
    took = (asking.clock.now() - began).total_seconds()
    assert job.state is JobState.SUCCEEDED

    (each,) = made.providers
    assert (made.chunks, made.shards) == (job.counts.chunks, job.counts.shards)
    assert made.records.likely == job.counts.records
    assert each.calls.likely == model.counts["calls"]
    assert each.input_tokens.likely == model.counts["input_tokens"]
    assert each.output_tokens.likely == model.counts["output_tokens"]
    assert (made.limit, made.slowest) == ("requests_per_minute", "acme")
    assert made.seconds <= took <= 1.3 * made.seconds


@pytest.mark.usefixtures("model")
def test_a_limit_on_tokens_is_waited_for_as_long_as_the_estimate_says(asking):
    set_up(asking, tokens_per_minute=6000)
    data = english(4096)
    made = told(asking, "ask", data, OPTIONS)
    began = asking.clock.now()
    assert asking.run("ask", data, options=OPTIONS).state is JobState.SUCCEEDED
    took = (asking.clock.now() - began).total_seconds()
    assert (made.limit, made.slowest) == ("tokens_per_minute", "acme")
    assert made.seconds <= took <= 1.3 * made.seconds


def test_a_sample_is_extrapolated_to_the_size_of_the_whole(asking):
    set_up(asking)
    text = "".join(f"line {number:04d}\n" for number in range(100))
    made = estimated(asking, request_of(sample=text, size=100 * len(text)))
    (each,) = made.providers
    assert (made.read, each.calls.likely, made.records.likely) == (len(text), 10_000, 10_000)
    assert each.output_tokens == Range(10_000, 120_000, 500_000)
    assert each.input_tokens.low < each.input_tokens.likely < each.input_tokens.high
    whole = estimated(asking, request_of(sample=text, size=len(text)))
    assert (whole.chunks, whole.providers[0].calls.likely) == (1, 100)


def test_what_a_cut_has_left_of_a_record_is_no_record(asking):
    set_up(asking)
    made = estimated(asking, request_of(sample="a line\na line\nhalf a li", size=1400))
    assert (made.read, made.records.likely) == (14, 200)


def test_a_processor_that_calls_nobody_costs_what_aws_costs(asking):
    made = estimated(asking, request_of(processor="text-stats", sample="one\n", size=4))
    assert (made.providers, made.cost.high, made.limit, made.slowest) == ((), "0.00", "reading", None)
    assert 0 < float(made.aws_cost) < 0.01


def test_workers_and_their_threads_call_beside_each_other(asking):
    class AskMany(ConcurrentProcessor):
        name = "ask-many"
        reads = Lines()
        process = Ask.process
        expect = Ask.expect

    set_up(asking)
    asking = asking.with_processors(AskMany)
    told = {"bytes": 1000, "records": 1000, "chunks": 40, "calls": [expected(calls=1000)]}
    seconds = {}
    for processor, options in (("ask", {}), ("ask-many", {}), ("ask-many", {"concurrency": 50})):
        made = estimated(asking, request_of(processor=processor, size=1000, options=options, expected=told))
        assert (made.shards, made.limit) == (14, "calls")
        seconds[processor, len(options)] = made.seconds
    assert seconds == {("ask", 0): 14.4, ("ask-many", 0): 1.8, ("ask-many", 1): 0.4}


def expected(**changes):
    return {"provider": "acme", "calls": 10, "input_tokens": 100} | changes


def told_of(**changes):
    return {"bytes": 100, "records": 10, "chunks": 1, "calls": [expected()]} | changes


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        ({"processor": "nope", "expected": told_of()}, UnknownProcessor, "text-stats"),
        ({"options": {"tpo": 1}, "expected": told_of()}, InvalidOption, "tpo"),
        ({"size": 0, "expected": told_of()}, InvalidRequest, "empty"),
        ({"size": 6 * 1024**3, "expected": told_of()}, InvalidRequest, "5,368,709,120"),
        ({"expected": told_of(calls=[expected(provider="other")])}, InvalidRequest, "'other'"),
        ({"expected": told_of(calls=[expected(provider="")])}, InvalidRequest, "name"),
        ({"expected": told_of(calls=[expected(provider="x" * 64)])}, InvalidRequest, "name"),
        ({"expected": told_of(calls=[expected(calls=-1)])}, InvalidRequest, "calls"),
        ({"expected": told_of(calls=[expected(input_tokens=1e16)])}, InvalidRequest, "input_tokens"),
        ({"expected": told_of(calls=[expected(output_tokens="9")])}, InvalidRequest, "output_tokens"),
        ({"expected": told_of(calls=[expected()] * 101)}, InvalidRequest, "calls"),
        ({"expected": told_of(bytes=0)}, InvalidRequest, "bytes"),
        ({"expected": told_of(bytes=101)}, InvalidRequest, "no more than size"),
        ({"expected": told_of(records=101)}, InvalidRequest, "no more than"),
        ({"expected": told_of(chunks=101)}, InvalidRequest, "no more than size"),
        ({"expected": told_of(chunks=100_001)}, InvalidRequest, "chunks"),
        ({"expected": told_of(error=2)}, InvalidRequest, "error"),
        ({"expected": told_of(contents="secret")}, InvalidRequest, "contents"),
        ({"size": 10**9, "expected": told_of(calls=[expected(calls=1e14)])}, InvalidRequest, "more than any job"),
        ({"sample": ""}, InvalidRequest, "sample"),
        ({"sample": "x" * 101}, InvalidRequest, "size"),
        ({"sample": "x" * (256 * 1024 + 1), "size": 10**6}, InvalidRequest, "262,144"),
        ({"sample": "a\0b\n"}, UnsuitableInput, "position 1"),
        ({}, InvalidRequest, "either"),
        ({"sample": "x", "expected": told_of()}, InvalidRequest, "either"),
        ({"smaple": "x"}, InvalidRequest, "smaple"),
    ],
)
def test_a_wrong_request_is_refused_with_a_sentence(asking, body, error, said):
    set_up(asking)
    with pytest.raises(error, match=said) as raised:
        estimated(asking, request_of(**body))
    assert raised.value.status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_request_is_refused(body):
    with pytest.raises(InvalidRequest, match="POST /estimate"):
        EstimateRequest.from_json(body)


class Failing(Processor):
    """Fails as its option says."""

    name = "failing"
    reads = Lines()

    class Options(Processor.Options, frozen=True, kw_only=True):
        how: str = "raise"

    def process(self, record, ctx):
        return record

    def expect(self, records):
        match self.options.how:
            case "raise":
                raise ValueError(f"the secret {records[0]}")
            case "exit":
                raise SystemExit(0)
            case "junk":
                return [("acme", 1)]
            case "infinite":
                return [Expected("acme", float("inf"), 1)]
            case "hang":
                while True:
                    time.sleep(0.1)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", r"expect failed. The processor raised ValueError at test_estimate.py:\d+\.$"),
        ("exit", "SystemExit"),
        ("junk", "tuple"),
        ("infinite", "calls must be"),
    ],
)
@pytest.mark.parametrize("size", [7, 700])
def test_a_processor_that_fails_is_named_with_the_place_and_nothing_of_the_sample(asking, how, said, size):
    asking = asking.with_processors(Failing)
    with pytest.raises(CannotEstimate, match=said) as raised:
        estimated(asking, request_of(processor="failing", options={"how": how}, sample="s3cret\n", size=size))
    assert "s3cret" not in str(raised.value)


def test_a_processor_that_hangs_is_ended(asking, monkeypatch):
    monkeypatch.setattr(time_limit, "MAX_REQUEST_SECONDS", 0.5)
    asking = asking.with_processors(Failing).with_real_watch()
    began = time.monotonic()
    with pytest.raises(CannotEstimate, match="longer than"):
        estimated(asking, request_of(processor="failing", options={"how": "hang"}, sample="x"))
    assert time.monotonic() - began < 5


def test_an_estimate_stores_nothing_and_needs_no_more_than_providers(asking, model):
    set_up(asking)
    asking.settings = Settings(flow_table="flow")
    asking.store = Store(asking.settings, asking.clock)
    estimated(asking, request_of(sample="a line\n"))
    assert not model.counts
    assert asking.store.limits.get("acme") is None
