"""A provider: one paid API and one of its models, as an operator configures them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from backhaul.model.money import cost_of
from backhaul.providers import address
from backhaul.providers.calls import Usage
from backhaul.providers.errors import InvalidProvider

MAX_TIMEOUT = 900.0
_KINDS = ("openai", "bedrock", "http")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MODEL = re.compile(r"[!-~]{1,2048}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]{1,2}")
_SECRET = re.compile(r"(secretsmanager|ssm):[A-Za-z0-9/_+=.@:-]{1,1011}(#[^\s#]{1,128})?")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_OURS = frozenset({"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"})
_MAX_DECIMALS = 9


class Breaker(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """When a breaker opens and holds calls back, because the provider is down."""

    enabled: Annotated[bool, Meta(description="whether calls stop while the provider is down")] = True
    share: Annotated[float, Meta(description="the share of failed calls that opens the breaker, 0.01 to 1")] = 0.5
    calls: Annotated[int, Meta(description="how many calls, of all workers together, the breaker needs to judge")] = 10
    window_seconds: Annotated[float, Meta(description="over how many of the last seconds calls are counted")] = 30.0
    cooldown_seconds: Annotated[
        float, Meta(description="for how many seconds calls stop, until one call probes the provider")
    ] = 15.0


class Provider(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One API and one model; raises `InvalidProvider` for impossible settings. `parse_provider` checks types too.

    The descriptions of the fields are what `backhaul providers set --help` shows.
    """

    name: str
    kind: Annotated[
        Literal["openai", "bedrock", "http"],
        Meta(description="`openai` (an API in OpenAI's form), `bedrock`, or `http` (any that takes JSON by POST)"),
    ]
    base_url: Annotated[
        str,
        Meta(
            description="the API's address without `/chat/completions`: https, or on the local cloud http to a "
            "loopback or private address; not for bedrock"
        ),
    ] = ""
    model: Annotated[str, Meta(description="the model's name at the provider; http does not need it")] = ""
    secret: Annotated[
        str, Meta(description="where the key is kept: `secretsmanager:<name>` or `ssm:<name>`; for JSON add `#<key>`")
    ] = ""
    secret_header: Annotated[
        str, Meta(description="the header for the key: as a bearer token in Authorization, alone in any other")
    ] = "Authorization"  # noqa: S105  # a header's name
    requests_per_minute: Annotated[
        int | None, Meta(description="how many calls may start in a minute; without it, any number")
    ] = None
    tokens_per_minute: Annotated[
        int | None, Meta(description="how many tokens may be used in a minute, input and output; without it, any")
    ] = None
    burst: Annotated[int | None, Meta(description="how many calls may start at once; needs requests_per_minute")] = None
    breaker: Breaker = Breaker()
    price_input: Annotated[Decimal, Meta(description="US dollars for a million tokens of input")] = Decimal(0)
    price_output: Annotated[Decimal, Meta(description="US dollars for a million tokens of output")] = Decimal(0)
    idempotency_header: Annotated[
        str,
        Meta(
            description="the header for an idempotency key, if the provider has one: a repeated call is then done once"
        ),
    ] = ""
    timeout_seconds: Annotated[float, Meta(description="how many seconds a call may take, 0.1 to 900")] = 60.0
    context_tokens: Annotated[
        int | None, Meta(description="the model's context window in tokens; no request may exceed it")
    ] = None
    region: Annotated[
        str, Meta(description="for bedrock: the AWS region of the model, if it is not the deployment's own")
    ] = ""

    def __post_init__(self) -> None:
        for name in ("price_input", "price_output"):
            msgspec.structs.force_setattr(self, name, _exact(name, getattr(self, name)))
        for problem in _problems(self):
            raise InvalidProvider(problem)

    def cost(self, usage: Usage) -> int:
        """Return the cost of a call in nanodollars."""
        return cost_of((usage.input_tokens, self.price_input), (usage.output_tokens, self.price_output))

    def fingerprint(self) -> str:
        """Return a text that is the same for the same settings, and for no others."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


def parse_provider(values: Mapping[str, Any]) -> Provider:
    """Return the provider that JSON or a command line describes; raises `InvalidProvider` with a sentence.

    No message repeats a value that could be a key.
    """
    known = [field.name for field in msgspec.structs.fields(Provider)]
    unknown = sorted(values.keys() - set(known))
    if unknown:
        raise InvalidProvider(f"A provider has no field {unknown[0]!r}. Its fields: {', '.join(known)}.")
    for name in ("name", "kind"):
        if name not in values:
            raise InvalidProvider(f"A provider needs the field {name!r}.")
    if values["kind"] not in _KINDS:  # msgspec's own message would repeat the value
        raise InvalidProvider("kind is not valid: it must be openai, bedrock or http.")
    try:
        return msgspec.convert(dict(values), Provider, strict=False)
    except msgspec.ValidationError as error:
        said, _, place = str(error).replace("`", "").partition(" - at ")
        field = place.removeprefix("$.") or "the provider"
        raise InvalidProvider(
            f"{field.capitalize() if field == 'the provider' else field} is not valid: {said}."
        ) from None


def _exact(name: str, price: object) -> Decimal:
    try:
        return Decimal(str(price))  # a float is read as it is written: 0.15 is fifteen cents
    except InvalidOperation:
        raise InvalidProvider(f"{name} must be a number: US dollars for a million tokens.") from None


def _problems(given: Provider) -> Iterator[str]:
    """Yield a sentence for each invalid setting, which says what to do."""
    if not _NAME.fullmatch(given.name):
        yield (
            "A provider's name is made of lower-case letters, digits and hyphens, 63 at most, and neither begins nor "
            "ends with a hyphen, as in openai-small."
        )
    if given.kind not in _KINDS:
        yield "kind must be openai, bedrock or http."
    yield from _reach_problems(given)
    yield from _secret_problems(given)
    yield from _limit_problems(given)
    yield from _breaker_problems(given.breaker)
    for name in ("price_input", "price_output"):
        yield from _price_problems(name, getattr(given, name))


def _reach_problems(given: Provider) -> Iterator[str]:
    if given.kind == "bedrock":
        if given.base_url:
            yield "Leave base_url out for bedrock: the field region says where the model is."
        if given.region and not _REGION.fullmatch(given.region):
            yield "region must be an AWS region such as eu-central-1."
    else:
        yield from address.problems(given.base_url)
        if given.region:
            yield f"Leave region out for {given.kind}: base_url says where the API is."
    if given.kind != "http" and not given.model:
        yield "Set model to the name by which the provider knows the model."
    if given.model and not _MODEL.fullmatch(given.model):
        yield "model must be one word without spaces, as the provider writes it."
    if not 0.1 <= given.timeout_seconds <= MAX_TIMEOUT:
        yield f"timeout_seconds must be from 0.1 to {MAX_TIMEOUT:.0f}: no function of Backhaul runs for longer."


def _secret_problems(given: Provider) -> Iterator[str]:
    if given.kind == "bedrock" and (given.secret or given.idempotency_header):
        yield "Leave secret and idempotency_header out for bedrock: the function's own role signs its calls."
    if given.secret and not _SECRET.fullmatch(given.secret):
        yield (
            "secret must say where the key is kept, never the key itself: put the key into Secrets Manager or a "
            "SecureString of SSM, and write secretsmanager:<name> or ssm:<name> here. If what you wrote was the key, "
            "replace it at the provider."
        )
    for name, header in (("secret_header", given.secret_header), ("idempotency_header", given.idempotency_header)):
        if (header or name == "secret_header") and not _HEADER.fullmatch(header):
            yield f"{name} must be the name of an HTTP header, such as x-api-key."
        if header.lower() in _OURS:
            yield f"{name} cannot be {header}: every call sets that header itself."
    if given.idempotency_header.lower() == given.secret_header.lower():
        yield "idempotency_header and secret_header must be two headers."


def _limit_problems(given: Provider) -> Iterator[str]:
    for name, most in (
        ("requests_per_minute", 10**6),
        ("tokens_per_minute", 10**10),
        ("burst", 10**4),
        ("context_tokens", 10**8),
    ):
        value = getattr(given, name)
        if value is not None and not 1 <= value <= most:
            yield f"{name} must be from 1 to {most:,}; leave it out if the provider sets no limit."
    if given.burst is not None and given.requests_per_minute is None:
        yield "burst means nothing without requests_per_minute: set that too, or leave burst out."
    if given.burst and given.requests_per_minute and given.burst > given.requests_per_minute:
        yield "burst must not be more than requests_per_minute: a minute's calls at once would break the limit."


def _breaker_problems(breaker: Breaker) -> Iterator[str]:
    if not 0.01 <= breaker.share <= 1:
        yield "breaker.share must be from 0.01 to 1: 0.5 is half of the calls. To switch it off set enabled to false."
    if not 1 <= breaker.calls <= 10_000:
        yield "breaker.calls must be from 1 to 10,000."
    if not 1 <= breaker.window_seconds <= 600:
        yield "breaker.window_seconds must be from 1 to 600."
    if not 1 <= breaker.cooldown_seconds <= 3600:
        yield "breaker.cooldown_seconds must be from 1 to 3600."


def _price_problems(name: str, price: Decimal) -> Iterator[str]:
    if not price.is_finite() or not 0 <= price <= 100_000:
        yield f"{name} must be from 0 to 100,000: US dollars for a million tokens."
        return
    exponent = price.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > _MAX_DECIMALS:
        yield f"{name} must have {_MAX_DECIMALS} decimals at most."
