"""Opens and closes breakers by hand: an operator holds back all calls of a provider, and lets them go again."""

from __future__ import annotations

from dataclasses import dataclass

from backhaul.model.breaker import BreakerState, Phase
from backhaul.model.errors import InvalidRequest
from backhaul.operations.connection import Operations
from backhaul.operations.providers import look
from backhaul.paid.breaker.breaker import Breaker
from backhaul.paid.channels import rule_of
from backhaul.providers import Provider
from backhaul.store.audit import AuditRecord

BY_HAND = "by hand"


@dataclass(frozen=True)
class Switched:
    """The result of opening or closing a breaker by hand."""

    changed: bool
    before: BreakerState
    """The breaker before the act."""
    state: BreakerState
    """The breaker now."""


def hold_open(operations: Operations, name: str, reason: str) -> Switched:
    """Open a provider's breaker until a person closes it; one that a person holds open already stays as it is.

    Raises `UnknownProvider`, and `InvalidRequest` for a breaker that is switched off, because no worker asks it.
    """
    found = look(operations, name)
    provider, before = found.stored.provider, found.breaker
    if not provider.breaker.enabled:
        raise InvalidRequest(
            f"The breaker of {name} is switched off, so it cannot stop calls. Switch it on first: "
            f"backhaul providers set {name} breaker.enabled=true"
        )
    if before.is_held_open:
        return Switched(False, before, before)
    begun = operations.store.audit.begin(_record("open", operations, name, reason))
    made = _breaker(operations, provider).open(BY_HAND, by=operations.who, why=reason)
    operations.store.audit.close(begun, "opened" if made else "somebody else held it open already")
    return Switched(made is not None, before, made or operations.store.breakers.get(name, consistent=True))


def close(operations: Operations, name: str, reason: str) -> Switched:
    """Close a provider's breaker, whether a person or a worker opened it; raises `UnknownProvider`."""
    found = look(operations, name)
    if found.breaker.state is Phase.CLOSED:
        return Switched(False, found.breaker, found.breaker)
    begun = operations.store.audit.begin(_record("close", operations, name, reason))
    made = _breaker(operations, found.stored.provider).close(by=operations.who, why=reason)
    operations.store.audit.close(begun, "closed" if made else "it was closed already")
    return Switched(made is not None, found.breaker, made or operations.store.breakers.get(name, consistent=True))


def _breaker(operations: Operations, provider: Provider) -> Breaker:
    return Breaker(provider.name, rule_of(provider), operations.store.breakers, operations.clock)


def _record(act: str, operations: Operations, name: str, reason: str) -> AuditRecord:
    return AuditRecord(f"breakers {act}", operations.who, reason, what={"provider": name})
