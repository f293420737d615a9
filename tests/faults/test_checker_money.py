"""The checker finds what is wrong with histories of paid calls that are made up by hand."""

import json

import pytest

from prove.checker import Deal
from prove.history import Call, Change, Note
from tests.faults.test_checker import JOB, TENANT, begun, done

STORED = "a stored answer is not asked for again"
ONCE = "a call is paid for once"
BUDGET = "the budget covers what is charged"
DOWN = "one asks while a provider is down"
DEAL = Deal(calls=2, estimate=100)


class Market:
    """The story of a job of paid calls."""

    def __init__(self):
        self.story = begun()
        self.time = 0.0

    def note(self, call):
        self.time += 1.0
        call.number, call.time = len(self.story.history.calls) + 1, self.time
        self.story.history.calls.append(call)
        return self

    def ask(self, about, charged=0, actor="process#1", outcome="ok"):
        call = Call(0, 0.0, actor, "process", "Ask", "provider", "ask", about, {}, JOB, outcome=outcome)
        call.answer = {"charged": charged} if charged else {}
        return self.note(call)

    def store(self, about, actor="process#1"):
        answer = json.dumps({"content": about.upper()})
        self.story.call(actor, "PutItem", "create step", sk=f"STEP#{about}", values={"answer": answer})
        return self

    def write(self, pk, step, actor="process#1", **values):
        call = Call(0, 0.0, actor, "process", "UpdateItem", "flow", step, pk, {})
        call.changes = (Change("flow", pk, pk.partition("#")[0], None, values),)
        return self.note(call)

    def budget(self, used, held=0, **values):
        return self.write(f"BUDGET#J#{TENANT}#{JOB}", "take budget", used=used, held=held, **values)

    def wait(self, seconds):
        self.time += seconds
        return self

    def dies(self, actor):
        self.story.history.notes.append(Note(self.time, actor, "killed before ask"))
        return self

    def verdicts(self, deal=DEAL):
        done(self.story, 0, "process#1")
        return self.story.verdicts(deal=deal)


def test_calls_that_are_in_the_budget_and_stored_are_right():
    market = Market().budget(200, 200).ask("one", 100).store("one").ask("two", 90).store("two").budget(190)
    assert not {STORED, ONCE, BUDGET, DOWN} & market.verdicts()


def test_a_call_whose_answer_is_stored_is_found():
    assert STORED in Market().budget(300).ask("one", 100).store("one").ask("one", outcome="busy").verdicts()


def test_a_call_that_is_paid_twice_for_no_reason_is_found():
    assert ONCE in Market().budget(300).ask("one", 100).ask("one", 100).verdicts()


def test_a_call_of_a_dead_worker_may_be_made_again_but_not_more_than_it_had_under_way():
    once = Market().budget(900).ask("one", 100, "process#9").dies("process#9").ask("one", 100)
    assert ONCE not in once.verdicts()
    twice = Market().budget(900).ask("one", 100, "process#9").ask("two", 100, "process#9").dies("process#9")
    assert ONCE in twice.ask("one", 100).ask("two", 100).verdicts()


def test_a_call_whose_answer_was_lost_may_be_made_again_unless_the_provider_knows_it():
    market = Market().budget(900).ask("one", 100, outcome="lost").ask("one", 100)
    assert ONCE not in market.verdicts()
    assert ONCE in market.verdicts(Deal(calls=2, estimate=100, remembers=True))


@pytest.mark.parametrize("used", [0, 99])
def test_a_charge_that_no_budget_had_room_for_is_found(used):
    assert BUDGET in Market().budget(used).ask("one", 100).verdicts()


def test_a_budget_above_its_cap_is_found_but_for_what_a_call_cost_beyond_its_estimate():
    deal = Deal(calls=2, estimate=100, cap=150)
    assert BUDGET in Market().budget(200).verdicts(deal)
    assert BUDGET not in Market().budget(100, 100).ask("one", 170).budget(170).verdicts(deal)
    assert BUDGET not in Market().budget(200, cap=250).verdicts(deal)


def test_what_stays_held_is_found():
    market = Market()
    market.story.items["flow", f"BUDGET#T#{TENANT}#2026-11-22", "BUDGET"] = {"used": 5, "held": 5}
    assert "nothing stays held" in market.verdicts()


def test_a_second_who_asks_a_provider_that_is_down_is_found():
    deal = Deal(calls=2, estimate=100, cooldown_seconds=15.0)

    def market(apart):
        opened = Market().ask("one", outcome="down").write("BREAKER#acme", "set breaker", state="open")
        return opened.wait(15).ask("one", outcome="down").wait(apart).ask("two", outcome="down")

    assert DOWN in market(5).verdicts(deal)
    assert DOWN not in market(15).verdicts(deal)


def test_a_breaker_that_does_not_open_is_found():
    deal = Deal(calls=2, estimate=100, cooldown_seconds=15.0)
    assert DOWN in Market().ask("one", outcome="down").wait(60).ask("one", outcome="down").verdicts(deal)
