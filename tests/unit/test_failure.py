"""What is said of a processor that failed, and where."""

import io
import json

import pytest

from backhaul import Context, Csv, Lines, Processor, Record
from backhaul.plugin.failure import processor_cause
from backhaul.processors.redact import Redact
from backhaul.reading import Chunk, Window
from backhaul.worker.chunk_run import ChunkFault, run_chunk
from tests.sources import MemorySource


def cause_of(processor):
    source = MemorySource(b"a\n")
    fault = run_chunk(processor(processor.Options()), Window(source), Chunk(0, 0, 2))
    assert isinstance(fault, ChunkFault)
    return processor_cause(fault.error)


def test_the_place_is_the_processors_line_and_what_it_said_only_the_detail():
    class Fails(Processor):
        def process(self, record, ctx):
            raise ValueError("secret")

    cause = cause_of(Fails)
    line = Fails.process.__code__.co_firstlineno + 1
    assert cause.message == f"The processor raised ValueError at test_failure.py:{line}."
    assert cause.detail == "secret"


def test_the_place_is_the_processors_line_though_backhauls_own_code_raised():
    class Tallies(Processor):
        def process(self, record, ctx):
            ctx.tally(3)

    line = Tallies.process.__code__.co_firstlineno + 1
    assert cause_of(Tallies).message == f"The processor raised TypeError at test_failure.py:{line}."


def test_the_built_in_processors_are_no_less_a_place():
    with pytest.raises(TypeError) as caught:
        Redact(Redact.Options()).process(b"bytes", Context())
    assert " at redact.py:" in processor_cause(caught.value).message


@pytest.mark.parametrize(
    ("reader", "said"), [(Lines(), "Return str, bytes or None"), (Csv(), "Return dict, list, str")]
)
def test_a_value_that_cannot_be_written_is_told_in_words_and_not_by_a_line_of_backhauls(reader, said):
    class Wrong(Processor):
        reads = reader

        def process_chunk(self, records, ctx):
            return (self.reads.encode(each, Record(0, 2, "")) for each in [1.5])

    message = cause_of(Wrong).message
    assert message.startswith("The processor breaks its contract at test_failure.py:")
    assert said in message

    class Usual(Processor):
        reads = Lines()

        def process(self, record, ctx):
            return 1.5

    assert cause_of(Usual).message == (
        "The processor breaks its contract: Return str, bytes or None for a line, not float (line at byte 0)."
    )


def test_a_detail_is_short():
    class Fails(Processor):
        def process(self, record, ctx):
            raise ValueError("x" * 10_000)

    assert len(cause_of(Fails).detail) == 500


def test_reading_that_crashed_is_no_fault_of_the_chunk():
    class Broken(MemorySource):
        def open(self, start, end):
            return io.BytesIO()

    class Swallows(Processor):
        def process_chunk(self, records, ctx):
            try:
                yield json.dumps([record.value for record in records]).encode()
            except OSError:
                yield b"all is well"

    with pytest.raises(OSError, match="the source ended"):
        run_chunk(Swallows(Swallows.Options()), Window(Broken(b"a\n")), Chunk(0, 0, 2))
