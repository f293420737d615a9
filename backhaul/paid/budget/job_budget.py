"""A job's money as its stages handle it: an attempt's budget, what the dead still held, and what it came to."""

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
    """Return what an attempt at a shard may spend; it knows what answers cost that earlier attempts have stored."""

    def stored(earlier: int) -> tuple[int, int | None]:
        prices = steps.prices(job.ref, shard.chunks[0].index, shard.chunks[-1].index, earlier)
        return sum(price.cost for price in prices), sum(price.estimate for price in prices)

    holder = Holder(job.ref, shard.index, attempt)
    return Budget(holder, caps, budgets, clock, expires_at=job.expires_at, stored=stored)


def stop_for(job: Job, spent: Exhausted, now: datetime) -> Stop:
    """Return the request that pauses a job for want of money; its cause says whose budget it is and how to go on."""
    said = spent.describe()
    said = f"{said[0].upper()}{said[1:]}."
    if spent.scope is BudgetScope.JOB:
        cause = Cause(BUDGET_EXHAUSTED, f"{said} The job goes on when its budget is raised.")
    else:
        when = "tomorrow (UTC), or when an operator has raised that budget"
        command = f"backhaul redrive {job.ref.job_id}"
        cause = Cause(DAY_BUDGET_EXHAUSTED, f"{said} That is for today. The job goes on with `{command}` {when}.")
    return Stop(StopKind.BUDGET, cause, now)


def close_books(
    job: Job, plan: Iterable[Shard], *, budgets: BudgetStore, steps: StepStore, clock: Clock
) -> BudgetState:
    """Settle what workers held that died with nobody to follow them, and return the job's budget as it then is.

    Every worker of the run has ended by now. One that has not, whatever Step Functions says, cannot write to the
    books any more. A second time changes nothing. Raises as the stores do.
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
    """Return what a job's budget says, as it is told; None of a job that neither may nor did spend anything."""
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
    """Return what calls took, as it is told, by provider."""
    return {name: _provider_cost(each) for name, each in sorted(usage.items())}


def by_day(
    budgets: BudgetStore, key_of: Callable[[date], BudgetKey], first: date, last: date
) -> Mapping[date, Mapping[str, ProviderCost]]:
    """Return what calls took on each day from the first to the last, where there were any; a read for each day."""
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    found = {day: by_provider(budgets.get(key_of(day), consistent=False).usage) for day in days}
    return {day: usage for day, usage in found.items() if usage}


def _provider_cost(usage: ProviderUsage) -> ProviderCost:
    return ProviderCost(
        usage.calls, usage.input_tokens, usage.output_tokens, dollars(usage.nanodollars), dollars(usage.saved)
    )
