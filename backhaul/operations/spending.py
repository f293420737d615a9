"""Spending: what all tenants' calls of providers took, and what may be spent today."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import partial

from backhaul.model.api import DayUsage
from backhaul.model.cost import Cost
from backhaul.model.money import display, dollars, nanodollars
from backhaul.operations.connection import Operations
from backhaul.paid.budget.job_budget import by_day, cost_of
from backhaul.store.audit import AuditRecord
from backhaul.store.budgets import BudgetKey


@dataclass(frozen=True)
class DayBudget:
    """What a tenant, or the whole deployment, may spend on a day (UTC), and what it has spent and holds of that."""

    tenant: str | None
    """None stands for the whole deployment."""
    day: date
    cost: Cost
    left: str | None
    """What is neither spent nor held, in dollars; None where there is no cap."""
    cap_by: str | None = None
    """Who gave this day a cap of its own; None where the deployment's setting counts."""
    cap_why: str | None = None


def usage_of(operations: Operations, tenant: str | None, first: date, last: date) -> tuple[DayUsage, ...]:
    """Return what calls of a tenant, or of all, took on each day (UTC) from the first to the last that has any."""
    found = by_day(operations.store.budgets, partial(_key, tenant), first, last)
    return tuple(DayUsage(day, usage) for day, usage in found.items())


def budget_today(operations: Operations, tenant: str | None) -> DayBudget:
    """Return how today's (UTC) budget of a tenant, or of the whole deployment, stands; also if nobody has used it."""
    day, settings = operations.clock.now().date(), operations.settings
    state = operations.store.budgets.get(_key(tenant, day))
    cost = cost_of(state, settings.cap_per_tenant if tenant else settings.cap) or Cost(None, "0.00", "0.00", "0.00")
    left = None if cost.max_cost is None else dollars(max(0, nanodollars(cost.max_cost) - state.used))
    if state.cap is None:
        return DayBudget(tenant, day, cost, left)
    return DayBudget(tenant, day, cost, left, state.cap_by, state.cap_why)


def raise_today(operations: Operations, tenant: str | None, amount: int, reason: str) -> Cost | None:
    """Let a tenant, or the whole deployment, spend so many nanodollars today (UTC); returns what is spent of it.

    Tomorrow the deployment's own setting counts again. Jobs that are paused go on when their owners redrive them.
    """
    day = operations.clock.now().date()
    key = _key(tenant, day)
    what = {"day": day.isoformat(), "cap": display(amount)} | ({"tenant": tenant} if tenant else {})
    audit = operations.store.audit
    begun = audit.begin(AuditRecord(action="raise-budget", who=operations.who, why=reason, what=what))
    state = operations.store.budgets.raise_cap(key, amount, by=operations.who, why=reason)
    audit.close(begun, "raised")
    return cost_of(state, amount)


def _key(tenant: str | None, day: date) -> BudgetKey:
    return BudgetKey.of_tenant(tenant, day) if tenant else BudgetKey.of_stack(day)
