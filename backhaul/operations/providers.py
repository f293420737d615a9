"""The providers of a deployment: lists them, sets one up, changes its fields, and removes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from backhaul.model.breaker import BreakerState
from backhaul.operations.connection import Operations
from backhaul.operations.provider_fields import (
    FIELDS,
    changed,
    check_fields,
    check_name,
    check_texts,
    default_of,
    paths_of,
    text_of,
    values_of,
)
from backhaul.providers import InvalidProvider, Provider, ProviderConflict, UnknownProvider, parse_provider
from backhaul.providers.address import is_near
from backhaul.store.audit import AuditRecord
from backhaul.store.providers import StoredProvider

_NEAR = (
    "base_url must not be a loopback or private address: the functions of a deployment on AWS are in no private "
    "network. On the local cloud, and in `backhaul try`, it may be one."
)


@dataclass(frozen=True)
class Listed:
    """A provider with its breaker."""

    stored: StoredProvider
    breaker: BreakerState


@dataclass(frozen=True)
class Listing:
    """Every provider by name."""

    providers: tuple[Listed, ...]
    unreadable: tuple[InvalidProvider, ...] = ()
    """An error for each provider that another version of Backhaul stored and this one cannot read."""


@dataclass(frozen=True)
class Change:
    """A changed field; `before` is None if there was no provider, or none that this version can read."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class ProviderUpdate:
    """The result of setting a provider's fields; without changes nothing was written."""

    provider: Provider
    version: str
    changes: tuple[Change, ...]
    is_new: bool = False


def listing(operations: Operations) -> Listing:
    """Return every provider with its breaker."""
    store = operations.store
    unreadable: list[InvalidProvider] = []
    found = store.providers.list(unreadable)
    listed = tuple(Listed(each, store.breakers.get(each.provider.name, consistent=True)) for each in found)
    return Listing(listed, tuple(unreadable))


def look(operations: Operations, name: str) -> Listed:
    """Return one provider with its breaker; raises `UnknownProvider`."""
    check_name(name)
    stored = operations.store.providers.find(name)
    return Listed(stored, operations.store.breakers.get(name, consistent=True))


def change(operations: Operations, name: str, given: Mapping[str, str], reason: str) -> ProviderUpdate:
    """Set the given fields, each to its text or, if that is empty, to its default; all others stay as they are.

    Makes the provider if there is none. Raises `InvalidProvider`, or `ProviderConflict` if another operator changed the
    provider meanwhile.
    """
    check_name(name)
    check_fields(given)
    check_texts(given)
    try:
        stored = operations.store.providers.find(name)
    except UnknownProvider:
        if not given.get("kind"):
            raise InvalidProvider(
                f"There is no provider {name!r}; `backhaul providers list` shows which there are. To set up a new one "
                "name its kind as well: kind=openai, kind=bedrock or kind=http."
            ) from None
        return _put(operations, None, None, parse_provider(changed({"name": name}, given)), reason)
    provider = parse_provider(changed(msgspec.to_builtins(stored.provider), given))
    return _put(operations, stored.provider, stored.version, provider, reason)


def replace(operations: Operations, name: str, document: Mapping[str, Any], reason: str) -> ProviderUpdate:
    """Replace the provider by a document such as `as_document` returns, or make it if there is none.

    If the document has a `version`, the stored provider must still have it. Raises as `change` does.
    """
    check_name(name)
    values = {"name": name, **document}
    expected = values.pop("version", None)
    if values["name"] != name:
        raise InvalidProvider(f"The document has another name than {name!r}: use the same, or leave it out.")
    check_fields(paths_of(values))
    check_texts(paths_of(values))
    provider = parse_provider(values)
    before, version = _current(operations, name)
    if expected not in (None, version) and provider != before:
        raise ProviderConflict(
            f"The provider {name!r} was changed or removed since this document was written. Look at it again with "
            "`backhaul providers show`, and then repeat your change; without its version the document replaces "
            "whatever there is."
        )
    return _put(operations, before, version, provider, reason)


def remove(operations: Operations, name: str, reason: str) -> None:
    """Remove a provider; the audit trail keeps its fields. Raises `UnknownProvider`."""
    check_name(name)
    store = operations.store
    was, version = store.providers.raw(name)
    begun = store.audit.begin(_record(operations, "remove", name, reason, {"was": was}))
    try:
        store.providers.delete(name, version=version)
    except ProviderConflict:
        store.audit.close(begun, "conflict")
        raise
    store.audit.close(begun, "removed")


def as_document(stored: StoredProvider) -> dict[str, Any]:
    """Return all fields of a provider and its version, in the form that `replace` takes."""
    values = msgspec.structs.asdict(stored.provider)
    return {"version": stored.version, **values, "breaker": msgspec.structs.asdict(stored.provider.breaker)}


def _current(operations: Operations, name: str) -> tuple[Provider | None, str | None]:
    """Return the provider and its version; only the version if this version of Backhaul cannot read the provider."""
    store = operations.store.providers
    try:
        stored = store.find(name)
    except UnknownProvider:
        return None, None
    except InvalidProvider:
        return None, store.raw(name)[1]
    return stored.provider, stored.version


def _put(
    operations: Operations, before: Provider | None, version: str | None, after: Provider, reason: str
) -> ProviderUpdate:
    if not operations.outputs.is_local and is_near(after.base_url):
        raise InvalidProvider(_NEAR)
    if version is not None and after == before:
        return ProviderUpdate(after, version, ())
    store, changes = operations.store, tuple(_changes(before, after))
    told = [{"field": each.field, "before": text_of(each.before), "after": text_of(each.after)} for each in changes]
    begun = store.audit.begin(_record(operations, "set", after.name, reason, {"changes": told}))
    try:
        following = store.providers.put(after, version=version, by=operations.who)
    except ProviderConflict:
        store.audit.close(begun, "conflict")
        raise
    store.audit.close(begun, "made" if version is None else "changed")
    return ProviderUpdate(after, following, changes, is_new=version is None)


def _changes(before: Provider | None, after: Provider) -> Iterator[Change]:
    """Yield the fields that differ from `before`, or from their defaults if there was no provider."""
    old = values_of(before) if before else {field: default_of(field) for field in FIELDS}
    for field, value in values_of(after).items():
        if value != old[field]:
            yield Change(field, old[field] if before else None, value)


def _record(operations: Operations, act: str, name: str, reason: str, what: Mapping[str, Any]) -> AuditRecord:
    return AuditRecord(f"providers {act}", operations.who, reason, what={"provider": name, **what})
