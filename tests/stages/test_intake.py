"""Pausing the intake: nothing starts, nothing is refused, everybody is told why, and all goes on afterwards."""

import json
from datetime import timedelta

import pytest

from backhaul.cli.app import run
from backhaul.model.job import JobState
from backhaul.model.policy import Policy
from backhaul.operations.connection import Operations, Outputs
from backhaul.operations.intake import look, pause, resume
from backhaul.stages.inquire import waiting_for
from backhaul.store import RunStore, SlotStore

DATA = b"one line\n"
WHO = "arn:aws:iam::123456789012:user/operator"


@pytest.fixture
def operations(deployment, monkeypatch):
    made = Operations(Outputs("The stack", {}), deployment.settings, deployment.store, deployment.clock, WHO)
    monkeypatch.setattr("backhaul.cli.intake.operate", lambda _: made)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("BACKHAUL_STACK", raising=False)
    return made


def upload(deployment, tenant="T1", **request):
    ref = deployment.submit("text-stats", DATA, tenant=tenant, **request).job.ref
    return deployment.dispatch(deployment.put_input(ref, DATA))


def acts(operations):
    return [(record.action, record.who, record.why, record.what) for record in operations.store.audit.newest()]


def test_an_upload_during_a_pause_queues_and_starts_when_it_is_resumed(deployment, operations):
    running = upload(deployment)
    assert pause(operations, None, "a bad release").changed
    waiting = upload(deployment)
    assert (running.state, waiting.state) == (JobState.RUNNING, JobState.QUEUED)
    assert deployment.sweep() == {}
    assert waiting_for(waiting, deployment.store.slots) == "the intake is paused: a bad release"
    resumed = resume(operations, None, "mended")
    assert (resumed.changed, resumed.started) == (True, 1)
    assert deployment.job(waiting.ref).state is JobState.RUNNING


def test_a_pause_of_one_tenant_is_not_anothers(deployment, operations):
    pause(operations, "T1", "it floods us")
    assert upload(deployment, "T1").state is JobState.QUEUED
    assert upload(deployment, "T2").state is JobState.RUNNING
    assert resume(operations, "T2", "").changed is False
    assert resume(operations, "T1", "").started == 1


def test_pausing_and_resuming_twice_is_once(deployment, operations):
    assert pause(operations, "T1", "why").changed
    since = look(operations).paused_tenants["T1"]
    deployment.clock.advance(minutes=1)
    assert not pause(operations, "T1", "why").changed
    assert look(operations).paused_tenants["T1"] == since
    assert pause(operations, "T1", "another reason").changed
    deployment.clock.advance(minutes=1)
    assert resume(operations, "T1", "done").changed
    assert not resume(operations, "T1", "done").changed
    what = {"tenant": "T1"}
    assert acts(operations) == [
        ("resume", WHO, "done", what),
        ("pause", WHO, "another reason", what),
        ("pause", WHO, "why", what),
    ]


def test_a_resume_that_was_killed_before_it_started_anything_is_finished_by_another(deployment, operations):
    pause(operations, None, "why")
    upload(deployment)
    slots = deployment.store.slots
    assert slots.resume(None, slots.get().paused)
    assert (resume(operations, None, "").changed, len(deployment.executions())) == (False, 1)


@pytest.mark.parametrize("tenant", [None, "T1"], ids=["everybody", "a tenant"])
def test_what_is_paused_anew_as_it_is_resumed_stays_paused(deployment, operations, monkeypatch, tenant):
    pause(operations, tenant, "old")
    resumed = SlotStore.resume

    def late(store, *wanted):
        store.pause(tenant, "new", "another")
        return resumed(store, *wanted)

    monkeypatch.setattr(SlotStore, "resume", late)
    done = resume(operations, tenant, "")
    assert (done.changed, done.paused_anew.reason) == (False, "new")
    assert deployment.store.slots.get().pause_of("T1").reason == "new"
    outcomes = {record.action: record.outcome for record in operations.store.audit.newest()}
    assert outcomes["resume"] == "paused again by another operator"


def test_a_resume_whose_answer_is_lost_is_one(deployment, operations, monkeypatch):
    pause(operations, None, "why")
    resumed = SlotStore.resume
    monkeypatch.setattr(SlotStore, "resume", lambda *wanted: resumed(*wanted) and resumed(*wanted))
    assert resume(operations, None, "").changed is True


def test_ending_everybodys_pause_leaves_that_of_a_tenant_and_the_other_way_round(deployment, operations):
    pause(operations, None, "all")
    pause(operations, "T1", "one")
    upload(deployment, "T1")
    assert resume(operations, "T1", "").still_paused.reason == "all"
    pause(operations, "T1", "one")
    assert resume(operations, None, "").paused_tenants == ("T1",)
    assert deployment.executions() == []


def test_the_intake_shows_who_runs_who_waits_and_for_how_long(deployment, operations):
    deployment.store.slots.most_per_tenant = 1
    upload(deployment, "T1")
    queued = deployment.clock.now()
    first = upload(deployment, "T1")
    deployment.clock.advance(minutes=5)
    upload(deployment, "T1")
    urgent = upload(deployment, "T1", policy=Policy(priority=9))
    found = look(operations)
    assert (found.running, found.most, found.running_by_tenant) == (1, 100, {"T1": 1})
    assert [(each.priority, each.jobs, each.head) for each in found.queued] == [
        (9, 1, urgent.ref.job_id),
        (5, 2, first.ref.job_id),
    ]
    assert found.queued[1].head_since == queued
    assert found.queued[0].head_since - queued == timedelta(minutes=5)


def test_a_queued_job_says_what_it_waits_for(deployment, operations):
    slots = deployment.store.slots
    slots.most_per_tenant = 1
    upload(deployment)
    waiting = upload(deployment)
    assert waiting_for(waiting, slots) == "a slot: 1 of your 1 jobs run"
    slots.most = 1
    assert waiting_for(waiting, slots) == "a slot: 1 of 1 jobs run"
    slots.most = slots.most_per_tenant = 2
    assert waiting_for(waiting, slots) == "its turn"


def test_the_commands_say_what_they_did(deployment, operations, capsys):
    assert run(["pause", "--reason", "[bold]a release[/bold]", "--tenant", "T1"]) == 0
    upload(deployment)
    assert run(["pause", "--reason", "[bold]a release[/bold]", "--tenant", "T1"]) == 0
    said = capsys.readouterr().err
    assert "The intake of T1 is paused.\n" in said
    assert "paused already" in said
    assert run(["intake"]) == 0
    shown = capsys.readouterr().out
    assert "0 of 100 slots in use, at most 20 by one tenant" in shown
    assert f"T1 paused: [bold]a release[/bold] (by {WHO}, " in shown
    assert shown.splitlines()[-2].split() == ["TENANT", "PRIORITY", "QUEUED", "FIRST", "JOB", "SINCE"]
    assert run(["intake", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["paused_tenants"]["T1"]["by"] == WHO
    assert document["queued"][0]["jobs"] == 1
    assert run(["resume", "--tenant", "T1"]) == 0
    assert capsys.readouterr().err == "The intake of T1 is resumed; 1 job started.\n"
    assert run(["resume"]) == 0
    assert capsys.readouterr().err == "The intake was not paused; 0 jobs started.\n"


@pytest.mark.parametrize("wrong", [["pause"], ["pause", "--reason", " "], ["resume", "--tenant", "a#b"]])
def test_a_pause_without_a_reason_or_of_what_is_no_tenant_is_refused(operations, wrong):
    assert run(wrong) == 2
    assert acts(operations) == []


def test_a_job_that_cannot_be_started_keeps_no_other_from_it_when_the_intake_goes_on(
    deployment, operations, monkeypatch, capsys
):
    pause(operations, None, "why")
    bad, good = upload(deployment), upload(deployment, "T2")
    start = RunStore.start

    def refuse(self, job, **options):
        if job.ref == bad.ref:
            raise OSError("refused")
        start(self, job, **options)

    monkeypatch.setattr(RunStore, "start", refuse)
    assert run(["resume"]) == 0
    said = capsys.readouterr().err
    assert "1 job started" in said
    assert "1 job could not be started" in said
    assert [each.name for each in deployment.executions()] == [f"{good.ref.job_id}-1"]
