"""Providers as an operator writes them: what is taken, what is refused, and in which words."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backhaul.providers import Breaker, InvalidProvider, Provider, Usage, parse_provider
from backhaul.providers.address import is_near

OPENAI = {"name": "small", "kind": "openai", "base_url": "https://api.openai.com/v1", "model": "gpt-4o-mini"}
BEDROCK = {"name": "claude", "kind": "bedrock", "model": "anthropic.claude-3-haiku-20240307-v1:0"}
HTTP = {"name": "translate", "kind": "http", "base_url": "https://translate.example.com"}


def refused(values: dict[str, Any]) -> str:
    with pytest.raises(InvalidProvider) as error:
        parse_provider(values)
    sentence = str(error.value)
    assert sentence.endswith(".")
    return sentence


def test_what_is_left_out_has_a_default():
    provider = parse_provider(OPENAI)
    assert provider.secret_header == "Authorization"
    assert provider.timeout_seconds == 60
    assert provider.breaker == Breaker(enabled=True, share=0.5, calls=10, window_seconds=30, cooldown_seconds=15)
    assert (provider.requests_per_minute, provider.tokens_per_minute, provider.burst) == (None, None, None)
    assert (provider.price_input, provider.price_output) == (0, 0)


def test_no_field_goes_undocumented():
    page = (Path(__file__).resolve().parents[2] / "docs/providers.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for kind in (Provider, Breaker):
        for field in msgspec.structs.fields(kind):
            (row,) = [each for each in rows if f"`{field.name}`" in (each if kind is Breaker else each.split("|")[1])]
            if field.default not in (msgspec.NODEFAULT, "", None, Breaker()):
                is_number = isinstance(field.default, float)
                default = "true" if field.default is True else f"{field.default:g}" if is_number else field.default
                assert str(default) in row.split("|")[3], field.name


@pytest.mark.parametrize("values", [OPENAI, BEDROCK, HTTP], ids=["openai", "bedrock", "http"])
def test_the_least_that_each_kind_needs_is_enough_and_survives_storage(values):
    provider = parse_provider(values)
    assert msgspec.json.decode(msgspec.json.encode(provider), type=Provider) == provider


def test_everything_set_survives_storage():
    provider = parse_provider(
        OPENAI
        | {
            "secret": "secretsmanager:prod/keys#openai",
            "secret_header": "api-key",
            "requests_per_minute": 600,
            "tokens_per_minute": 200_000,
            "burst": 20,
            "breaker": {"enabled": False, "share": 0.25},
            "price_input": "0.150",
            "price_output": 0.6,
            "idempotency_header": "Idempotency-Key",
            "timeout_seconds": 30.5,
            "context_tokens": 128_000,
        }
    )
    assert provider.price_output == Decimal("0.6")
    assert msgspec.json.decode(msgspec.json.encode(provider), type=Provider) == provider


def test_a_command_lines_text_is_taken_for_what_it_says():
    provider = parse_provider(OPENAI | {"requests_per_minute": "600", "timeout_seconds": "2.5", "price_input": "3"})
    assert (provider.requests_per_minute, provider.timeout_seconds, provider.price_input) == (600, 2.5, 3)


def test_a_provider_made_in_code_is_checked_as_well():
    with pytest.raises(InvalidProvider, match="kind"):
        Provider(name="a", kind="other")  # type: ignore[arg-type]
    with pytest.raises(InvalidProvider, match="price_input must be a number"):
        Provider(name="a", kind="bedrock", model="m", price_input="cheap")  # type: ignore[arg-type]
    with pytest.raises(InvalidProvider, match="price_input"):
        Provider(name="a", kind="bedrock", model="m", price_input=Decimal("-1"))


@pytest.mark.parametrize("name", ["", "Small", "a_b", "-a", "a-", "a b", "ä", "a" * 64, "a\n", "a.b", "a/b"])
def test_a_name_that_is_no_name_is_refused(name):
    assert "lower-case letters" in refused(OPENAI | {"name": name})


@pytest.mark.parametrize("name", ["a", "0", "openai-small", "a" * 63, "a--b"])
def test_a_name_is_letters_digits_and_hyphens(name):
    assert parse_provider(OPENAI | {"name": name}).name == name


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "https://api.openai.com/v1/",
        "https://[2606:4700::1]:8443/x",
        "http://localhost:8000/v1",
        "http://127.0.0.1:1",
        "http://[::1]:8080",
        "http://10.1.2.3/v1",
        "http://192.168.0.9",
        "http://172.16.0.1",
        "http://[fd00::1]/v1",
    ],
)
def test_an_address_is_https_or_near(url):
    assert parse_provider(OPENAI | {"base_url": url}).base_url == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "Set base_url"),
        ("api.openai.com", "must be an address"),
        ("ftp://api.openai.com", "must be an address"),
        ("https://", "must be an address"),
        ("https:///v1", "must be an address"),
        ("https://a b/v1", "must be an address"),
        ("https://a/v1\r\nX: y", "must be an address"),
        ("https://exämple.com", "must be an address"),
        ("https://a:99999/v1", "must be an address"),
        ("https://[::1", "must be an address"),
        ("http://api.openai.com/v1", "must begin with https"),
        ("http://8.8.8.8/v1", "must begin with https"),
        ("http://localhost.example.com", "must begin with https"),
        ("http://169.254.169.254/latest", "link-local"),
        ("https://169.254.169.254/latest", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://0.0.0.0:80", "link-local, metadata"),
        ("https://user:pa55word@a.example/v1", "must not hold a user"),
        ("https://sk-key@a.example/v1", "must not hold a user"),
        ("https://a.example/v1?key=pa55word", 'without "?"'),
        ("https://a.example/v1#pa55word", 'without "?"'),
        ("https://a.example/v1?", 'without "?"'),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(url, said):
    sentence = refused(OPENAI | {"base_url": url})
    assert said in sentence
    assert "pa55word" not in sentence
    assert "sk-key" not in sentence


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",  # another cloud's metadata, among addresses that carriers share
        "0.0.0.0",  # noqa: S104  # an address to be refused
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[fd00:ec2::254]",
        "[fd00:ec2::23]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fec0::1]",
        "[::]",
        "[ff02::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[::ffff:8.8.8.8]",
        "[::ffff:0:127.0.0.1]",
        "[::127.0.0.1]",
        "[2002:7f00:1::]",
        "[2002:a9fe:a9fe::1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b::10.0.0.1]",
        "[64:ff9b:1::7f00:1]",
        "[2001:0:7f00:1::]",
        "[2001:db8::1]",
        "2130706433",
        "2852039166",
        "0x7f000001",
        "0x7f.1",
        "0X7F.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "10.0.0.01",
        "1.2.3.4.5",
        "256.1.1.1",
        "api.example.com.0x7f",
    ],
)
def test_an_address_where_no_provider_can_be_is_refused_in_whatever_form_it_is_written(scheme, host):
    assert "link-local, metadata" in refused(OPENAI | {"base_url": f"{scheme}://{host}/v1"})


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1]", "[64:ff9b::8.8.8.8]", "1.example.com", "a.0x7f.com"])
def test_a_public_address_is_allowed_over_https(host):
    url = f"https://{host}/v1"
    assert parse_provider(OPENAI | {"base_url": url}).base_url == url
    assert not is_near(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.9.9.9",
        "10.0.0.1",
        "172.31.0.1",
        "192.168.1.1",
        "[::1]",
        "[fd12::1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
    ],
)
def test_this_machine_and_its_network_are_known_as_near(host):
    assert is_near(f"https://{host}:8000/v1")
    assert parse_provider(OPENAI | {"base_url": f"http://{host}/v1"})


@pytest.mark.parametrize(
    "secret",
    [
        "secretsmanager:openai",
        "secretsmanager:prod/openai#api_key",
        "secretsmanager:arn:aws:secretsmanager:eu-central-1:123456789012:secret:openai-AbCdEf",
        "ssm:/backhaul/openai",
        "ssm:key#a.b",
    ],
)
def test_a_secret_is_a_reference(secret):
    assert parse_provider(OPENAI | {"secret": secret}).secret == secret


@pytest.mark.parametrize(
    "secret", ["sk-proj-SECRET", "Bearer SECRET", "ssm:", "secretsmanager:", "vault:SECRET", "ssm:a b SECRET", "ssm:a#"]
)
def test_a_key_in_plain_text_is_refused_and_never_repeated(secret):
    sentence = refused(OPENAI | {"secret": secret})
    assert "never the key itself" in sentence
    assert "SECRET" not in sentence


def test_a_key_in_a_field_of_its_own_is_refused_and_never_repeated():
    sentence = refused(OPENAI | {"api_key": "sk-SECRET"})
    assert "'api_key'" in sentence
    assert "SECRET" not in sentence
    assert "secret_header" in sentence


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "anthropic"}, "kind is not valid"),
        ({"model": ""}, "Set model"),
        ({"model": "gpt 4"}, "one word"),
        ({"model": 5}, "model is not valid"),
        ({"region": "eu-central-1"}, "Leave region out"),
        ({"requests_per_minute": 0}, "from 1 to 1,000,000"),
        ({"requests_per_minute": -5}, "from 1 to"),
        ({"requests_per_minute": 10**7}, "from 1 to"),
        ({"requests_per_minute": 1.5}, "requests_per_minute is not valid"),
        ({"requests_per_minute": True}, "requests_per_minute is not valid"),
        ({"requests_per_minute": "many"}, "requests_per_minute is not valid"),
        ({"tokens_per_minute": 0}, "tokens_per_minute must be"),
        ({"context_tokens": 0}, "context_tokens must be"),
        ({"burst": 5}, "burst means nothing without"),
        ({"burst": 0, "requests_per_minute": 60}, "burst must be from 1"),
        ({"burst": 61, "requests_per_minute": 60}, "not be more than requests_per_minute"),
        ({"timeout_seconds": 0}, "timeout_seconds must be from 0.1 to 900"),
        ({"timeout_seconds": 901}, "no function of Backhaul runs for longer"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds must be"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds must be"),
        ({"price_input": -1}, "price_input must be from 0"),
        ({"price_input": "NaN"}, "price_input"),
        ({"price_input": True}, "price_input"),
        ({"price_input": [1]}, "price_input is not valid"),
        ({"price_input": "Infinity"}, "price_input"),
        ({"price_input": "cheap"}, "price_input is not valid"),
        ({"price_output": 100_001}, "price_output must be from 0 to 100,000"),
        ({"price_output": "0.0000000001"}, "9 decimals at most"),
        ({"secret_header": ""}, "secret_header must be"),
        ({"secret_header": "X Key"}, "secret_header must be"),
        ({"secret_header": "X-Key\r\nHost"}, "secret_header must be"),
        ({"secret_header": "Content-Type"}, "cannot be Content-Type"),
        ({"idempotency_header": "Host"}, "cannot be Host"),
        ({"idempotency_header": "a:b"}, "idempotency_header must be"),
        ({"idempotency_header": "authorization"}, "must be two headers"),
        ({"breaker": {"share": 0}}, "breaker.share"),
        ({"breaker": {"share": 1.5}}, "breaker.share"),
        ({"breaker": {"calls": 0}}, "breaker.calls"),
        ({"breaker": {"window_seconds": 0}}, "breaker.window_seconds"),
        ({"breaker": {"cooldown_seconds": 10**5}}, "breaker.cooldown_seconds"),
        ({"breaker": {"shares": 1}}, "shares"),
        ({"breaker": 5}, "breaker is not valid"),
    ],
)
def test_an_absurd_value_is_refused_with_what_to_do(changes, said):
    assert said in refused(OPENAI | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_url": "https://a.example"}, "Leave base_url out"),
        ({"secret": "ssm:key"}, "Leave secret"),
        ({"idempotency_header": "Idempotency-Key"}, "Leave secret and idempotency_header out"),
        ({"region": "Frankfurt"}, "AWS region"),
        ({"model": ""}, "Set model"),
    ],
)
def test_bedrock_needs_a_model_and_takes_no_key(changes, said):
    assert said in refused(BEDROCK | changes)


@pytest.mark.parametrize("region", ["eu-central-1", "us-gov-west-1", "ap-southeast-10"])
def test_bedrock_may_be_asked_in_another_region(region):
    assert parse_provider(BEDROCK | {"region": region}).region == region


@pytest.mark.parametrize("name", ["name", "kind"])
def test_a_field_that_must_be_set_is_named(name):
    assert repr(name) in refused({key: value for key, value in OPENAI.items() if key != name})


def test_a_price_is_kept_exactly():
    assert parse_provider(OPENAI | {"price_input": "0.100000001"}).price_input == Decimal("0.100000001")
    assert parse_provider(json.loads('{"price_input": 0.1}') | OPENAI).price_input == Decimal("0.1")
    assert Provider(name="a", kind="bedrock", model="m", price_input=0.1).price_input == Decimal("0.1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prices", "usage", "nanodollars"),
    [
        (("0.15", "0.60"), Usage(1_000_000, 0), 150_000_000),
        (("0.15", "0.60"), Usage(1000, 500), 150_000 + 300_000),
        (("3", "15"), Usage(1, 1), 18_000),
        (("0.0125", "0"), Usage(1), 13),  # 12.5, rounded up
        (("0.0004", "0.0003"), Usage(1, 1), 1),  # 0.4 and 0.3: rounded once, over the sum
        (("0", "0"), Usage(10**9, 10**9), 0),
    ],
)
def test_a_call_costs_whole_nanodollars(prices, usage, nanodollars):
    provider = parse_provider(OPENAI | {"price_input": prices[0], "price_output": prices[1]})
    assert provider.cost(usage) == nanodollars
