"""A trial: a processor on a file in this process, as the pipeline would run it."""

import io
import sys
import traceback
from pathlib import Path

import pytest

from backhaul import Lines, Processor
from backhaul.model.errors import InvalidProcessor, UnsuitableInput
from backhaul.reading import Chunk, FileSource
from backhaul.trial.trial import Trial, trial
from tests.sources import MemorySource


class Odd(Processor):
    """Keep every line of an odd number of characters."""

    name = "odd"
    reads = Lines()

    def process(self, record, ctx):
        ctx.tally("seen")
        return record if len(record) % 2 else None


class Fails(Processor):
    """Fail in code of its own."""

    def process(self, record, ctx):
        return 1 / 0


def run(processor, data=b"a\nbb\nccc\n", chunk_bytes=3):
    output = io.BytesIO()
    trial(lambda: processor(processor.Options(chunk_bytes=chunk_bytes)), MemorySource(data), output)
    return output.getvalue()


def test_a_trial_writes_the_output_and_says_what_it_did(tmp_path):
    path = tmp_path / "input.txt"
    path.write_bytes(b"a\nbb\nccc\n")
    output, seen = io.BytesIO(), []
    result = trial(lambda: Odd(Odd.Options(chunk_bytes=3)), FileSource(path), output, seen.append)
    assert output.getvalue() == b"a\nccc\n"
    assert result == Trial(chunks=3, records=3, tallies={"seen": 3})
    assert seen == [3, 6, 9]


def test_an_empty_file_has_no_chunks():
    assert run(Odd, b"") == b""


def test_a_processor_without_process_says_so():
    with pytest.raises(NotImplementedError, match="neither process nor process_chunk"):
        run(Processor)


def test_what_the_processor_raises_comes_with_its_own_traceback():
    with pytest.raises(ZeroDivisionError) as caught:
        run(Fails)
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (Path(last.filename).name, last.name, last.line) == ("test_trial.py", "process", "return 1 / 0")


def test_a_processor_that_swallows_a_broken_input_is_not_believed():
    class Swallows(Odd):
        def process_chunk(self, records, ctx):
            try:
                yield from super().process_chunk(records, ctx)
            except UnsuitableInput:
                yield b"all is well"

    with pytest.raises(UnsuitableInput, match="position 2"):
        run(Swallows, b"a\n\xff\n", 100)


def test_a_merge_that_swallows_what_a_chunk_raised_is_not_believed():
    class Swallows(Fails):
        def merge(self, results, ctx):
            try:
                yield from results
            except ZeroDivisionError:
                yield b"all is well"

    with pytest.raises(ZeroDivisionError):
        run(Swallows)


def test_every_chunk_is_processed_though_the_merge_stops_early():
    class First(Processor):
        def process(self, record, ctx):
            return record if record == "a" else 1 / 0

        def merge(self, results, ctx):
            yield next(results)

    with pytest.raises(ZeroDivisionError):
        run(First)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda: iter(["text"]), "process_chunk must yield bytes, not str"),
        (lambda: "text", "process_chunk must yield bytes, not return str"),
        (lambda: b"bytes", "process_chunk must yield bytes, not return bytes"),
        (lambda: None, "process_chunk must yield bytes, not return NoneType"),
    ],
)
def test_pieces_that_are_no_bytes_are_refused_by_their_type(result, said):
    class Wrong(Processor):
        def process_chunk(self, records, ctx):
            return result()

    with pytest.raises(InvalidProcessor, match=said):
        run(Wrong)


def test_a_merge_must_yield_bytes_too():
    class Wrong(Odd):
        def merge(self, results, ctx):
            yield "text"

    with pytest.raises(InvalidProcessor, match="merge must yield bytes, not str"):
        run(Wrong)


@pytest.mark.parametrize("method", ["split", "process", "merge"])
def test_a_processor_that_exits_is_an_error_and_no_success(method):
    exits = type("Exits", (Odd,), {method: lambda *_: sys.exit(0)})
    with pytest.raises(InvalidProcessor, match=r"raised SystemExit at test_trial\.py:\d+\. Raise another exception"):
        run(exits)


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ([], "0 chunks"),
        ([Chunk(0, 0, 4)], "ends at byte 4 of 9"),
        ([Chunk(0, 0, 4), Chunk(1, 5, 9)], "must begin at 4"),
        ([Chunk(1, 0, 9)], "chunks count from 0"),
    ],
)
def test_a_split_that_does_not_cover_the_file_is_refused(chunks, said):
    class Wrong(Odd):
        def split(self, source, chunk_bytes):
            return chunks

    with pytest.raises(InvalidProcessor, match=said):
        run(Wrong)
