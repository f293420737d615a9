"""`backhaul breakers`: what holds calls back, and a person who does so or ends it, over a real flow table."""

import json
from datetime import timedelta

import pytest

from backhaul.cli.app import run
from backhaul.cli.exits import Exit
from backhaul.model.breaker import Phase
from backhaul.model.errors import InvalidRequest
from backhaul.operations.breakers import close, hold_open
from backhaul.operations.connection import Operations, Outputs
from backhaul.operations.providers import change, look, remove
from backhaul.paid.breaker.breaker import Breaker
from backhaul.paid.breaker.rule import BreakerRule, CallReport, CallResult, OpenBreaker, Permit, Probe
from backhaul.providers import UnknownProvider
from tests.stages.test_breaker_store import lose_answers
from tests.stages.test_dispatch import in_threads

WHO = "arn:aws:iam::123456789012:user/operator"
FIELDS = {"kind": "bedrock", "model": "m"}


@pytest.fixture
def operations(deployment, monkeypatch):
    made = Operations(Outputs("The stack", {}), deployment.settings, deployment.store, deployment.clock, WHO)
    for module in ("breakers", "providers"):
        monkeypatch.setattr(f"backhaul.cli.{module}.operate", lambda _: made)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("BACKHAUL_STACK", raising=False)
    change(made, "small", FIELDS, "")
    return made


@pytest.fixture
def worker(deployment):
    return Breaker("small", BreakerRule(), deployment.store.breakers, deployment.clock)


def acts(operations):
    found = [each for each in operations.store.audit.newest() if each.action.startswith("breakers")]
    return [(each.action, each.who, each.why, each.what, each.outcome) for each in found]


def rows(capsys):
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["PROVIDER", "STATE", "SINCE", "REASON", "NEXT", "PROBE"]
    return lines


def test_what_a_person_opens_holds_all_calls_back_until_a_person_closes_it(operations, worker):
    assert isinstance(worker.may_call(), Permit)
    assert hold_open(operations, "small", "their status page").changed
    for _ in range(3):
        operations.clock.advance(hours=1)
        assert isinstance(worker.may_call(), OpenBreaker)
    assert f"by {WHO}: their status page" in worker.may_call().reason
    done = close(operations, "small", "they are back")
    assert (done.changed, done.before.why, done.state.why) == (True, "their status page", "they are back")
    operations.clock.advance(seconds=1)
    assert isinstance(worker.may_call(), Permit)
    what = {"provider": "small"}
    assert acts(operations) == [
        ("breakers close", WHO, "they are back", what, "closed"),
        ("breakers open", WHO, "their status page", what, "opened"),
    ]


def test_doing_it_twice_is_doing_it_once(operations):
    assert not close(operations, "small", "nothing is wrong").changed
    assert hold_open(operations, "small", "why").changed
    since = look(operations, "small").breaker
    operations.clock.advance(minutes=1)
    assert not hold_open(operations, "small", "another reason").changed
    assert look(operations, "small").breaker == since
    assert close(operations, "small", "over").changed
    assert not close(operations, "small", "over").changed
    assert [act[2] for act in acts(operations)] == ["over", "why"]


def test_a_person_takes_over_what_opened_by_itself_and_closes_it_before_its_time(operations, worker):
    worker.report(CallReport(worker.may_call(), CallResult.DENIED))
    assert look(operations, "small").breaker.reason == "credentials"
    assert hold_open(operations, "small", "the key is being replaced").changed
    assert look(operations, "small").breaker.is_held_open
    assert close(operations, "small", "it is replaced").changed
    operations.clock.advance(seconds=1)
    worker.report(CallReport(worker.may_call(), CallResult.DENIED))
    assert look(operations, "small").breaker.state is Phase.OPEN
    assert close(operations, "small", "now it is").before.reason == "credentials"


def test_of_many_operators_one_opens_it_and_one_closes_it(operations):
    for act in (hold_open, close):
        done = in_threads(6, lambda act=act: act(operations, "small", "why"))
        assert [each.changed for each in done].count(True) == 1
    assert look(operations, "small").breaker.state is Phase.CLOSED


def test_a_write_whose_answer_was_lost_is_recognised(operations, monkeypatch):
    lose_answers(operations.store.breakers._client, monkeypatch, 1)
    assert hold_open(operations, "small", "why").changed
    operations.clock.advance(seconds=1)
    lose_answers(operations.store.breakers._client, monkeypatch, 1)
    assert close(operations, "small", "why").changed
    assert [act[4] for act in acts(operations)] == ["closed", "opened"]


def test_a_provider_that_is_not_there_has_no_breaker(operations, capsys):
    for act in (hold_open, close):
        with pytest.raises(UnknownProvider, match="'large'"):
            act(operations, "large", "why")
    for command in ("open", "close"):
        assert run(["breakers", command, "large", "--reason", "x"]) == Exit.REFUSED
        assert "backhaul providers list" in capsys.readouterr().err
    assert acts(operations) == []


def test_a_breaker_that_is_switched_off_cannot_be_opened_because_nobody_asks_it(operations, capsys):
    change(operations, "small", {"breaker.enabled": "false"}, "")
    with pytest.raises(InvalidRequest, match="switched off"):
        hold_open(operations, "small", "why")
    assert run(["breakers", "open", "small", "--reason", "x"]) == Exit.REFUSED
    assert "backhaul providers set small breaker.enabled=true" in capsys.readouterr().err
    assert run(["breakers", "list"]) == 0
    assert rows(capsys)[0].split() == ["small", "off", "-", "-", "-"]


def test_the_commands_say_what_they_did(operations, capsys):
    assert run(["breakers", "open", "small", "--reason", "[b]down[/b]"]) == 0
    assert run(["breakers", "open", "small", "--reason", "once more"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "The breaker of small is open. No call is made until it is closed with: backhaul breakers close small",
        f"The breaker of small is open already, by hand: [b]down[/b] (by {WHO}).",
    ]
    assert run(["breakers", "close", "small", "--reason", "up"]) == 0
    assert run(["breakers", "close", "small", "--reason", "up"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"The breaker of small is closed; it was open: [b]down[/b] (by {WHO}).",
        "The breaker of small is closed already.",
    ]


@pytest.mark.parametrize("command", ["open", "close"])
def test_whoever_acts_says_why(operations, capsys, command):
    for words in ([], ["--reason", " "]):
        assert run(["breakers", command, "small", *words]) == Exit.USAGE
        assert "--reason" in capsys.readouterr().err
    assert acts(operations) == []


def test_the_list_shows_each_way_in_which_a_breaker_may_stand(operations, worker, capsys):
    assert run(["breakers", "list"]) == 0
    assert rows(capsys)[0].split() == ["small", "closed", "-", "-", "-"]
    worker.report(CallReport(worker.may_call(), CallResult.DENIED))
    operations.clock.advance(seconds=20)
    assert run(["breakers", "list"]) == 0
    assert rows(capsys)[0].split() == ["small", "open", "20", "s", "credentials", "in", "40", "s"]
    operations.clock.advance(seconds=60)
    assert run(["breakers", "list"]) == 0
    assert rows(capsys)[0].endswith("with the next call")
    assert isinstance(worker.may_call(), Probe)
    assert run(["breakers", "list"]) == 0
    assert rows(capsys)[0].split() == ["small", "half-open", "0", "s", "credentials", "under", "way"]
    hold_open(operations, "small", "no more tries")
    operations.clock.advance(minutes=5)
    assert run(["breakers", "list"]) == 0
    (line,) = rows(capsys)
    assert line.startswith(f"small     open   5 min  no more tries (by {WHO})  none")
    close(operations, "small", "good")
    assert run(["breakers", "list"]) == 0
    assert rows(capsys)[0].split() == ["small", "closed", "0", "s", "good", "(by", f"{WHO})", "-"]


def test_providers_show_how_their_breaker_stands(operations, worker, capsys):
    worker.report(CallReport(worker.may_call(), CallResult.DENIED))
    assert run(["providers", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("open, probe in 60 s")
    assert run(["providers", "show", "small"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "breaker open, probe in 60 s: credentials"
    hold_open(operations, "small", "why")
    assert run(["providers", "show", "small"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "breaker open by hand: why (by " + WHO + ")"


def test_the_list_as_json_is_one_document(operations, capsys):
    now = operations.clock.now()
    change(operations, "alpha", FIELDS, "")
    hold_open(operations, "small", "why")
    assert run(["breakers", "list", "--json"]) == 0
    alpha, small = json.loads(capsys.readouterr().out)["breakers"]
    assert (alpha["provider"], alpha["state"], alpha["since"], alpha["enabled"]) == ("alpha", "closed", None, True)
    since = now.isoformat().replace("+00:00", "Z")
    assert (small["state"], small["since"], small["by"], small["why"]) == ("open", since, WHO, "why")
    assert small["next_probe_at"] is None


def test_without_providers_there_are_no_breakers(operations, capsys):
    remove(operations, "small", "over")
    assert run(["breakers", "list"]) == 0
    assert capsys.readouterr() == ("", "There are no providers. Set one up: backhaul providers set --help\n")
    assert run(["breakers", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"breakers": []}


def test_a_provider_that_is_set_up_again_meets_the_breaker_that_it_left(operations):
    hold_open(operations, "small", "why")
    remove(operations, "small", "over")
    operations.clock.advance(days=1)
    change(operations, "small", FIELDS, "again")
    found = look(operations, "small").breaker
    assert found.is_held_open
    assert operations.clock.now() - found.since == timedelta(days=1)
