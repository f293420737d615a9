"""What an operator writes of a provider on a command line, and what is made of it before anything is asked."""

from decimal import Decimal

import pytest
import typer

from backhaul.cli.app import run
from backhaul.cli.exits import Exit, exit_of
from backhaul.cli.providers import parse_fields
from backhaul.operations.provider_fields import (
    FIELDS,
    changed,
    check_name,
    default_of,
    meaning_of,
    text_of,
    values_of,
)
from backhaul.providers import InvalidProvider, ProviderConflict, SecretUnreadable, UnknownProvider, parse_provider

OPENAI = {"name": "small", "kind": "openai", "base_url": "https://api.openai.com/v1", "model": "gpt-4o-mini"}
EVERYTHING = OPENAI | {
    "secret": "ssm:/keys/openai#a=b",
    "secret_header": "api-key",
    "requests_per_minute": 6000,
    "tokens_per_minute": 2_000_000,
    "burst": 5,
    "breaker": {"enabled": False, "share": 0.123456789, "calls": 3, "window_seconds": 12.5, "cooldown_seconds": 3600},
    "price_input": "0.100000001",
    "price_output": "1E+2",
    "idempotency_header": "Idempotency-Key",
    "timeout_seconds": 899.99,
    "context_tokens": 128_000,
}


@pytest.fixture(autouse=True)
def _nobody_is_asked(monkeypatch):
    def operate(_):
        raise AssertionError("the deployment was asked")

    for module in ("providers", "breakers"):
        monkeypatch.setattr(f"backhaul.cli.{module}.operate", operate)


@pytest.mark.parametrize("values", [OPENAI, EVERYTHING, {"name": "c", "kind": "bedrock", "model": "m"}])
def test_what_is_shown_of_each_field_sets_it(values):
    provider = parse_provider(values)
    texts = {field: text_of(value) for field, value in values_of(provider).items()}
    assert parse_provider(changed({"name": provider.name}, texts)) == provider


def test_every_field_can_be_set_and_has_a_default_or_must_be():
    provider = parse_provider(EVERYTHING)
    assert list(values_of(provider)) == list(FIELDS)
    assert "breaker.share" in FIELDS
    assert not {"name", "breaker"} & set(FIELDS)
    assert {field for field in FIELDS if text_of(default_of(field))} == {
        "secret_header", "breaker.enabled", "breaker.share", "breaker.calls", "breaker.window_seconds",
        "breaker.cooldown_seconds", "price_input", "price_output", "timeout_seconds",
    }  # fmt: skip


def test_the_help_says_of_every_field_what_it_is_and_its_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["providers", "set", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    table = lines[next(number for number, line in enumerate(lines) if line.strip() == "Field") + 2 :]
    assert [line.split()[0] for line in table if line.strip() and line[2] != " "] == list(FIELDS)
    said = " ".join(" ".join(table).split())
    for field in FIELDS:
        meaning, default = meaning_of(field), text_of(default_of(field))
        assert len(meaning) > 10
        expected = f"{field} {meaning}{f' (default: {default})' if default else ''}".replace("`", "")
        assert expected in said


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), ("", ""), (True, "true"), (500, "500"), (60.0, "60"), (0.1, "0.1"), (Decimal("1E+2"), "100")],
)
def test_a_value_is_written_as_one_types_it(value, text):
    assert text_of(value) == text


def test_a_value_may_hold_what_separates_it_from_its_field():
    assert parse_fields(["secret=ssm:a=b#c=d", "burst="]) == {"secret": "ssm:a=b#c=d", "burst": ""}


@pytest.mark.parametrize("pairs", [["model"], ["=x"], [""], ["model=a", "model=a"]])
def test_what_is_no_field_and_value_is_refused(pairs):
    with pytest.raises(typer.BadParameter):
        parse_fields(pairs)


@pytest.mark.parametrize("name", ["", "Small", "a b", "a/b", "a" * 64, "sk-0123456789abcdef0123456789abcdef", "ä"])
def test_a_name_that_no_provider_can_have_is_refused_and_not_repeated(name):
    with pytest.raises(InvalidProvider, match="lower-case") as error:
        check_name(name)
    assert not name or name not in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        ["providers", "set", "small"],
        ["providers", "set", "small", "model"],
        ["providers", "set", "small", "model=a", "--file", "x"],
        ["providers", "remove", "small"],
        ["breakers", "open", "small"],
        ["breakers", "close", "small", "--reason", "\t"],
    ],
)
def test_a_wrong_command_line_asks_nobody(words, capsys):
    assert run(words) == Exit.USAGE
    assert capsys.readouterr().err.startswith("Error: ")


def test_a_wrong_field_asks_nobody(capsys):
    assert run(["providers", "set", "small", "colour=red"]) == Exit.REFUSED
    assert "'colour'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["providers"],
        *(["providers", command] for command in ("list", "show", "set", "remove")),
        ["breakers"],
        *(["breakers", command] for command in ("list", "open", "close")),
    ],
)
def test_every_command_has_help(words, capsys):
    assert run([*words, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_what_an_operator_got_wrong_is_a_refusal_and_a_key_that_cannot_be_read_is_not():
    for error in (InvalidProvider("x"), ProviderConflict("x"), UnknownProvider("x")):
        assert exit_of(error) is Exit.REFUSED
    assert exit_of(SecretUnreadable("x")) is Exit.UNREACHABLE
