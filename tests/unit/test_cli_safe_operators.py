"""What operators are shown does nothing to a terminal, and every command that shows foreign text is tested for that."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from backhaul.cli.app import app, run
from backhaul.model.api import DayUsage
from backhaul.model.breaker import BreakerState, Phase
from backhaul.model.cost import Cost, ProviderCost
from backhaul.model.job import JobRef
from backhaul.operations.audit import Trail
from backhaul.operations.breakers import Switched as BreakerSwitched
from backhaul.operations.destroying import Destruction
from backhaul.operations.doctor import Examination, Finding, RepairResult, Treatment
from backhaul.operations.intake import Intake, Switched, Waiting
from backhaul.operations.providers import Change, Listed, Listing, ProviderUpdate
from backhaul.operations.spending import DayBudget
from backhaul.providers import InvalidProvider, Provider
from backhaul.store import Pause
from backhaul.store.audit import AuditRecord
from backhaul.store.providers import StoredProvider
from backhaul.store.stacks import DeployedStack
from tests.hostile import HOSTILE, assert_harmless, harmful, texts_in

NOW = datetime(2026, 11, 22, tzinfo=UTC)

PAUSE = Pause(HOSTILE, HOSTILE, NOW)
PROVIDER = Provider(name="acme", kind="openai", base_url="https://a.example", model="m")
STORED = StoredProvider(PROVIDER, "v1", NOW, HOSTILE)
OPEN = BreakerState(provider="acme", state=Phase.OPEN, since=NOW, reason=HOSTILE)
HELD = replace(OPEN, by="x", why=HOSTILE, reason=None)
FINDING = Finding(HOSTILE, HOSTILE, JobRef(HOSTILE, HOSTILE), NOW, repair=lambda: "", check="idle-slot")
USAGE = {HOSTILE: ProviderCost(1, 1, 1, "1", "0")}


DAY = DayBudget(None, date(2026, 11, 22), Cost(None, "0", "0", "0", USAGE), None, HOSTILE, HOSTILE)
CHANGED = ProviderUpdate(PROVIDER, "v2", (Change("model", HOSTILE, HOSTILE),))
BROKEN = (InvalidProvider(HOSTILE),)
ACT = AuditRecord(HOSTILE, HOSTILE, HOSTILE, what={HOSTILE: HOSTILE}, body=HOSTILE, outcome=HOSTILE, at=NOW)

COMMANDS = {
    "doctor": ("", {"doctor.examine": Examination((FINDING,), (HOSTILE,))}),
    "doctor --repair": (
        "",
        {
            "doctor.examine": Examination((FINDING,)),
            "doctor.treat": Treatment(
                Examination((FINDING,)), (RepairResult(FINDING, succeeded=False, said=HOSTILE),), Examination(())
            ),
        },
    ),
    "intake": (
        "",
        {
            "intake.operations.look": Intake(
                1, 2, 2, {HOSTILE: 1}, (Waiting(HOSTILE, 5, 1, HOSTILE, NOW),), PAUSE, {HOSTILE: PAUSE}
            )
        },
    ),
    "resume": ("", {"intake.operations.resume": Switched(True, 1, 1, PAUSE, PAUSE, (HOSTILE,))}),
    "breakers list": ("", {"breakers.listing": Listing((Listed(STORED, OPEN), Listed(STORED, HELD)), BROKEN)}),
    "breakers open": ("X --reason x", {"breakers.operations.hold_open": BreakerSwitched(False, HELD, HELD)}),
    "breakers close": ("X --reason x", {"breakers.operations.close": BreakerSwitched(True, OPEN, OPEN)}),
    "providers list": ("", {"providers.operations.listing": Listing((Listed(STORED, HELD),), BROKEN)}),
    "providers show": ("X", {"providers.operations.look": Listed(STORED, HELD)}),
    "providers set": ("X model=m", {"providers.operations.change": CHANGED}),
    "providers remove": ("X --reason x", {"providers.operations.remove": None}),
    "usage --all": ("", {"usage.usage_of": (DayUsage(date(2026, 11, 22), USAGE),)}),
    "destroy": (
        "X --yes",
        {
            "destroy.deployer": None,
            "destroy.destroying.prepare": Destruction(
                DeployedStack("arn", HOSTILE, "CREATE_COMPLETE", "", is_protected=False), (HOSTILE,)
            ),
            "destroy.destroying.destroy": None,
        },
    ),
    "audit": ("", {"audit.trail": Trail((ACT,), complete=False)}),
    "budget show --all": ("", {"budget.budget_today": DAY}),
}
ELSEWHERE = {
    # tests/unit/test_cli_safe.py
    "submit", "status", "watch", "list", "result", "cancel", "redrive", "budget show", "budget raise", "usage",
    "processors", "estimate", "try",
    # tests/stages/test_cli_dlq.py
    "dlq list", "dlq show", "dlq redrive", "dlq discard",
    # Below.
    "local logs",
}  # fmt: skip
OF_OUR_OWN = {"pause", "prices", "local status", "local up", "local down", "local env"}
"""Commands that show nothing from outside but what was given to them, or what this machine says of itself."""


def every_command(group, *names):
    for each in group.registered_commands:
        yield " ".join([*names, each.name or each.callback.__name__])
    for each in group.registered_groups:
        yield from every_command(each.typer_instance, *names, each.name or each.typer_instance.info.name)


def test_every_command_is_tested_with_hostile_text_or_shows_none():
    tested = {" ".join(word for word in each.split() if not word.startswith("--")) for each in COMMANDS}
    assert tested | ELSEWHERE | OF_OUR_OWN == set(every_command(app))


@pytest.fixture
def operated(monkeypatch):
    class Operations:
        class clock:  # noqa: N801  # an attribute
            @staticmethod
            def now():
                return NOW

    for module in ("doctor", "intake", "breakers", "providers", "usage", "budget", "audit"):
        monkeypatch.setattr(f"backhaul.cli.{module}.operate", lambda _: Operations)
    monkeypatch.delenv("BACKHAUL_STACK", raising=False)

    def answer(given):
        for name, value in given.items():
            monkeypatch.setattr(f"backhaul.cli.{name}", lambda *_, value=value: value)

    return answer


def words(command):
    arguments, given = COMMANDS[command]
    return [*command.split(), *(HOSTILE if word == "X" else word for word in arguments.split())], given


@pytest.mark.parametrize("columns", [None, "3000", "60"])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_operators_are_shown_does_nothing_to_a_terminal(operated, command, columns, capsys, monkeypatch):
    arguments, given = words(command)
    operated(given)
    if columns:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", columns)
    run(arguments)
    said = capsys.readouterr()
    assert_harmless(said.out + said.err, shows="" if columns == "60" else "[red]evil[/red][/]")


@pytest.mark.parametrize("command", ["doctor", "intake", "breakers list", "providers list", "usage --all", "audit"])
def test_json_for_operators_programs_says_the_same_and_can_be_shown(operated, command, capsys):
    arguments, given = words(command)
    operated(given)
    run([*arguments, "--json"])
    out = capsys.readouterr().out
    assert not harmful(out)
    assert HOSTILE in texts_in(json.loads(out))


def test_logs_of_the_local_cloud_do_nothing_to_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("backhaul.cli.local.LocalCloud.logs", lambda *_, **__: iter([HOSTILE]))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(["local", "logs"]) == 0
    assert_harmless(capsys.readouterr().out, shows="[red]evil[/red][/]")
