"""Providers in the flow table, and their keys in Secrets Manager and SSM."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from backhaul.model.errors import Transient
from backhaul.providers import (
    Breaker,
    InvalidProvider,
    Provider,
    ProviderConflict,
    SecretUnreadable,
    UnknownProvider,
)
from backhaul.store.codec import to_item
from backhaul.store.providers import ProviderStore
from backhaul.store.secrets import SecretStore

SMALL = Provider(
    name="small",
    kind="openai",
    base_url="https://api.openai.com/v1",
    model="gpt-4o-mini",
    secret="secretsmanager:openai",
    requests_per_minute=500,
    breaker=Breaker(share=0.25),
    price_input=Decimal("0.15"),
    price_output=Decimal("0.6"),
    timeout_seconds=12.5,
)


def changed(provider: Provider, **values: Any) -> Provider:
    return Provider(**({name: getattr(provider, name) for name in provider.__struct_fields__} | values))


@pytest.fixture
def providers(deployment) -> ProviderStore:
    return deployment.store.providers


# --- providers


def test_a_provider_is_stored_as_it_is(deployment, providers):
    version = providers.put(SMALL, version=None, by="arn:aws:iam::1:user/ann")
    stored = providers.find("small")
    assert (stored.provider, stored.version, stored.changed_by) == (SMALL, version, "arn:aws:iam::1:user/ann")
    assert stored.changed_at == deployment.clock.now()
    assert providers.get("small") == SMALL


def test_what_is_not_there_is_named(providers):
    for read in (providers.get, providers.find):
        with pytest.raises(UnknownProvider, match="'large'"):
            read("large")


def test_of_two_operators_the_second_must_look_again(providers):
    first = providers.put(SMALL, version=None, by="ann")
    with pytest.raises(ProviderConflict, match="exists already"):
        providers.put(SMALL, version=None, by="bob")
    second = providers.put(changed(SMALL, requests_per_minute=100), version=first, by="ann")
    assert second != first
    for stale in (first, "0" * 16):
        with pytest.raises(ProviderConflict, match="changed or removed since you read it"):
            providers.put(changed(SMALL, requests_per_minute=999), version=stale, by="bob")
        with pytest.raises(ProviderConflict):
            providers.delete("small", version=stale)
    assert providers.find("small").provider.requests_per_minute == 100


def test_a_provider_that_was_removed_and_set_again_is_another(providers):
    first = providers.put(SMALL, version=None, by="ann")
    providers.delete("small", version=first)
    with pytest.raises(ProviderConflict):
        providers.put(SMALL, version=first, by="bob")
    assert providers.put(SMALL, version=None, by="ann") != first


def test_what_is_gone_can_be_removed_again(providers):
    version = providers.put(SMALL, version=None, by="ann")
    for _ in range(2):
        providers.delete("small", version=version)


def test_of_many_at_once_one_wins(providers):
    def put(n: int) -> bool:
        try:
            providers.put(SMALL, version=None, by=str(n))
        except ProviderConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(put, range(16))) == 1


def test_a_write_whose_answer_was_lost_is_not_taken_for_anothers(deployment, providers, monkeypatch):
    client = providers._client
    put = client.put_item

    def twice(**arguments: Any) -> Any:
        put(**arguments)
        return put(**arguments)  # as botocore does where the first answer does not come

    monkeypatch.setattr(client, "put_item", twice)
    version = providers.put(SMALL, version=None, by="ann")
    assert providers.find("small").version == version
    assert providers.put(SMALL, version=version, by="ann") == providers.find("small").version


def test_a_provider_is_kept_for_half_a_minute(deployment, providers):
    other = ProviderStore(providers._client, "flow", deployment.clock)
    version = other.put(SMALL, version=None, by="ann")
    assert providers.get("small") == SMALL
    other.put(changed(SMALL, model="gpt-4o"), version=version, by="ann")
    deployment.clock.advance(seconds=29)
    assert providers.get("small") == SMALL
    deployment.clock.advance(seconds=1)
    assert providers.get("small").model == "gpt-4o"


def test_ones_own_change_is_seen_at_once(providers):
    version = providers.put(SMALL, version=None, by="ann")
    assert providers.get("small") == SMALL
    version = providers.put(changed(SMALL, model="gpt-4o"), version=version, by="ann")
    assert providers.get("small").model == "gpt-4o"
    providers.delete("small", version=version)
    with pytest.raises(UnknownProvider):
        providers.get("small")


def test_all_are_listed_by_name_and_nothing_else_of_the_table(deployment, providers):
    deployment.submit("text-stats", b"one line\n")
    deployment.store.slots.pause(None, "because", "ann")
    assert providers.list() == []
    for name in ("zeta", "alpha", "mid"):
        providers.put(changed(SMALL, name=name), version=None, by="ann")
    assert [each.provider.name for each in providers.list()] == ["alpha", "mid", "zeta"]


def test_what_this_version_does_not_understand_is_not_used(deployment, providers):
    for document in ('{"name": "small", "kind": "quantum"}', '{"name": "small", "shape": 1}', "{", '{"name": "A"}'):
        providers._client.put_item(
            TableName="flow",
            Item=to_item(
                {"pk": "PROVIDER#small", "sk": "PROVIDER", "provider": document, "version": "1"}
                | {"changed_at": "2026-11-22T12:00:00Z", "changed_by": "ann"}
            ),
        )
        with pytest.raises(InvalidProvider, match="'small' was stored by another version"):
            providers.find("small")


# --- keys


@pytest.fixture
def keys(deployment) -> SecretStore:
    return deployment.store.secrets


def put_secret(value: str, name: str = "openai") -> None:
    boto3.client("secretsmanager").create_secret(Name=name, SecretString=value)


def test_a_key_is_read_from_where_it_is_kept(deployment, keys):
    put_secret("sk-1")
    put_secret(json.dumps({"openai": "sk-2", "number": 5}), "prod/keys")
    boto3.client("ssm").put_parameter(Name="/keys/openai", Value="sk-3\n", Type="SecureString")
    boto3.client("ssm").put_parameter(Name="json", Value='{"a.b": "sk-4"}', Type="SecureString")
    references = ("secretsmanager:openai", "secretsmanager:prod/keys#openai", "ssm:/keys/openai", "ssm:json#a.b")
    assert [keys.read(each) for each in references] == ["sk-1", "sk-2", "sk-3", "sk-4"]


def test_a_key_is_read_by_its_arn(deployment, keys):
    arn = boto3.client("secretsmanager").create_secret(Name="openai", SecretString="sk-1")["ARN"]
    assert keys.read(f"secretsmanager:{arn}") == "sk-1"


@pytest.mark.parametrize(
    ("stored", "reference", "said"),
    [
        (None, "secretsmanager:openai", "does not exist"),
        (None, "ssm:/keys/openai", "does not exist"),
        (None, "vault:x", "must be secretsmanager"),
        ("sk-SECRET", "secretsmanager:openai#key", "not JSON"),
        ('{"other": "sk-SECRET"}', "secretsmanager:openai#key", "no text under that key"),
        ('{"key": 5}', "secretsmanager:openai#key", "no text under that key"),
        ('["sk-SECRET"]', "secretsmanager:openai#key", "no text under that key"),
        ('{"key": "sk-SECRET"}', "secretsmanager:openai", "Name the key"),
        (" \n", "secretsmanager:openai", "is empty"),
        ("sk-\nSECRET", "secretsmanager:openai", "characters that a key cannot have"),
        ("schlüssel-SECRET", "secretsmanager:openai", "characters that a key cannot have"),
    ],
)
def test_a_key_that_cannot_be_used_is_named_and_never_shown(deployment, keys, stored, reference, said):
    if stored is not None:
        put_secret(stored)
    with pytest.raises(SecretUnreadable, match=said) as error:
        keys.read(reference)
    assert "SECRET" not in str(error.value)
    assert stored is None or reference in str(error.value)
    assert error.value.__cause__ is None


def test_a_binary_secret_is_no_key(deployment, keys):
    boto3.client("secretsmanager").create_secret(Name="openai", SecretBinary=b"sk")
    with pytest.raises(SecretUnreadable, match="binary"):
        keys.read("secretsmanager:openai")


class Failing:
    """A client of Secrets Manager whose calls fail, or answer slowly."""

    def __init__(self, *answers: Exception | str) -> None:
        self.answers = list(answers)
        self.calls = 0

    def get_secret_value(self, SecretId: str) -> dict[str, str]:  # noqa: N803  # boto3's own name
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"SecretString": answer}


def refusal(code: str, status: int = 400) -> ClientError:
    response = {"Error": {"Code": code, "Message": "SECRET"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetSecretValue")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refusal("AccessDeniedException"), "may not be read by this role"),
        (refusal("DecryptionFailure"), "may not be read by this role"),
        (refusal("InvalidRequestException"), "marked for deletion"),
        (refusal("SomethingNew"), "see whether it exists"),
    ],
)
def test_a_refusal_says_what_to_do(deployment, error, said):
    with pytest.raises(SecretUnreadable, match=said) as raised:
        SecretStore(lambda _: Failing(error), deployment.clock).read("secretsmanager:openai")
    assert "secretsmanager:openai" in str(raised.value)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [refusal("ThrottlingException"), refusal("InternalServiceError", 500), ReadTimeoutError(endpoint_url="https://x")],
)
def test_a_store_of_keys_that_does_not_answer_may_do_so_later(deployment, error):
    client = Failing(error, "sk-1")
    keys = SecretStore(lambda _: client, deployment.clock)
    with pytest.raises(Transient, match="for now"):
        keys.read("secretsmanager:openai")
    assert keys.read("secretsmanager:openai") == "sk-1"


def test_a_key_is_kept_for_five_minutes(deployment):
    client = Failing("sk-1", "sk-2", "sk-3")
    keys = SecretStore(lambda _: client, deployment.clock)
    assert keys.read("secretsmanager:openai") == "sk-1"
    deployment.clock.advance(seconds=299)
    assert keys.read("secretsmanager:openai") == "sk-1"
    deployment.clock.advance(seconds=1)
    assert keys.read("secretsmanager:openai") == "sk-2"


def test_a_key_is_used_for_longer_while_nobody_tells_another_and_nobody_asks_all_the_time(deployment):
    busy = refusal("ThrottlingException")
    client = Failing("sk-1", busy, busy, "sk-2")
    keys = SecretStore(lambda _: client, deployment.clock)
    assert keys.read("secretsmanager:openai") == "sk-1"
    deployment.clock.advance(seconds=300)
    assert [keys.read("secretsmanager:openai") for _ in range(3)] == ["sk-1"] * 3
    assert client.calls == 2
    deployment.clock.advance(seconds=10)
    assert keys.read("secretsmanager:openai") == "sk-1"
    deployment.clock.advance(seconds=10)
    assert keys.read("secretsmanager:openai") == "sk-2"


def test_a_key_that_was_denied_is_not_told_to_be_the_same_by_a_store_that_does_not_answer(deployment):
    client = Failing("sk-1", refusal("ThrottlingException"), "sk-2")
    keys = SecretStore(lambda _: client, deployment.clock)
    assert keys.read("secretsmanager:openai") == "sk-1"
    deployment.clock.advance(seconds=10)
    with pytest.raises(Transient):
        keys.read_anew("secretsmanager:openai", "sk-1")
    assert keys.read_anew("secretsmanager:openai", "sk-1") == "sk-2"


def test_a_key_that_is_withdrawn_is_not_used_for_longer(deployment):
    client = Failing("sk-1", refusal("AccessDeniedException"))
    keys = SecretStore(lambda _: client, deployment.clock)
    assert keys.read("secretsmanager:openai") == "sk-1"
    deployment.clock.advance(seconds=300)
    with pytest.raises(SecretUnreadable):
        keys.read("secretsmanager:openai")


def test_a_key_that_was_denied_is_read_anew_but_not_all_the_time(deployment):
    client = Failing("sk-1", "sk-2", "sk-3")
    keys = SecretStore(lambda _: client, deployment.clock)
    assert keys.read("secretsmanager:openai") == "sk-1"
    assert keys.read_anew("secretsmanager:openai", "sk-1") == "sk-1"  # it has only just been read
    deployment.clock.advance(seconds=10)
    assert keys.read_anew("secretsmanager:openai", "sk-1") == "sk-2"
    assert keys.read_anew("secretsmanager:openai", "sk-1") == "sk-2"  # another thread was denied as well
    assert client.calls == 2


def test_many_threads_that_need_a_key_ask_once(deployment):
    client = Failing("sk-1")
    keys = SecretStore(lambda _: client, deployment.clock)
    together = threading.Barrier(8)

    def read(_: int) -> str:
        together.wait()
        return keys.read("secretsmanager:openai")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(8))) == {"sk-1"}
    assert client.calls == 1
