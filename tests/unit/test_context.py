"""A processor's context offers its author five things; the cursor behind it is the worker's."""

import pytest

from backhaul import Context, Lines, Processor
from backhaul.model.errors import InvalidProcessor
from backhaul.plugin.context import RecordCursor
from backhaul.plugin.journal import NoJournal
from backhaul.reading import Record

RECORDS = [Record(0, 4, "one", ending=b"\n"), Record(4, 4, "two", ending=b"\n")]


class Watching(NoJournal):
    """Notes the steps that are kept and the checkpoints."""

    def __init__(self):
        self.seen = []

    def keep(self, step, answer):
        self.seen.append(step)
        return answer

    def checkpoint(self, state, position=None, records=1):
        self.seen.append((state, position, records))


class Once(Processor):
    """Takes one step for each record."""

    name = "once"
    reads = Lines()

    def process(self, record, ctx):
        ctx.tally("seen")
        return ctx.step("shout", lambda: record.upper())


def test_an_author_meets_five_things_in_a_context():
    assert {name for name in dir(Context()) if not name.startswith("_")} == {
        "tally",
        "step",
        "call",
        "checkpoint",
        "state",
    }


def test_a_processor_runs_with_a_context_that_its_author_made_for_a_test():
    assert b"".join(Once(Once.Options()).process_chunk(iter(RECORDS), Context())) == b"ONE\nTWO\n"


def test_each_record_has_steps_of_its_own_and_ends_with_a_checkpoint():
    journal = Watching()
    cursor = RecordCursor(journal)
    assert list(Once(Once.Options()).process_chunk(iter(RECORDS), Context(cursor))) == [b"ONE\n", b"TWO\n"]
    assert journal.seen == [(0, "shout"), (None, None, 1), (4, "shout"), (None, None, 1)]
    assert cursor.tallies == {"seen": 2}


def test_a_checkpoint_inside_a_record_is_refused_and_after_it_is_kept():
    journal = Watching()
    cursor = RecordCursor(journal)
    ctx = Context(cursor)
    cursor.begin_record(0)
    with pytest.raises(InvalidProcessor, match="inside process"):
        ctx.checkpoint(1)
    cursor.end_record()
    ctx.checkpoint(2)
    assert journal.seen == [(None, None, 1), (2, None, 1)]
    with pytest.raises(InvalidProcessor, match="inside process"):
        Context(cursor.for_thread(RECORDS[1])).checkpoint(3)
