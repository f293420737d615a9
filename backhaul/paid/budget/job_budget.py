"""A job's money as its stages handle it: an attempt's budget, the holds of dead workers, and the job's cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta

from backhaul.model.clock import Clock
from backhaul.model.cost import Cost, ProviderCost, ProviderUsage
from backhaul.model.job import BUDGET_EXHAUSTED, DAY_BUDGET_EXHAUSTED, Cause, Job, Stop, StopKind
from backhaul.model.money import dollars
from backhaul.model.shard import Shard
from backhaul.paid.budget.budget import Budget
from backhaul.paid.budget.rule import Caps, Exhausted, Holder
from backhaul.store.budgets import BudgetKey, BudgetScope, BudgetState, BudgetStore
from backhaul.store.steps import StepStore


def budget_of(
    job: Job, shard: Shard, attempt: int, *, caps: Caps, budgets: BudgetStore, steps: StepStore, clock: Clock
) -> Budget:
    """Return the budget of an attempt at a shard; it can look up the cost of answers that earlier attempts stored."""

    def stored(earlier: int) -> tuple[int, int | None]:
        prices = steps.prices(job.ref, shard.chunks[0].index, shard.chunks[-1].index, earlier)
        return sum(price.cost for price in prices), sum(price.estimate for price in prices)

    holder = Holder(job.ref, shard.index, attempt)
    return Budget(holder, caps, budgets, clock, expires_at=job.expires_at, stored=stored)


def stop_for(job: Job, spent: Exhausted, now: datetime) -> Stop:
    """Return the request that pauses a job whose money is spent; its cause names the budget and how to go on."""
    said = spent.describe()
    said = f"{said[0].upper()}{said[1:]}."
    if spent.scope is BudgetScope.JOB:
        cause = Cause(BUDGET_EXHAUSTED, f"{said} The job goes on when its budget is raised.")
    else:
        when = "tomorrow (UTC), or when an operator has raised that budget"
        command = f"backhaul redrive {job.ref.job_id}"
        cause = Cause(DAY_BUDGET_EXHAUSTED, f"{said} That is for today. The job goes on with `{command}` {when}.")
    return Stop(StopKind.BUDGET, cause, now)


def settle_dead_holds(
    job: Job, plan: Iterable[Shard], *, budgets: BudgetStore, steps: StepStore, clock: Clock
) -> BudgetState:
    """Settle the holds of dead workers that no attempt has followed; return the job's budget after that.

    Call it when every worker of the run has ended. A worker that is still alive, whatever Step Functions says, cannot
    write to the ledger any more. A second call changes nothing. Raises as the stores do.
    """
    key = BudgetKey.of_job(job.ref)
    found = budgets.get(key)
    if not found.entries:
        return found
    for shard in plan:
        if entry := found.entries.get(str(shard.index)):
            follower = budget_of(job, shard, entry.attempt + 1, caps=Caps(), budgets=budgets, steps=steps, clock=clock)
            follower.take_over(Holder(job.ref, shard.index, entry.attempt), *follower.stored(entry.attempt))
    return budgets.get(key)


def cost_of(state: BudgetState, default_cap: int | None) -> Cost | None:
    """Return a job's cost for users, in dollars; None if the job has no cap and made no calls."""
    cap = default_cap if state.cap is None else state.cap
    if cap is None and not state.used and not state.usage:
        return None
    return Cost(
        max_cost=None if cap is None else dollars(cap),
        spent=dollars(state.spent),
        held=dollars(state.held),
        saved=dollars(sum(usage.saved for usage in state.usage.values())),
        usage=by_provider(state.usage),
    )


def by_provider(usage: Mapping[str, ProviderUsage]) -> Mapping[str, ProviderCost]:
    """Return the usage by provider, for users, with amounts in dollars."""
    return {name: _provider_cost(each) for name, each in sorted(usage.items())}


def by_day(
    budgets: BudgetStore, key_of: Callable[[date], BudgetKey], first: date, last: date
) -> Mapping[date, Mapping[str, ProviderCost]]:
    """Return the usage by day and provider, for the days with calls from `first` to `last`; it reads once a day."""
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    found = {day: by_provider(budgets.get(key_of(day), consistent=False).usage) for day in days}
    return {day: usage for day, usage in found.items() if usage}


def _provider_cost(usage: ProviderUsage) -> ProviderCost:
    return ProviderCost(
        usage.calls, usage.input_tokens, usage.output_tokens, dollars(usage.nanodollars), dollars(usage.saved)
    )
