"""Reading what a model answers as JSON, and checking it against a JSON Schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from backhaul.model.errors import Permanent

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_FENCED = re.compile(r"```(?:json)?[^\S\n]*+\n(.*)```", re.DOTALL | re.IGNORECASE)
_MAX_PROBLEM = 500


class InvalidAnswer(Permanent):
    """A model's answer is not of the form that was asked for; its message holds nothing of the answer.

    `problem` says more, for the model to mend it: there the answer may be quoted, so it goes nowhere else.
    """

    code = "invalid_answer"

    def __init__(self, message: str, problem: str = "") -> None:
        super().__init__(message)
        self.problem = problem or message


class AnswerSchema:
    """A JSON Schema of an object, which answers have to follow; raises `ValueError` for what is none.

    Without `$schema` it is one of 2020-12. References stay within it: nothing is ever fetched.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        if schema.get("type") != "object":
            raise ValueError('a schema of answers must be of "type": "object"; wrap anything else in one')
        try:
            self._validator = _validator_of(json.dumps(schema))
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    def read(self, text: str) -> Any:
        """Return the JSON value that an answer is; raises `InvalidAnswer` if it is not one that follows the schema."""
        return self.check(_parse(text))

    def check(self, value: Any) -> Any:
        """Return a value that follows the schema; raises `InvalidAnswer` for any other."""
        from jsonschema.exceptions import best_match

        try:
            error = best_match(self._validator.iter_errors(value))
        except RecursionError:
            raise InvalidAnswer("The answer is nested too deeply.") from None
        if error is not None:
            place = "/".join(map(str, error.absolute_schema_path))  # words of the schema's, none of the answer's
            problem = f"{error.json_path}: {error.message}"
            raise InvalidAnswer(f"The answer does not follow the schema: {place}.", problem[:_MAX_PROBLEM])
        return value


@lru_cache(maxsize=8)  # a processor is made for every chunk, and a large schema takes a tenth of a second to check
def _validator_of(text: str) -> Validator:
    """Return what checks values against the schema; raises `ValueError` for what is none, and `RecursionError`."""
    # Takes a third of a second, and most workers never need it.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    schema: dict[str, Any] = json.loads(text)
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"it is not a JSON Schema: {error.json_path}: {error.message[:_MAX_PROBLEM]}") from None
    except OverflowError as error:  # of a regular expression in it
        raise ValueError(f"it is not a JSON Schema: {error}") from None
    _check_references(schema)
    validator: Validator = kind(schema, registry=Registry())
    return validator


def _parse(text: str) -> Any:
    """Return the JSON value that a text is, also in a fence of Markdown."""
    text = text.strip()
    fenced = _FENCED.fullmatch(text)
    try:
        return _decoder.decode(fenced[1].strip() if fenced else text)
    except json.JSONDecodeError as error:
        raise InvalidAnswer("The answer is not JSON.", f"It is not JSON: {error}") from None
    except (ValueError, RecursionError):  # NaN, a number of thousands of digits, nested too deeply
        raise InvalidAnswer("The answer is not JSON.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def _check_references(schema: dict[str, Any]) -> None:
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resolver = Registry[Any]().resolver_with_root(DRAFT202012.create_resource(schema))
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise ValueError(f"it refers to {reference!r}, which it does not hold") from None


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (schema[name] for name in ("$ref", "$dynamicRef") if isinstance(schema.get(name), str))
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            yield from _references(each)
