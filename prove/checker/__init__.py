"""The independent checker: it reads a history and the final content of the stores, and knows nothing of the pipeline.

It imports nothing of Backhaul: it states the formats of keys and records a second time, by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prove.checker import events, fencing, money, output, rework, states
from prove.checker.evidence import Deal, Evidence, Expected, Violation
from prove.history import Final, History

__all__ = ["RULES", "Deal", "Expected", "Violation", "check"]

Rule = Callable[[Evidence], Iterator[str]]

RULES: dict[str, Rule] = {
    "the job ends, and as it should": states.ends_as_expected,
    "moves are legal": states.moves_are_legal,
    "an ended run never changes": states.ended_runs_stay,
    "nothing is left over": states.nothing_is_left,
    "items stay small": states.items_stay_small,
    "slots are held by running jobs only": states.slots_match,
    "the output is the fault-free one": output.output_is_right,
    "every missing chunk is named": output.missing_is_named,
    "every missing chunk has its dead letter": output.dead_letters_are_sent,
    "counts are true": output.counts_are_true,
    "the input is pinned": output.input_is_pinned,
    "one event ID for each change": events.one_id_for_each_change,
    "a superseded worker writes nothing": fencing.superseded_write_nothing,
    "checkpoints only grow": fencing.checkpoints_grow,
    "merge reads what records point to": fencing.merge_follows_pointers,
    "rework is bounded": rework.is_bounded,
    "a stored answer is not asked for again": money.stored_answers_stay,
    "a call is paid for once": money.calls_are_paid_once,
    "the budget covers what is charged": money.budget_covers_charges,
    "nothing stays held": money.nothing_stays_held,
    "one asks while a provider is down": money.one_asks_while_it_is_down,
}


def check(history: History, final: Final, expected: Iterable[Expected]) -> list[Violation]:
    """Return every violation of every rule, job by job; evidence that a rule cannot read is a violation too."""
    found: list[Violation] = []
    for each in expected:
        evidence = Evidence(history, final, each)
        for name, rule in RULES.items():
            try:
                found += [Violation(each.job_id, name, what) for what in rule(evidence)]
            except (KeyError, TypeError, ValueError, IndexError) as error:
                found.append(Violation(each.job_id, name, f"the evidence cannot be read: {error!r}"))
    return found
