"""Spending: the usage of all tenants' calls of providers, and the budgets of today."""

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
    """The budget of a tenant, or of the whole deployment, for one day (UTC): its cap, and what is spent and held."""

    tenant: str | None
    """The tenant; None for the whole deployment."""
    day: date
    cost: Cost
    left: str | None
    """The dollars that are neither spent nor held; None if there is no cap."""
    cap_by: str | None = None
    """The ARN of the operator who gave this day its own cap; None if the deployment's setting counts."""
    cap_why: str | None = None


def usage_of(operations: Operations, tenant: str | None, first: date, last: date) -> tuple[DayUsage, ...]:
    """Return the usage of a tenant, or of all if None, for each day (UTC) with calls from `first` to `last`."""
    found = by_day(operations.store.budgets, partial(_key, tenant), first, last)
    return tuple(DayUsage(day, usage) for day, usage in found.items())


def budget_today(operations: Operations, tenant: str | None) -> DayBudget:
    """Return today's (UTC) budget of a tenant, or of the whole deployment if None, even if nothing is spent yet."""
    day, settings = operations.clock.now().date(), operations.settings
    state = operations.store.budgets.get(_key(tenant, day))
    cost = cost_of(state, settings.cap_per_tenant if tenant else settings.cap) or Cost(None, "0.00", "0.00", "0.00")
    left = None if cost.max_cost is None else dollars(max(0, nanodollars(cost.max_cost) - state.used))
    if state.cap is None:
        return DayBudget(tenant, day, cost, left)
    return DayBudget(tenant, day, cost, left, state.cap_by, state.cap_why)


def raise_today(operations: Operations, tenant: str | None, amount: int, reason: str) -> Cost | None:
    """Let a tenant, or the whole deployment if None, spend `amount` nanodollars today (UTC); return what is spent.

    Tomorrow the deployment's own setting counts again. Paused jobs go on when their owners redrive them.
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
