"""A processor's options: what callers may read of them, and how given values become checked ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from backhaul.model.errors import InvalidOption
from backhaul.plugin.processor import Processor

MAX_OPTIONS_BYTES = 16 * 1024
"""As JSON. Every read of a job carries its options, and a job has to fit into one DynamoDB item."""
MAX_OPTIONS_DEPTH = 64
"""Lists and mappings in each other. Far below where encoders give up: events and receipts hold the options deeper."""

_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matching {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} entries",
    "maxProperties": "at most {} entries",
}


@dataclass(frozen=True)
class Option:
    """What callers may read of one option."""

    name: str
    type: str
    required: bool
    default: Any
    description: str
    limits: str


def describe_options(processor: type[Processor]) -> tuple[Option, ...]:
    """Return what callers may set: the processor's own options, then those that all processors have."""
    required = {field.encode_name for field in msgspec.structs.fields(processor.Options) if field.required}
    return tuple(
        Option(
            name=name,
            type=" or ".join(_type(each) for each in _variants(schema)),
            required=name in required,
            default=schema.get("default"),
            description=_first(schema, "description"),
            limits=", ".join(_limits(schema)),
        )
        for name, schema in _schemas(processor.Options).items()
    )


def parse_options(processor: type[Processor], given: Mapping[str, Any]) -> Processor.Options:
    """Return the checked options; values may be text, as a command line gives them. Raises `InvalidOption`.

    As text a list is either JSON or its items with commas between, and a mapping is JSON.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(processor.Options)}
    known = f"Options of {processor.name}: {', '.join(fields)}."
    unknown = sorted(given.keys() - fields.keys())
    if unknown:
        raise InvalidOption(f"{processor.name} has no option {unknown[0]!r}. {known}")
    missing = [name for name, field in fields.items() if field.required and name not in given]
    if missing:
        raise InvalidOption(f"Option {missing[0]!r} must be set. {known}")
    schemas = _schemas(processor.Options)
    values = {}
    for name, value in given.items():
        try:
            values[fields[name].name] = msgspec.convert(
                _from_text(value, schemas[name]), fields[name].type, strict=False
            )
        except (msgspec.DecodeError, ValueError) as error:
            raise InvalidOption(f"Option {name!r} is not valid: {error}. {known}") from None
        except RecursionError:
            raise InvalidOption(f"Option {name!r} is not valid: it is nested too deeply. {known}") from None
    try:
        return processor.Options(**values)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InvalidOption(f"{str(error).rstrip('.')}. {known}") from None
    except RecursionError:
        raise InvalidOption(f"The options are nested too deeply. {known}") from None


def check_extent(options: object) -> None:
    """Refuse options that are too large or nested too deeply, before anything looks at them; raises `InvalidOption`."""
    try:
        encoded = msgspec.json.encode(options)
    except RecursionError:
        raise InvalidOption(_TOO_DEEP) from None
    if len(encoded) > MAX_OPTIONS_BYTES:
        raise InvalidOption(
            f"The options take {len(encoded):,} bytes as JSON; {MAX_OPTIONS_BYTES:,} at most are allowed."
        )
    level, depth = [msgspec.json.decode(encoded)], 0
    while level := [each for value in level for each in _inside(value)]:
        depth += 1
        if depth > MAX_OPTIONS_DEPTH:
            raise InvalidOption(_TOO_DEEP)


_TOO_DEEP = f"The options are nested too deeply: {MAX_OPTIONS_DEPTH} lists and mappings in each other are allowed."


def _inside(value: Any) -> Collection[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


@cache
def _schemas(options: type[Processor.Options]) -> dict[str, dict[str, Any]]:
    _, components = msgspec.json.schema_components([options])
    return dict(components[options.__name__]["properties"])


def _from_text(value: Any, schema: Mapping[str, Any]) -> Any:
    kinds = {each.get("type") for each in _variants(schema)}
    if not isinstance(value, str) or "string" in kinds:
        return value
    if kinds & {"array", "object"} and value.lstrip().startswith(("[", "{")):
        return msgspec.json.decode(value)
    return value.split(",") if "array" in kinds else value


def _variants(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object":
        return f"mapping of name to {_type(schema.get('additionalProperties') or {})}"
    return str(schema.get("type", "anything"))


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    for each in _variants(schema):
        yield from (text.format(each[key]) for key, text in _LIMITS.items() if key in each)


def _first(schema: Mapping[str, Any], key: str) -> str:
    return str(next((each[key] for each in (schema, *_variants(schema)) if key in each), ""))
