"""Calls of providers in a trial: settings from a file, keys from the environment, and what it cost."""

import io
import json

import pytest

from backhaul.cli.app import run
from backhaul.cli.exits import Exit
from backhaul.model.errors import InvalidProcessor
from backhaul.plugin.registry import find_processors
from backhaul.providers import Answer, InvalidProvider, SecretUnreadable, Usage
from backhaul.trial import calls as trial_calls
from backhaul.trial.calls import TrialCalls, read_providers
from backhaul.trial.trial import trial
from tests.sources import MemorySource

ACME = {
    "name": "acme",
    "kind": "openai",
    "base_url": "https://api.acme.example/v1",
    "model": "m",
    "price_input": 1000,
    "price_output": "2000",
}
OPTIONS = {"provider": "acme", "prompt": "{{record}}", "format": "lines"}


@pytest.fixture
def written(tmp_path):
    def write(given):
        path = tmp_path / "provider.json"
        path.write_text(given if isinstance(given, str) else json.dumps(given))
        return path

    return write


class Adapter:
    """Writes in capitals, and knows with which settings it was opened."""

    max_texts = 0

    def __init__(self, provider, secrets, models):
        self.provider = provider
        self.secrets = secrets

    def call(self, request, *, key=None, timeout=None):
        if self.provider.secret:
            assert self.secrets.read(self.provider.secret) == "key-of-acme"
        return Answer(request.messages[0].content.upper(), Usage(10, 5))


@pytest.fixture
def opened(monkeypatch):
    made = []

    def open_provider(provider, *, secrets, models, is_local):
        assert is_local
        made.append(Adapter(provider, secrets, models))
        return made[-1]

    monkeypatch.setattr(trial_calls, "open_provider", open_provider)
    return made


def tried(providers, **options):
    output, calls = io.BytesIO(), TrialCalls(providers)
    create = find_processors().create
    trial(lambda: create("prompt", OPTIONS | options), MemorySource(b"one\ntwo\n"), output, journal=calls)
    return [json.loads(line)["output"] for line in output.getvalue().splitlines()], calls


def test_a_trial_asks_the_providers_of_a_file_and_adds_up_what_it_cost(written, opened):
    outputs, calls = tried(read_providers(written(ACME)))
    assert outputs == ["ONE", "TWO"]
    assert (calls.calls, calls.cost, len(opened)) == (2, 2 * (10 * 10**6 + 5 * 2 * 10**6), 1)


def test_a_key_comes_from_the_environment(written, opened, monkeypatch):
    providers = read_providers(written([ACME | {"secret": "env:ACME_KEY"}, ACME | {"name": "other"}]))
    assert sorted(providers) == ["acme", "other"]
    monkeypatch.setenv("ACME_KEY", "key-of-acme")
    assert tried(providers)[0] == ["ONE", "TWO"]
    monkeypatch.delenv("ACME_KEY")
    with pytest.raises(SecretUnreadable, match="ACME_KEY is not set"):
        tried(providers)


@pytest.mark.parametrize("key", ["sk-one\nSECRET", "sk-\x1b[2JSECRET", "schlüssel-SECRET"])
def test_a_key_that_no_header_takes_is_refused_by_the_name_of_its_variable(written, monkeypatch, tmp_path, capfd, key):
    (tmp_path / "notes.txt").write_bytes(b"one\n")
    monkeypatch.setenv("ACME_KEY", key)
    provider = str(written(ACME | {"secret": "env:ACME_KEY"}))
    words = ["-o", "provider=acme", "-o", "prompt={{record}}", "-o", "format=lines"]
    assert run(["try", "prompt", str(tmp_path / "notes.txt"), *words, "--provider", provider]) == Exit.UNREACHABLE
    said = "".join(capfd.readouterr())
    assert "The value of the environment variable ACME_KEY is empty, or has characters that a key cannot have" in said
    assert "SECRET" not in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (ACME | {"secret": "sk-12345"}, "env: and the name of the environment variable"),
        (ACME | {"secret": "ssm:/prod/key"}, "env: and the name of the environment variable"),
        (ACME | {"modle": "m"}, "no field 'modle'"),
        ({"name": "b", "kind": "bedrock", "model": "m"}, "cannot call a provider of kind bedrock"),
        ("{", "is not the JSON of a provider"),
        ("[1]", "is not the JSON of a provider"),
    ],
)
def test_a_file_that_cannot_be_used_says_why_and_never_repeats_a_key(written, given, said):
    with pytest.raises(InvalidProvider, match=said) as raised:
        read_providers(written(given))
    assert "sk-12345" not in str(raised.value)


def test_a_provider_that_was_not_given_is_named(written, opened):
    with pytest.raises(InvalidProcessor, match=r"No provider 'else' was given for this trial\. It has only acme"):
        tried(read_providers(written(ACME)), provider="else")


def test_the_command_says_what_the_calls_cost(written, opened, tmp_path, capfdbinary):
    (tmp_path / "notes.txt").write_bytes(b"one\ntwo\n")
    words = ["-o", "provider=acme", "-o", "prompt={{record}}", "-o", "format=lines"]
    command = ["try", "prompt", str(tmp_path / "notes.txt"), *words]
    assert run([*command, "--provider", str(written(ACME))]) == 0
    said = capfdbinary.readouterr()
    assert [json.loads(line)["output"] for line in said.out.splitlines()] == ["ONE", "TWO"]
    assert b"1 chunks, 2 records, 2 calls for $0.040." in said.err
    assert run(command) == Exit.FAILED
    assert b"Give one with `backhaul try --provider FILE`" in capfdbinary.readouterr().err
