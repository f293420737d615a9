"""How dead letters look: IDs that are short and unambiguous, and words that fit."""

from datetime import UTC, datetime

import pytest

from backhaul.cli.dead_letters import BODY_SHOWN, first_sentence, pretty
from backhaul.operations.contents import Malformed, Queue
from backhaul.operations.dead_letters import DeadLetter, short_ids
from backhaul.operations.reasons import DeadLetterReason
from backhaul.store.queues import Message

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def dead_letter(*message_ids):
    copies = tuple(Message(each, "receipt", "body", NOW, 1) for each in message_ids)
    return DeadLetter(Queue.INTAKE, Malformed("It is nothing."), DeadLetterReason.MALFORMED, copies, None)


def test_ids_are_as_short_as_no_other_dead_letter_allows():
    ids = ("aaaaaaaa-1", "aaaaaaaa-2", "aaaaaaab-1", "b" * 36, "c" * 8)
    assert short_ids(dead_letter(each) for each in ids) == {
        "aaaaaaaa-1": "aaaaaaaa-1",
        "aaaaaaaa-2": "aaaaaaaa-2",
        "aaaaaaab-1": "aaaaaaab",
        "b" * 36: "b" * 8,
        "c" * 8: "c" * 8,
    }


def test_the_copies_of_a_dead_letter_count_as_others_too():
    assert set(short_ids([dead_letter("aaaaaaaa-1", "aaaaaaaa-2")]).values()) == {"aaaaaaaa-1", "aaaaaaaa-2"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One. Two.", "One."),
        ("It failed at p.py:3. It may again.", "It failed at p.py:3."),
        ("Without an end", "Without an end"),
        ("Really?\nYes.", "Really?"),
        ("", ""),
    ],
)
def test_the_first_sentence_ends_where_the_next_begins(text, sentence):
    assert first_sentence(text) == sentence


@pytest.mark.parametrize(
    ("body", "shown"),
    [('{"a":[1]}', '{\n  "a": [\n    1\n  ]\n}'), ("no\r\njson\t!", "no\njson    !"), ("[" * 3000, "[" * 3000)],
)
def test_a_body_is_shown_with_the_structure_it_has(body, shown):
    assert pretty(body) == shown


def test_a_large_body_is_cut_and_says_so():
    shown = pretty("x" * 300_000)
    assert len(shown) < BODY_SHOWN + 100
    assert shown.endswith("300,000 characters in all; --json writes every one of them.")


def test_neither_a_body_nor_a_receipt_is_part_of_what_a_message_shows_of_itself():
    assert "body" not in repr(dead_letter("a").oldest)
    assert "receipt" not in repr(dead_letter("a").oldest)
