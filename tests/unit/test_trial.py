"""A trial: a processor on a file in this process."""

import io

import pytest

from backhaul import Lines, Processor
from backhaul.reading import FileSource
from backhaul.trial import Trial, trial


class Odd(Processor):
    """Keep every line of an odd number of characters."""

    name = "odd"
    reads = Lines()

    def process(self, record, ctx):
        ctx.tally("seen")
        return record if len(record) % 2 else None


def test_a_trial_writes_the_output_and_says_what_it_did(tmp_path):
    path = tmp_path / "input.txt"
    path.write_bytes(b"a\nbb\nccc\n")
    output, seen = io.BytesIO(), []
    result = trial(Odd(Odd.Options(chunk_bytes=3)), FileSource(path), output, seen.append)
    assert output.getvalue() == b"a\nccc\n"
    assert result == Trial(chunks=3, records=3, tallies={"seen": 3})
    assert seen == [3, 6, 9]


def test_a_processor_without_process_says_so(tmp_path):
    path = tmp_path / "input.txt"
    path.write_bytes(b"a\n")
    with pytest.raises(NotImplementedError, match="neither process nor process_chunk"):
        trial(Processor(Processor.Options()), FileSource(path), io.BytesIO())
