"""Breakers by hand: holding calls of a provider back until a person lets them go, and letting them go."""

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
    """What opening or closing came to."""

    changed: bool
    before: BreakerState
    """How the breaker stood until then."""
    state: BreakerState
    """How it stands now."""


def hold_open(operations: Operations, name: str, reason: str) -> Switched:
    """Open a provider's breaker until a person closes it; one that somebody holds open already stays as it is.

    Raises `UnknownProvider`, and `InvalidRequest` for a breaker that is switched off: no worker asks it.
    """
    found = look(operations, name)
    provider, before = found.stored.provider, found.breaker
    if not provider.breaker.enabled:
        raise InvalidRequest(
            f"The breaker of {name} is switched off, so it holds nothing back. Switch it on first: "
            f"backhaul providers set {name} breaker.enabled=true"
        )
    if before.is_held_open:
        return Switched(False, before, before)
    begun = operations.store.audit.begin(_record("open", operations, name, reason))
    made = _breaker(operations, provider).open(BY_HAND, by=operations.who, why=reason)
    operations.store.audit.close(begun, "opened" if made else "somebody else held it open already")
    return Switched(made is not None, before, made or operations.store.breakers.get(name, consistent=True))


def close(operations: Operations, name: str, reason: str) -> Switched:
    """Close a provider's breaker, whoever or whatever opened it; raises `UnknownProvider`."""
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
