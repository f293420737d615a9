"""`backhaul doctor`: what an operator sees, and what a script gets."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from backhaul.cli.app import run
from backhaul.cli.doctor import summary
from backhaul.model.job import JobRef
from backhaul.operations.doctor import Examination, Finding, RepairResult, SurveyScope, Treatment

REF = JobRef("AIDAEXAMPLE", "01k9xw3c7n8q2m5t4v6y0a1b2c")
SLOT = Finding(
    "[bold]a slot\x9b is held",
    "frees the slot",
    REF,
    datetime.now(UTC) - timedelta(hours=2),
    repair=lambda: "freed_slot",
    check="idle-slot",
)
ALARM = Finding("nobody is subscribed to the alarms", "by hand: subscribe", key="arn", check="unheard-alarms")
HEALTHY = Examination(())


@pytest.fixture
def clinic(monkeypatch):
    """What the doctor finds, and how it is treated; records the scope that was asked for."""

    class Clinic:
        before = HEALTHY
        treatment = None

        def examine(self, _operations, scope):
            self.scopes.append(scope)
            return self.before

        def treat(self, _operations, _scope, before):
            assert before is self.before
            return self.treatment

    clinic = Clinic()
    clinic.scopes = []
    monkeypatch.setattr("backhaul.cli.doctor.operate", lambda _: None)
    monkeypatch.setattr("backhaul.cli.doctor.examine", clinic.examine)
    monkeypatch.setattr("backhaul.cli.doctor.treat", clinic.treat)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("BACKHAUL_STACK", raising=False)
    return clinic


def test_a_healthy_deployment_ends_with_0_and_one_line(clinic, capsys):
    assert run(["doctor"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "19 checks, no problem found.\n")


def test_what_is_wrong_is_a_table_and_ends_with_1(clinic, capsys):
    clinic.before = Examination((SLOT, ALARM))
    assert run(["doctor"]) == 1
    said = capsys.readouterr()
    head, slot, alarm = said.out.splitlines()
    assert head.split() == ["CHECK", "PROBLEM", "TENANT/JOB", "SINCE", "REPAIR"]
    assert "[bold]a slot\N{REPLACEMENT CHARACTER} is held" in slot
    assert f"{REF.tenant}/{REF.job_id}" in slot
    assert "2 h" in slot
    assert slot.rstrip().endswith("frees the slot")
    assert alarm.index("-  ") == slot.index(REF.tenant)
    assert said.err == "19 checks, 2 problems found, 1 can be repaired with: backhaul doctor --repair.\n"


def test_a_narrow_terminal_cuts_no_job(clinic, capsys, monkeypatch):
    clinic.before = Examination((SLOT, ALARM))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert f"{REF.tenant}/{REF.job_id}" in lines[0]


def test_a_repair_says_what_was_done_and_what_is_left(clinic, capsys):
    clinic.before = Examination((SLOT, ALARM))
    clinic.treatment = Treatment(clinic.before, (RepairResult(SLOT, True, "freed_slot"),), Examination((ALARM,)))
    assert run(["doctor", "--repair"]) == 1
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["CHECK", "idle-slot", "CHECK", "unheard-alarms"]
    assert said.err == "19 checks, 1 repaired, 1 problem left; a person must repair it.\n"


def test_a_repair_that_mends_everything_ends_with_0(clinic, capsys):
    clinic.before = Examination((SLOT,))
    clinic.treatment = Treatment(clinic.before, (RepairResult(SLOT, True, "freed_slot"),), HEALTHY)
    assert run(["doctor", "--repair", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["healthy"] is True
    (mended,) = document["mended"]
    assert (mended["check"], mended["job_id"], mended["mended"], mended["said"]) == (
        "idle-slot",
        REF.job_id,
        True,
        "freed_slot",
    )


def test_findings_for_programs_are_one_document(clinic, capsys):
    clinic.before = Examination((SLOT, ALARM), ("unheard-alarms: why",))
    assert run(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["healthy"], document["checks"], document["skipped"]) == (False, 18, ["unheard-alarms: why"])
    assert [(each["check"], each["mendable"]) for each in document["findings"]] == [
        ("idle-slot", True),
        ("unheard-alarms", False),
    ]
    assert document["findings"][1]["job_id"] is None


def test_what_was_skipped_is_said(clinic, capsys):
    clinic.before = Examination((), ("unheard-alarms: the stack has no topic",))
    assert run(["doctor"]) == 0
    assert capsys.readouterr().err == (
        "Skipped: unheard-alarms: the stack has no topic.\n18 checks, no problem found.\n"
    )


def test_a_job_is_named_with_its_tenant(clinic, capsys):
    assert run(["doctor", "--job", REF.job_id, "--tenant", REF.tenant, "--all-ended"]) == 0
    assert clinic.scopes == [SurveyScope((REF.tenant,), REF, all_ended=True)]
    assert run(["doctor", "--job", REF.job_id]) == 2
    assert "--tenant" in capsys.readouterr().err
    assert run(["doctor", "--job", "nonsense", "--tenant", REF.tenant]) == 2


def test_a_failed_repair_is_not_counted_as_mended():
    left = Examination((SLOT,))
    assert "0 repaired, 1 problem left, 1 can be repaired." in summary(
        left, [RepairResult(SLOT, False, "no")], repair=True
    )
