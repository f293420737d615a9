"""A provider's fields as an operator writes them, by name and text; no text may be an API key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from backhaul.providers import Breaker, InvalidProvider, Provider

_OWN = {field.name: field for field in msgspec.structs.fields(Provider)}
_OF_BREAKER = {f"breaker.{field.name}": field for field in msgspec.structs.fields(Breaker)}
FIELDS = tuple(
    path
    for name in _OWN
    if name != "name"  # the name identifies the provider, so it cannot be changed
    for path in (_OF_BREAKER if name == "breaker" else (name,))
)
"""The fields of a provider that an operator can set, by their names on a command line."""

_NAME_OF_PROVIDER = re.compile(r"[a-z0-9-]{1,63}")
_NAME_OF_FIELD = re.compile(r"[a-z_]{1,40}(\.[a-z_]{1,40})?")
# The forms of the keys of OpenAI and providers like it, Anthropic, Groq, Hugging Face, xAI, AWS, Google; and of JWTs.
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"[sr]k-(?:(?:proj|svcacct|admin|ant|or)-[\w-]{16,}|[A-Za-z0-9]{16,})"
    r"|(?:gsk|hf|xai|pplx|r8|nvapi)[_-][A-Za-z0-9]{20,}"
    r"|A[KS]IA[A-Z0-9]{12,}|AIza[\w-]{20,}|eyJ[\w-]{20,})"
)
_NO_HEADER = re.compile(r"(?=[A-Za-z]*[0-9])[A-Za-z0-9]{24,}")


def check_name(name: str) -> None:
    """Raise `InvalidProvider` unless a provider may have this name; the error does not repeat the name."""
    if not _NAME_OF_PROVIDER.fullmatch(name) or _KEY.search(name):
        raise InvalidProvider("A provider's name is made of lower-case letters, digits and hyphens, 63 at most.")


def check_fields(names: Iterable[str]) -> None:
    """Raise `InvalidProvider` if a name is no field; the error repeats the name only if it cannot be an API key."""
    for name in names:
        if name == "name":
            raise InvalidProvider("A provider keeps its name. Set one up under the new name, and remove this one.")
        if name == "breaker":
            raise InvalidProvider(f"breaker has fields of its own: {', '.join(_OF_BREAKER)}.")
        if name not in FIELDS:
            wrong = f"field {name!r}" if _NAME_OF_FIELD.fullmatch(name) else "field of a name that was given"
            raise InvalidProvider(f"A provider has no {wrong}. Its fields: {', '.join(FIELDS)}.")


def check_texts(values: Mapping[str, Any]) -> None:
    """Raise `InvalidProvider` if a value looks like an API key; the error does not repeat the value."""
    for name, value in values.items():
        if isinstance(value, str) and (_KEY.search(value) or (name.endswith("header") and _NO_HEADER.search(value))):
            raise InvalidProvider(
                f"{name} holds what looks like a key. Put the key into Secrets Manager or a SecureString of SSM, and "
                "write in secret where that is. If it was a key, replace it at the provider."
            )


def paths_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document's fields by their names on a command line, without the provider's name."""
    breaker = document.get("breaker")
    inner = {f"breaker.{name}": value for name, value in breaker.items()} if isinstance(breaker, Mapping) else {}
    return {name: value for name, value in document.items() if name not in ("name", "breaker")} | inner


def changed(document: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Return the document with the given fields set to their texts; a field with an empty text is left out."""
    values = dict(document) | {"breaker": dict(document.get("breaker", {}))}
    for path, text in given.items():
        holder, field = (values["breaker"], _OF_BREAKER[path].name) if path in _OF_BREAKER else (values, path)
        holder.pop(field, None)
        if text:
            holder[field] = text
    return values


def values_of(provider: Provider) -> dict[str, Any]:
    """Return every field of a provider by its name on a command line."""
    breaker = {path: getattr(provider.breaker, field.name) for path, field in _OF_BREAKER.items()}
    return {path: breaker[path] if path in breaker else getattr(provider, path) for path in FIELDS}


def default_of(path: str) -> Any:
    """Return a field's default; None for a field that must be set."""
    default = (_OF_BREAKER.get(path) or _OWN[path]).default
    return None if default is msgspec.NODEFAULT else default


def meaning_of(path: str) -> str:
    """Return a field's meaning in a few words of Markdown."""
    return str((_OF_BREAKER.get(path) or _OWN[path]).type.__metadata__[0].description)


def text_of(value: Any) -> str:
    """Return a value as an operator writes it on a command line; None becomes the empty text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
