"""Spending: what all tenants' calls of providers took, and what may be spent today."""

from __future__ import annotations

from datetime import date

from backhaul.api import DayUsage
from backhaul.cost import Cost
from backhaul.guards.purse import by_day, cost_of
from backhaul.money import display
from backhaul.operations.connection import Operations
from backhaul.store.audit import AuditRecord
from backhaul.store.budgets import BudgetKey


def usage_of_all(operations: Operations, first: date, last: date) -> tuple[DayUsage, ...]:
    """Return what calls took on each day (UTC) from the first to the last, in the whole deployment."""
    found = by_day(operations.store.budgets, BudgetKey.of_stack, first, last)
    return tuple(DayUsage(day, usage) for day, usage in found.items())


def raise_today(operations: Operations, tenant: str | None, amount: int, reason: str) -> Cost | None:
    """Let a tenant, or the whole deployment, spend so many nanodollars today (UTC); returns what is spent of it.

    Tomorrow the deployment's own setting counts again. Jobs that are paused go on when their owners redrive them.
    """
    day = operations.clock.now().date()
    key = BudgetKey.of_tenant(tenant, day) if tenant else BudgetKey.of_stack(day)
    what = {"day": day.isoformat(), "cap": display(amount)} | ({"tenant": tenant} if tenant else {})
    audit = operations.store.audit
    begun = audit.begin(AuditRecord(action="raise-budget", who=operations.who, why=reason, what=what))
    state = operations.store.budgets.raise_cap(key, amount, by=operations.who, why=reason)
    audit.close(begun, "raised")
    return cost_of(state, amount)
