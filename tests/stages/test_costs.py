"""What a job costs is told, may be raised by its owner, and is settled by the merge, whoever died before."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import boto3
import msgspec
import pytest
from botocore.exceptions import ClientError
from jsonschema import Draft202012Validator

from backhaul import Chat, Lines, Message, Processor
from backhaul.cli.app import run
from backhaul.cli.exits import Exit
from backhaul.model.api import JobView
from backhaul.model.errors import InvalidRequest, JobHasEnded, JobNotFound, StoreUnavailable, Superseded
from backhaul.model.events import event_of
from backhaul.model.job import JobRef, JobState
from backhaul.model.money import DOLLAR, display, nanodollars
from backhaul.model.policy import Policy
from backhaul.model.progress import Wait
from backhaul.model.task import RunTask
from backhaul.operations.connection import Operations, Outputs
from backhaul.operations.spending import raise_today
from backhaul.paid import channels as channel_module
from backhaul.paid.budget.budget import Budget
from backhaul.paid.budget.job_budget import budget_of, stop_for
from backhaul.paid.budget.rule import ALLOWANCE_SECONDS, Caps, Exhausted, Holder
from backhaul.providers import Answer, Provider
from backhaul.providers import Usage as Taken
from backhaul.stages import command
from backhaul.stages.command import raise_budget
from backhaul.stages.inquire import MAX_DAYS, job_status, usage_by_day
from backhaul.store import BudgetStore
from backhaul.store.budgets import BudgetKey, BudgetScope, ProviderUsage
from backhaul.store.steps import Price
from tests.receipts import VALIDATOR
from tests.stages.test_announce import SCHEMA
from tests.stages.test_crashes import Crash, crash_once
from tests.stages.test_dispatch import in_threads

DATA = b"".join(b"line %04d\n" % number for number in range(40))
COST = (10 * 100 + 20 * 1000) * 1000
"""Nanodollars a call."""
WHO = "arn:aws:iam::123456789012:user/operator"


class Model:
    """A paid model that writes in capitals and counts what it was asked."""

    max_texts = 0

    def __init__(self):
        self.asked = []

    def call(self, request, *, key=None, timeout=None):
        self.asked.append(request.messages[0].content)
        return Answer(self.asked[-1].upper(), Taken(10, 20))


class Ask(Processor):
    """Ask for every line."""

    name = "ask"
    reads = Lines()

    def process(self, record, ctx):
        return ctx.call("acme", Chat(messages=(Message("user", record),), max_tokens=20)).content


@pytest.fixture
def model(monkeypatch):
    made = Model()
    monkeypatch.setattr(channel_module, "open_provider", lambda *_, **__: made)
    return made


@pytest.fixture
def asking(deployment, model):
    prices = {"price_input": 100, "price_output": 1000}
    acme = Provider(name="acme", kind="openai", base_url="https://api.acme.example/v1", model="m", **prices)
    deployment.store.providers.put(acme, version=None, by="tests")
    return deployment.with_processors(Ask)


@pytest.fixture
def paused(asking):
    """A job that has spent what it may."""
    job = asking.run("ask", DATA, options={"chunk_bytes": 100}, policy=Policy(max_cost=Decimal("0.5")))
    assert job.state is JobState.PAUSED
    return job


@pytest.fixture
def operations(deployment, monkeypatch):
    made = Operations(Outputs("The stack", {}), deployment.settings, deployment.store, deployment.clock, WHO)
    for name in ("budget", "usage"):
        monkeypatch.setattr(f"backhaul.cli.{name}.operate", lambda _: made)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("BACKHAUL_STACK", raising=False)
    return made


def raised(deployment, ref, amount, reason=None):
    store = deployment.store
    return raise_budget(
        ref,
        Decimal(amount),
        reason,
        jobs=store.jobs,
        shards=store.shards,
        objects=store.objects,
        slots=store.slots,
        runs=store.runs,
        budgets=store.budgets,
        clock=deployment.clock,
    )


def status(deployment, ref):
    store = deployment.store
    return job_status(
        ref, jobs=store.jobs, shards=store.shards, slots=store.slots, budgets=store.budgets, clock=deployment.clock
    )


def books(deployment, ref):
    return deployment.store.budgets.get(BudgetKey.of_job(ref))


def throttled(*_, **__):
    raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded."}}, "GetItem")


# --- what is told


def test_the_receipt_of_a_paid_job_keeps_to_the_published_form_in_each_of_its_runs(asking, paused):
    spent = asking.receipt(paused)
    VALIDATOR.validate(spent)
    assert (spent["state"], spent["run"], spent["cost"]["max_cost"]) == ("PAUSED", 1, "0.50")
    raised(asking, paused.ref, "50")
    again = asking.receipt(asking.finish(RunTask(paused.ref, 2)))
    VALIDATOR.validate(again)
    assert (again["state"], again["run"], again["missing"]) == ("SUCCEEDED", 2, [])
    assert list(again["cost"]["usage"]) == ["acme"]


def test_status_receipt_and_event_tell_the_same_cost(asking, paused, model):
    cost = status(asking, paused.ref).cost
    calls = len(model.asked)
    assert (cost.max_cost, cost.held, cost.saved) == ("0.50", "0.00", "0.00")
    assert nanodollars(cost.spent) == calls * COST
    acme = cost.usage["acme"]
    assert (acme.calls, acme.input_tokens, acme.output_tokens) == (calls, 10 * calls, 20 * calls)
    assert acme.spent == cost.spent
    receipt = asking.receipt(paused)["cost"]
    assert (receipt["spent"], receipt["saved"]) == (cost.spent, "0.00")
    assert receipt["usage"]["acme"]["calls"] == calls
    detail = event_of(paused, "data").detail
    assert paused.cost == detail.cost == cost
    Draft202012Validator(SCHEMA).validate(msgspec.to_builtins(detail))
    assert JobView.of(paused).cost == cost


def test_a_job_that_calls_nobody_has_no_cost(deployment):
    job = deployment.run("text-stats", DATA)
    assert (job.cost, status(deployment, job.ref).cost, deployment.receipt(job)["cost"]) == (None, None, None)


def test_a_job_that_may_spend_something_says_so_before_it_has(deployment):
    ref = deployment.submit("text-stats", DATA, policy=Policy(max_cost=Decimal("2.5"))).job.ref
    cost = status(deployment, ref).cost
    assert (cost.max_cost, cost.spent, cost.usage) == ("2.50", "0.00", {})


def test_a_job_can_be_asked_about_while_its_budget_cannot_be_read(asking, paused, monkeypatch):
    before = status(asking, paused.ref)
    monkeypatch.setattr(BudgetStore, "get", throttled)
    assert status(asking, paused.ref) == before


def test_what_shards_wait_for_is_told_once_with_when_the_first_goes_on(deployment):
    task = deployment.start("text-stats", DATA, options={"chunk_bytes": 40})
    deployment.plan(task)
    now, shards = deployment.clock.now(), deployment.store.shards
    waits = ["acme is busy", "acme is busy", "beta is down", None]
    for number, (shard, what) in enumerate(zip(deployment.shard_tasks(task), waits, strict=False)):
        record = shards.claim(task.job, shard.shard, task.run)
        wait = what and Wait(what, now + timedelta(seconds=12 - number))
        held = {"wait": wait, "handed_over": record.attempt} if what else {}
        shards.commit(task.job, type(record)(**{**vars(record), **held}))
    busy, down = status(deployment, task.job).waiting_for
    assert (busy, down) == (
        "beta is down; goes on in 10 s, at 12:00:10 UTC",
        "acme is busy; goes on in 11 s, at 12:00:11 UTC",
    )
    deployment.clock.advance(seconds=60)
    assert status(deployment, task.job).waiting_for[0] == "beta is down; goes on now"
    for shard in deployment.shard_tasks(task)[:3]:
        shards.claim(task.job, shard.shard, task.run)
    assert status(deployment, task.job).waiting_for == ()


def test_many_different_waits_are_not_all_told(deployment):
    task = deployment.start("text-stats", DATA, options={"chunk_bytes": 40})
    deployment.plan(task)
    shards = deployment.store.shards
    for number, shard in enumerate(deployment.shard_tasks(task)[:8]):
        record = shards.claim(task.job, shard.shard, task.run)
        wait = Wait(f"call {number}", deployment.clock.now())
        shards.commit(task.job, type(record)(**{**vars(record), "wait": wait, "handed_over": record.attempt}))
    found = status(deployment, task.job).waiting_for
    assert (len(found), found[-1]) == (6, "and 3 more")


# --- raising a job's budget


def test_a_raised_budget_lets_a_paused_job_go_on(asking, paused, model):
    done = raised(asking, paused.ref, "1.00", "worth it")
    assert (done.started, done.exceeded, done.job.run, done.cost.max_cost) == (True, False, 2, "1.00")
    assert done.chunks == asking.receipt(paused)["counts"]["chunks_failed"]
    job = asking.finish(RunTask(paused.ref, 2))
    assert (job.state, asking.read(job.output)) == (JobState.SUCCEEDED, DATA.upper())
    assert sorted(model.asked) == [f"line {number:04d}" for number in range(40)]
    assert nanodollars(job.cost.spent) == 40 * COST
    assert books(asking, paused.ref).cap_why == "worth it"
    assert books(asking, paused.ref).cap_by == paused.ref.tenant


def test_raised_twice_there_is_one_run(asking, paused):
    first, second = raised(asking, paused.ref, "1"), raised(asking, paused.ref, "1")
    assert (first.started, second.started) == (True, False)
    assert asking.job(paused.ref).run == 2
    assert len(asking.executions()) == 2


def test_raised_by_several_at_once_there_is_one_run(asking, paused):
    done = in_threads(4, lambda: raised(asking, paused.ref, "1"))
    assert {each.job.run for each in done} == {2}
    assert any(each.started for each in done)
    assert len(asking.executions()) == 2
    assert books(asking, paused.ref).cap == DOLLAR


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", ["keep_run", "reopen"])
def test_a_raise_that_died_on_the_way_is_finished_by_the_next(asking, paused, monkeypatch, step, after):
    crash_once(monkeypatch, type(asking.store.jobs), step, after=after)
    with pytest.raises(Crash):
        raised(asking, paused.ref, "1")
    again = raised(asking, paused.ref, "1")
    asking.sweep()
    job = asking.job(paused.ref)
    assert (again.cost.max_cost, job.run, job.state) == ("1.00", 2, JobState.RUNNING)
    assert len(asking.executions()) == 2


def test_somebody_who_redrove_it_meanwhile_is_no_error(asking, paused, monkeypatch):
    real = command.redrive

    def late(*args, **kwargs):
        monkeypatch.setattr(command, "redrive", real)
        asking.redrive(paused.ref)
        return real(*args, **kwargs)

    monkeypatch.setattr(command, "redrive", late)
    done = raised(asking, paused.ref, "1")
    assert (done.started, done.job.run) == (False, 2)


def test_a_cap_below_what_is_spent_is_taken_and_said(asking, paused):
    done = raised(asking, paused.ref, "0.10")
    assert (done.exceeded, done.started, done.job.state) == (True, False, JobState.PAUSED)
    assert books(asking, paused.ref).cap == DOLLAR // 10


def test_a_running_job_may_be_given_a_cap_and_no_second_run(asking, model):
    task = asking.start("ask", DATA)
    done = raised(asking, task.job, "0.2")
    assert (done.started, done.exceeded, done.cost.max_cost, done.job.state) == (False, False, "0.20", JobState.RUNNING)
    job = asking.finish(task)
    assert (job.state, job.cause.code) == (JobState.PAUSED, "budget_exhausted")
    assert 0 < len(model.asked) * COST <= DOLLAR // 5


def test_a_cap_of_a_job_that_never_spends_is_forgotten_with_the_job(deployment):
    job = deployment.submit("text-stats", DATA).job
    raised(deployment, job.ref, "1")
    found = deployment.store.budgets._client.get_item(TableName="flow", Key=BudgetKey.of_job(job.ref).to_item())
    assert found["Item"]["expires_at"] == {"N": str(job.expires_at)}


def test_a_job_that_ended_for_good_is_refused(deployment):
    job = deployment.run("text-stats", DATA)
    with pytest.raises(JobHasEnded, match="is SUCCEEDED already"):
        raised(deployment, job.ref, "5")
    expired = deployment.submit("text-stats", DATA).job
    deployment.store.jobs.move(expired, JobState.EXPIRED)
    with pytest.raises(JobHasEnded, match="is EXPIRED already"):
        raised(deployment, expired.ref, "5")
    assert books(deployment, job.ref).cap is None


def test_a_cancelled_job_is_not_brought_back_by_money(asking, paused):
    asking.cancel(paused.ref)
    done = raised(asking, paused.ref, "5")
    assert (done.started, done.job.state) == (False, JobState.CANCELLED)


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "sNaN", "Infinity", "1e400", "1000001", "0.0000000001", "-0"])
def test_what_is_no_amount_is_refused_and_changes_nothing(asking, paused, amount):
    with pytest.raises(InvalidRequest):
        raised(asking, paused.ref, amount)
    assert books(asking, paused.ref).cap is None
    assert asking.job(paused.ref).run == 1


def test_digits_without_end_are_no_amount():
    for text in ("1." + "0" * 5000 + "1", "1." + "0" * 5000):
        with pytest.raises(InvalidRequest, match="nine decimals"):
            nanodollars(Decimal(text))


def test_a_long_reason_is_refused_because_every_write_would_carry_it(asking, paused):
    with pytest.raises(InvalidRequest, match="201 characters"):
        raised(asking, paused.ref, "1", "x" * 201)
    assert books(asking, paused.ref).cap is None


def test_half_a_character_in_a_reason_does_no_harm(asking, paused):
    assert raised(asking, paused.ref, "1", "\ud800").started


def test_another_tenants_job_is_no_job(asking, paused):
    for ref in (JobRef("T2", paused.ref.job_id), JobRef(paused.ref.tenant, "nope")):
        with pytest.raises(JobNotFound):
            raised(asking, ref, "5")
    assert books(asking, JobRef("T2", paused.ref.job_id)).cap is None


# --- a day's budget


@pytest.mark.parametrize(("scope", "whose"), [(BudgetScope.TENANT, "tenant's"), (BudgetScope.STACK, "stack's")])
def test_a_days_budget_is_named_with_what_to_do(asking, paused, scope, whose):
    cause = stop_for(paused, Exhausted(scope, DOLLAR, DOLLAR, 1), asking.clock.now()).cause
    assert cause.code == "day_budget_exhausted"
    assert cause.message.startswith(f"The {whose} budget of $1.00")
    assert f"`backhaul redrive {paused.ref.job_id}`" in cause.message


def test_a_days_budget_pauses_and_the_jobs_own_raised_does_not_start_it(asking, operations, model):
    raise_today(operations, "T1", DOLLAR // 5, "why")
    job = asking.run("ask", DATA, tenant="T1")
    assert (job.state, job.cause.code) == (JobState.PAUSED, "day_budget_exhausted")
    assert not raised(asking, job.ref, "5").started
    raise_today(operations, "T1", DOLLAR, "more")
    asking.redrive(job.ref)
    assert asking.finish(RunTask(job.ref, 2)).state is JobState.SUCCEEDED
    assert len(model.asked) == 40


def test_the_commands_of_operators_say_what_they_did_and_write_it_down(asking, operations, capsys):
    asking.run("ask", DATA, tenant="T1")
    assert run(["budget", "raise", "--tenant", "T1", "200", "--reason", "quarter"]) == 0
    assert "T1, today (UTC): $0.84 of $200.00 spent." in capsys.readouterr().err
    asking.clock.advance(seconds=1)
    assert run(["budget", "raise", "--all", "300", "--reason", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cost"]["max_cost"] == "300.00"
    found = [(each.action, each.who, each.why, each.what, each.outcome) for each in operations.store.audit.newest()]
    day = "2026-11-22"
    assert found == [
        ("raise-budget", WHO, "all", {"day": day, "cap": "$300.00"}, "raised"),
        ("raise-budget", WHO, "quarter", {"day": day, "cap": "$200.00", "tenant": "T1"}, "raised"),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tenant", "T1", "200"], "Say why"),
        (["--tenant", "T#1", "200", "--reason", "x"], "not a tenant's ID"),
        (["--tenant", "T1", "--all", "200", "--reason", "x"], "not both"),
        (["--tenant", "T1", "+5", "--reason", "x"], "new total"),
        (["--all", "JOB", "5", "--reason", "x"], "no job"),
        (["--all", "1e400", "--reason", "x"], "not an amount"),
        (["--all", "0", "--reason", "x"], "no call"),
    ],
)
def test_what_is_no_days_budget_is_refused(operations, capsys, words, said):
    assert run(["budget", "raise", *words]) == Exit.USAGE
    assert said in capsys.readouterr().err
    assert list(operations.store.audit.newest()) == []


def shown(capsys, *words):
    assert run(["budget", "show", *words]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out.splitlines()


@pytest.fixture
def capped(operations, monkeypatch):
    """The deployment's operator, where a day has caps."""
    settings = replace(operations.settings, max_cost_per_day="50", max_cost_per_day_per_tenant="2.50")
    made = replace(operations, settings=settings)
    monkeypatch.setattr("backhaul.cli.budget.operate", lambda _: made)
    return made


def test_a_days_budget_is_shown_with_its_cap_and_what_is_spent_held_and_left(deployment, capped, capsys):
    spend(deployment, "T1", "acme", 1.5)
    spend(deployment, "T2", "beta", 2)
    assert Budget(Holder(JobRef("T1", "0" * 26), 9, 1), Caps(), deployment.store.budgets, deployment.clock).hold(1)
    held = deployment.store.budgets.get(BudgetKey.of_tenant("T1", deployment.clock.now().date())).held
    assert held > 0
    assert shown(capsys, "--tenant", "T1") == [
        f"T1  2026-11-22 (UTC)  $1.50 of $2.50 spent, {display(held)} held for calls under way; $1.00 left",
        "PROVIDER  CALLS  TOKENS IN  TOKENS OUT   COST  SAVED",
        "acme          1        100          10  $1.50  $0.00",
        "total         1        100          10  $1.50  $0.00",
    ]
    first, _, *providers, _ = shown(capsys, "--all")
    assert first.startswith("The deployment  2026-11-22 (UTC)  $3.50 of $50.00 spent, ")
    assert first.endswith("; $46.50 left")
    assert [line.split()[0] for line in providers] == ["acme", "beta"]


def test_a_days_budget_is_one_document_with_exact_amounts(deployment, capped, capsys):
    spend(deployment, "T1", "acme", 1.5)
    (document,) = [json.loads("\n".join(shown(capsys, "--tenant", "T1", "--json")))]
    usage = {"calls": 1, "input_tokens": 100, "output_tokens": 10, "spent": "1.50", "saved": "0.00"}
    cost = {"max_cost": "2.50", "spent": "1.50", "held": "0.00", "saved": "0.00", "usage": {"acme": usage}}
    day = {"day": "2026-11-22", "cap_by": None, "cap_why": None}
    assert document == {"tenant": "T1", "cost": cost, "left": "1.00"} | day
    assert json.loads("\n".join(shown(capsys, "--all", "--json")))["tenant"] is None


def test_a_day_of_which_nothing_is_spent_has_all_of_its_cap_left(operations, capped, capsys, monkeypatch):
    assert shown(capsys, "--tenant", "T9") == ["T9  2026-11-22 (UTC)  $0.00 of $2.50 spent; $2.50 left"]
    monkeypatch.setattr("backhaul.cli.budget.operate", lambda _: operations)
    assert shown(capsys, "--tenant", "T9") == ["T9  2026-11-22 (UTC)  $0.00 spent; no cap"]
    assert shown(capsys, "--all") == ["The deployment  2026-11-22 (UTC)  $0.00 spent; no cap"]
    document = json.loads("\n".join(shown(capsys, "--all", "--json")))
    assert (document["cost"]["max_cost"], document["cost"]["spent"], document["left"]) == (None, "0.00", None)


def test_a_cap_that_was_set_for_today_is_shown_with_who_and_why_until_midnight(deployment, capped, capsys):
    spend(deployment, "T1", "acme", 1.5)
    raise_today(capped, "T1", DOLLAR, "[b]enough[/b]")
    first, who, *_ = shown(capsys, "--tenant", "T1")
    assert first == "T1  2026-11-22 (UTC)  $1.50 of $1.00 spent; $0.00 left"  # lower than what was spent by then
    assert who == f"cap set by {WHO}: [b]enough[/b]"
    deployment.clock.advance(days=1)
    assert shown(capsys, "--tenant", "T1") == ["T1  2026-11-23 (UTC)  $0.00 of $2.50 spent; $2.50 left"]


def test_looking_at_a_days_budget_writes_nothing(capped, capsys):
    shown(capsys, "--tenant", "T9")
    assert list(capped.store.audit.newest()) == []
    table, client = capped.settings.flow_table, boto3.client("dynamodb")
    assert client.scan(TableName=table)["Count"] == 0


# --- the merge settles what dead workers held


def died(asking, attempt=1, *, stored=3, made=5):
    """A job whose only worker died: it had settled nothing, and stored the answers of some of its calls."""
    task = asking.start("ask", DATA)
    asking.plan(task)
    (shard,) = asking.shard_tasks(task)
    job, store = asking.job(task.job), asking.store
    for _ in range(attempt):
        store.shards.claim(task.job, shard.shard, task.run)
    worker = Budget(Holder(task.job, 0, attempt), Caps(), store.budgets, asking.clock, expires_at=job.expires_at)
    for number in range(made):
        assert worker.hold(2 * COST)
        if number < stored:
            price = Price(attempt, COST, 2 * COST)
            store.steps.keep(task.job, 0, (10 * number, "step"), b'"x"', expires_at=None, price=price)
    return task, worker


def test_the_merge_settles_what_the_dead_held(asking):
    task, _ = died(asking)
    held = books(asking, task.job).held
    assert held >= 5 * 2 * COST
    job = asking.merge(task)
    assert job.state is JobState.FAILED
    found = books(asking, task.job)
    assert (found.held, found.entries) == (0, {})
    assert found.spent == 3 * COST + held - 3 * 2 * COST  # stored answers at their price, the rest as it was held
    assert job.cost.held == "0.00"
    assert asking.receipt(job)["cost"]["usage"]["taken-over"]["spent"] == job.cost.spent
    assert nanodollars(job.cost.spent) == found.spent
    today = asking.clock.now().date()
    for key in (BudgetKey.of_tenant(task.job.tenant, today), BudgetKey.of_stack(today)):
        day = asking.store.budgets.get(key)
        assert (day.spent, day.held, day.entries) == (found.spent, 0, {})


@pytest.mark.parametrize("posts", range(1, 4))
@pytest.mark.parametrize("after", [False, True])
def test_a_merge_that_dies_while_it_settles_is_repeated_and_counts_once(asking, monkeypatch, posts, after):
    task, _ = died(asking)
    expected = books(asking, task.job).held - 3 * COST
    real, made = BudgetStore.post, []

    def post(store, posting):
        made.append(posting)
        if len(made) == posts:
            if after:
                real(store, posting)
            raise Crash
        return real(store, posting)

    monkeypatch.setattr(BudgetStore, "post", post)
    with pytest.raises(Crash):
        asking.merge(task)
    assert asking.job(task.job).state is JobState.MERGING
    job = asking.merge(task)
    today = asking.clock.now().date()
    keys = [BudgetKey.of_job(task.job), BudgetKey.of_tenant(task.job.tenant, today), BudgetKey.of_stack(today)]
    for key in keys:
        found = asking.store.budgets.get(key)
        assert (found.spent, found.held, found.entries) == (expected, 0, {})
    assert nanodollars(job.cost.spent) == expected


def test_a_zombie_writes_nothing_to_a_ledger_that_the_merge_has_settled(asking):
    task, zombie = died(asking)
    asking.merge(task)
    closed = books(asking, task.job)
    asking.clock.advance(seconds=ALLOWANCE_SECONDS + 1)
    with pytest.raises(Superseded):
        zombie.hold(COST)
    zombie.settle_all()
    assert books(asking, task.job) == closed


def test_what_a_budget_knows_of_stored_answers_is_by_attempt(asking):
    task, _ = died(asking, attempt=2)
    (shard,) = asking.shard_tasks(task)
    store = asking.store
    purse = budget_of(
        asking.job(task.job), shard.shard, 3, caps=Caps(), budgets=store.budgets, steps=store.steps, clock=asking.clock
    )
    assert (purse.stored(2), purse.stored(1)) == ((3 * COST, 6 * COST), (0, 0))


def test_a_merge_waits_for_a_table_that_throttles_and_has_written_nothing_by_then(asking, monkeypatch):
    task, _ = died(asking)
    with monkeypatch.context() as patch:
        patch.setattr(BudgetStore, "get", throttled)
        with pytest.raises(StoreUnavailable):
            asking.merge(task)
    listed = asking.s3.list_objects_v2(Bucket="data").get("Contents", [])
    assert not [each["Key"] for each in listed if "/output/" in each["Key"] or "/receipt/" in each["Key"]]
    assert asking.merge(task).cost is not None


# --- usage


def spend(deployment, tenant, provider, dollars, *, calls=1, saved=0):
    holder = Holder(JobRef(tenant, "0" * 26), calls, 1)
    worker = Budget(holder, Caps(), deployment.store.budgets, deployment.clock)
    amount = int(dollars * DOLLAR)
    worker.settle(worker.hold(amount), provider, ProviderUsage(calls, 100, 10, amount, saved))
    worker.settle_all()


def used(deployment, tenant="T1", first=None, last=None):
    return usage_by_day(tenant, first=first, last=last, budgets=deployment.store.budgets, clock=deployment.clock)


def test_usage_is_by_day_and_provider_and_of_the_tenant_alone(deployment):
    spend(deployment, "T1", "acme", 1.5)
    spend(deployment, "T2", "acme", 99)
    deployment.clock.advance(days=2)
    spend(deployment, "T1", "beta", 0.25, saved=7)
    spend(deployment, "T1", "acme", 0.5)
    first, second = used(deployment)
    assert (first.day.isoformat(), list(first.usage), first.usage["acme"].spent) == ("2026-11-22", ["acme"], "1.50")
    assert (second.day.isoformat(), list(second.usage)) == ("2026-11-24", ["acme", "beta"])
    assert (second.usage["beta"].saved, second.usage["beta"].input_tokens) == ("0.000000007", 100)
    assert used(deployment, first="2026-11-24") == (second,)
    assert used(deployment, first="2026-11-01", last="2026-11-22") == (first,)
    assert used(deployment, "T3") == ()
    deployment.clock.advance(days=29)
    assert used(deployment) == (second,)
    deployment.clock.advance(days=1)
    assert used(deployment) == ()


def test_so_many_days_are_so_many_reads_and_no_more(deployment, monkeypatch):
    real, read = BudgetStore.get, []
    monkeypatch.setattr(BudgetStore, "get", lambda self, key, **how: read.append(key.day) or real(self, key, **how))
    used(deployment, first="2026-08-23", last="2026-11-22")
    assert len(set(read)) == len(read) == MAX_DAYS


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("yesterday", None, "from must be a day"),
        ("", None, "from must be a day"),
        (None, "", "to must be a day"),
        ("20261122", None, "from must be a day"),
        ("2026-W47-7", None, "from must be a day"),
        ("2026-02-30", None, "from must be a day"),
        ("\u0662026-11-22", None, "from must be a day"),
        ("2026-11-22\n", None, "from must be a day"),
        ("9" * 10_000, None, "from must be a day"),
        ("2026-11-23", None, "which is after 2026-11-22"),
        ("2026-08-22", "2026-11-22", "more than 92 days"),
        ("0001-01-01", "9999-12-31", "more than 92 days"),
    ],
)
def test_what_are_no_days_is_refused(deployment, first, last, said):
    with pytest.raises(InvalidRequest, match=said):
        used(deployment, first=first, last=last)


@pytest.mark.parametrize(("first", "last"), [(None, "0001-01-05"), ("9999-12-31", "9999-12-31")])
def test_the_ends_of_the_calendar_are_days_too(deployment, first, last):
    assert used(deployment, first=first, last=last) == ()


@pytest.fixture
def today(deployment, monkeypatch):
    now = deployment.clock.now()
    monkeypatch.setattr("backhaul.cli.usage.datetime", type("Fixed", (), {"now": staticmethod(lambda _: now)}))


@pytest.mark.usefixtures("today")
def test_operators_see_the_usage_of_all(deployment, operations, capsys):
    spend(deployment, "T1", "acme", 1.5, calls=1200)
    spend(deployment, "T2", "beta", 0.0031)
    assert run(["usage", "--all", "--days", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "DAY         PROVIDER  CALLS  TOKENS IN  TOKENS OUT     COST  SAVED",
        "2026-11-22  acme      1,200        100          10    $1.50  $0.00",
        "            beta          1        100          10  $0.0031  $0.00",
        "            total     1,201        200          20    $1.50  $0.00",
    ]
    assert run(["usage", "--all", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["to"], document["total"]["spent"]) == ("2026-11-22", "1.5031")
    assert display(nanodollars(document["total"]["spent"])) == "$1.50"


@pytest.mark.usefixtures("today")
def test_operators_see_the_usage_of_one_tenant(deployment, operations, capsys):
    spend(deployment, "T1", "acme", 1.5, calls=1200)
    spend(deployment, "T1", "beta", 0.25)
    spend(deployment, "T2", "beta", 0.0031)
    assert run(["usage", "--tenant", "T1", "--provider", "acme"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "DAY         PROVIDER  CALLS  TOKENS IN  TOKENS OUT   COST  SAVED",
        "2026-11-22  acme      1,200        100          10  $1.50  $0.00",
        "            total     1,200        100          10  $1.50  $0.00",
    ]
    assert run(["usage", "--tenant", "T2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["tenant"], document["total"]["spent"]) == ("T2", "0.0031")
    assert [list(each["usage"]) for each in document["days"]] == [["beta"]]


@pytest.mark.usefixtures("today", "operations")
def test_a_tenant_that_nobody_knows_has_used_nothing(deployment, capsys):
    spend(deployment, "T1", "acme", 1.5)
    assert run(["usage", "--tenant", "T9"]) == 0
    assert capsys.readouterr() == ("", "No calls of providers were made by T9.\n")
    assert run(["usage", "--tenant", "T9", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["days"], document["total"]["calls"]) == ([], 0)
