"""`backhaul providers`: what an operator sees, changes and is refused, over a real flow table."""

import io
import json
import re
from types import SimpleNamespace

import pytest

from backhaul.cli.app import run
from backhaul.cli.exits import Exit
from backhaul.operations.connection import LOCAL_CLOUD, Operations, Outputs
from backhaul.operations.providers import as_document, change, listing, look, remove, replace
from backhaul.providers import InvalidProvider, ProviderConflict, UnknownProvider, parse_provider
from backhaul.store.codec import to_item
from tests.stages.test_breaker_store import lose_answers
from tests.stages.test_dispatch import in_threads

WHO = "arn:aws:iam::123456789012:user/operator"
SET_UP = {
    "kind": "openai",
    "base_url": "https://api.openai.com/v1",
    "model": "gpt-4o-mini",
    "secret": "secretsmanager:prod/openai",
    "requests_per_minute": "500",
    "tokens_per_minute": "200000",
    "price_input": "0.15",
    "price_output": "0.60",
}
WORDS = [f"{name}={text}" for name, text in SET_UP.items()]
KEYS = [
    "sk-proj-Zm9vYmFyYmF6cXV4MTIzNDU2",
    "sk-ant-api03-Zm9vYmFyYmF6cXV4_MTIzNDU2-AA",
    "sk-0123456789abcdef0123456789abcdef",
    "gsk_Zm9vYmFyYmF6cXV4MTIzNDU2",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA-0123456789abcdefghijklmnopqrstu",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.x",
]


@pytest.fixture
def operations(deployment, monkeypatch):
    made = Operations(Outputs("The stack", {}), deployment.settings, deployment.store, deployment.clock, WHO)
    monkeypatch.setattr("backhaul.cli.providers.operate", lambda _: made)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("BACKHAUL_STACK", raising=False)
    return made


@pytest.fixture
def small(operations):
    """A provider that is set up."""
    change(operations, "small", SET_UP, "a new project")
    operations.clock.advance(seconds=1)
    return operations


def acts(operations):
    records = operations.store.audit.newest()
    return [(record.action, record.who, record.why, record.what["provider"], record.outcome) for record in records]


def document(capsys):
    return json.loads(capsys.readouterr().out)


def give(monkeypatch, text):
    monkeypatch.setattr(
        "sys.stdin", SimpleNamespace(buffer=io.BytesIO(text if isinstance(text, bytes) else text.encode()))
    )


# --- setting


def test_a_new_provider_is_what_was_said_of_it_and_the_rest_has_defaults(operations):
    done = change(operations, "small", SET_UP | {"breaker.share": "0.3", "timeout_seconds": "12.5"}, "a new project")
    assert done.is_new
    stored = operations.store.providers.find("small")
    expected = SET_UP | {"name": "small", "breaker": {"share": 0.3}, "timeout_seconds": 12.5}
    assert (stored.provider, stored.version) == (parse_provider(expected), done.version)
    assert stored.changed_by == WHO
    assert {each.field for each in done.changes} == SET_UP.keys() | {"breaker.share", "timeout_seconds"}
    assert acts(operations) == [("providers set", WHO, "a new project", "small", "made")]


def test_only_what_is_named_changes_and_what_is_empty_goes_back_to_its_default(small):
    change(small, "small", {"breaker.share": "0.25", "breaker.calls": "5", "timeout_seconds": "30"}, "")
    small.clock.advance(seconds=1)
    done = change(small, "small", {"requests_per_minute": "100", "breaker.share": "", "timeout_seconds": ""}, "slower")
    changes = [(each.field, each.before, each.after) for each in done.changes]
    assert changes == [("requests_per_minute", 500, 100), ("breaker.share", 0.25, 0.5), ("timeout_seconds", 30, 60)]
    provider = small.store.providers.find("small").provider
    assert (provider.model, provider.tokens_per_minute, provider.breaker.calls) == ("gpt-4o-mini", 200_000, 5)
    (newest, *_) = small.store.audit.newest()
    assert newest.what["changes"][0] == {"field": "requests_per_minute", "before": "500", "after": "100"}
    assert newest.outcome == "changed"


def test_setting_what_is_so_already_changes_nothing_and_leaves_no_trace(small):
    before = small.store.providers.find("small")
    for again in (SET_UP, {"price_output": "0.6"}, {"breaker.share": "0.5"}, {"region": ""}):
        done = change(small, "small", again, "once more")
        assert (done.changes, done.version, done.is_new) == ((), before.version, False)
    assert small.store.providers.find("small") == before
    assert len(acts(small)) == 1


def test_a_provider_that_is_not_there_is_made_only_if_its_kind_is_named(operations):
    with pytest.raises(InvalidProvider, match=r"no provider 'smal'.*name its kind"):
        change(operations, "smal", {"requests_per_minute": "100"}, "")
    with pytest.raises(InvalidProvider, match="Set model"):
        change(operations, "smal", {"kind": "bedrock"}, "")
    assert listing(operations).providers == ()
    assert acts(operations) == []


def test_of_two_operators_at_once_the_slower_one_is_told_and_nobodys_change_is_lost(small, monkeypatch):
    store = small.store.providers
    find = store.find

    def find_and_be_overtaken(name):
        found = find(name)
        monkeypatch.setattr(store, "find", find)
        change(small, "small", {"model": "gpt-4o"}, "the other one")
        small.clock.advance(seconds=1)
        return found

    monkeypatch.setattr(store, "find", find_and_be_overtaken)
    with pytest.raises(ProviderConflict, match="Look at it again"):
        change(small, "small", {"requests_per_minute": "100"}, "too slow")
    assert [(act[2], act[4]) for act in acts(small)[:2]] == [("too slow", "conflict"), ("the other one", "changed")]
    change(small, "small", {"requests_per_minute": "100"}, "again")
    provider = store.find("small").provider
    assert (provider.model, provider.requests_per_minute) == ("gpt-4o", 100)


def test_of_many_who_set_up_the_same_provider_one_does(operations):
    def set_up():
        try:
            return change(operations, "small", SET_UP, "").is_new
        except ProviderConflict:
            return None

    made = in_threads(6, set_up)
    assert made.count(True) == 1
    outcomes = [act[4] for act in acts(operations)]  # who came later found it set up, and changed nothing
    assert (outcomes.count("made"), outcomes.count("conflict")) == (1, made.count(None))


def test_a_write_whose_answer_was_lost_is_recognised(small, monkeypatch):
    lose_answers(small.store.providers._client, monkeypatch, 2)  # that of the audit record too
    done = change(small, "small", {"model": "gpt-4o"}, "why")
    assert small.store.providers.find("small").version == done.version
    assert [act[4] for act in acts(small)].count("changed") == 1


def test_a_command_that_is_repeated_after_it_was_killed_changes_nothing_more(small, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(small.store.audit, "close", killed)
        with pytest.raises(KeyboardInterrupt):
            change(small, "small", {"model": "gpt-4o"}, "why")
    version = small.store.providers.find("small").version
    assert change(small, "small", {"model": "gpt-4o"}, "why").version == version
    assert acts(small)[0][4] == "begun"


# --- a whole provider


def test_what_show_writes_set_takes(small):
    written = json.loads(json.dumps(as_document(look(small, "small").stored), default=str))
    assert replace(small, "small", written, "").changes == ()
    remove(small, "small", "by mistake")
    del written["version"]
    assert replace(small, "small", written, "back again").is_new
    assert look(small, "small").stored.provider == parse_provider(SET_UP | {"name": "small"})


def test_a_document_replaces_everything(small):
    change(small, "small", {"breaker.share": "0.25", "timeout_seconds": "30"}, "")
    done = replace(small, "small", SET_UP | {"price_input": 0.2}, "")
    fields = {each.field: (each.before, each.after) for each in done.changes}
    assert fields.keys() == {"breaker.share", "timeout_seconds", "price_input"}
    assert str(small.store.providers.find("small").provider.price_input) == "0.2"


def test_a_document_of_an_earlier_version_is_refused_unless_it_says_what_is_so(small):
    written = as_document(look(small, "small").stored)
    change(small, "small", {"requests_per_minute": "100"}, "the other one")
    with pytest.raises(ProviderConflict, match="without its version"):
        replace(small, "small", written | {"model": "gpt-4o"}, "")
    provider = small.store.providers.find("small").provider
    assert (provider.model, provider.requests_per_minute) == ("gpt-4o-mini", 100)
    replaced = replace(small, "small", written | {"version": look(small, "small").stored.version}, "")
    assert replace(small, "small", written, "sent twice").version == replaced.version
    remove(small, "small", "gone")
    with pytest.raises(ProviderConflict, match="changed or removed"):
        replace(small, "small", written, "")


def test_what_another_version_of_backhaul_stored_is_listed_replaced_and_removed(small, capsys):
    def store_alien():
        values = {"pk": "PROVIDER#alien", "sk": "PROVIDER", "provider": '{"name": "alien", "shape": 1}'}
        values |= {"version": "1", "changed_at": "2026-11-22T12:00:00Z", "changed_by": "ann"}
        small.store.providers._client.put_item(TableName="flow", Item=to_item(values))

    store_alien()
    found = listing(small)
    assert [each.stored.provider.name for each in found.providers] == ["small"]
    assert "'alien' was stored by another version" in str(*found.unreadable)
    assert run(["providers", "list"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert "'alien'" in said.err
    with pytest.raises(InvalidProvider, match="--file"):
        change(small, "alien", {"kind": "openai"}, "")
    assert not replace(small, "alien", SET_UP, "").is_new
    assert look(small, "alien").stored.provider.model == "gpt-4o-mini"
    store_alien()
    small.clock.advance(seconds=1)
    remove(small, "alien", "unknown")
    assert next(small.store.audit.newest()).what["was"] == '{"name": "alien", "shape": 1}'


# --- removing


def test_a_removed_provider_is_gone_and_the_trail_keeps_what_it_was(small):
    remove(small, "small", "replaced")
    with pytest.raises(UnknownProvider):
        look(small, "small")
    record = next(small.store.audit.newest())
    assert (record.action, record.why, record.outcome) == ("providers remove", "replaced", "removed")
    assert parse_provider(json.loads(record.what["was"])) == parse_provider(SET_UP | {"name": "small"})
    with pytest.raises(UnknownProvider):
        remove(small, "small", "again")
    assert len(acts(small)) == 2


def test_a_provider_that_is_changed_while_it_is_removed_stays(small, monkeypatch):
    store = small.store.providers
    raw = store.raw

    def raw_and_be_overtaken(name):
        found = raw(name)
        change(small, name, {"model": "gpt-4o"}, "the other one")
        return found

    monkeypatch.setattr(store, "raw", raw_and_be_overtaken)
    with pytest.raises(ProviderConflict):
        remove(small, "small", "too slow")
    assert look(small, "small").stored.provider.model == "gpt-4o"
    assert ("too slow", "conflict") in [(act[2], act[4]) for act in acts(small)]


def test_a_removal_whose_answer_was_lost_is_one(small, monkeypatch):
    lose_answers(small.store.providers._client, monkeypatch, 2)
    remove(small, "small", "why")
    assert listing(small).providers == ()
    assert acts(small)[0][4] == "removed"


# --- the command line


def test_the_commands_say_what_they_did(operations, capsys):
    assert run(["providers", "list"]) == 0
    assert capsys.readouterr() == ("", "There are no providers. Set one up: backhaul providers set --help\n")
    assert run(["providers", "set", "small", *WORDS, "--reason", "a new project"]) == 0
    said = capsys.readouterr()
    assert said.err == "The provider small is set up.\n"
    head, *lines = said.out.splitlines()
    assert head.split() == ["FIELD", "VALUE"]
    assert [line.split() for line in lines] == [word.split("=", 1) for word in WORDS]
    operations.clock.advance(seconds=1)
    assert run(["providers", "set", "small", "requests_per_minute=100", "tokens_per_minute="]) == 0
    said = capsys.readouterr()
    assert said.err == "The provider small is changed. Workers use the change within 30 seconds.\n"
    assert [line.split() for line in said.out.splitlines()] == [
        ["FIELD", "BEFORE", "AFTER"],
        ["requests_per_minute", "500", "100"],
        ["tokens_per_minute", "200000", "-"],
    ]
    assert run(["providers", "set", "small", "requests_per_minute=100"]) == 0
    assert capsys.readouterr() == ("", "The provider small has these values already; nothing was changed.\n")
    operations.clock.advance(seconds=1)
    assert run(["providers", "remove", "small", "--reason", "over"]) == 0
    assert "The provider small is removed." in capsys.readouterr().err
    assert [act[2] for act in acts(operations)] == ["over", "", "a new project"]


def test_a_list_has_a_line_for_each_provider(small, capsys):
    change(small, "claude", {"kind": "bedrock", "model": "[b]m[/b]", "breaker.enabled": "false"}, "")
    assert run(["providers", "list"]) == 0
    head, claude, line = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["NAME", "KIND", "MODEL", "REQUESTS/MIN", "TOKENS/MIN"]
    assert claude.split() == ["claude", "bedrock", "[b]m[/b]", "-", "-", "0", "0", "off"]
    assert line.split() == ["small", "openai", "gpt-4o-mini", "500", "200,000", "0.15", "0.60", "closed"]
    assert run(["providers", "list", "--json"]) == 0
    found = document(capsys)
    assert [each["provider"]["name"] for each in found["providers"]] == ["claude", "small"]
    assert found["unreadable"] == []
    assert found["providers"][1]["provider"]["price_output"] == "0.60"
    assert (found["providers"][1]["breaker"]["state"], found["providers"][1]["changed_by"]) == ("closed", WHO)


def test_a_list_in_a_narrow_terminal_cuts_nothing(small, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(["providers", "list"]) == 0
    assert re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines() == [
        "small  openai  closed",
        "  gpt-4o-mini, 500 requests/min, 200,000 tokens/min, $0.15/M in, $0.60/M out",
    ]


def test_a_provider_is_shown_with_what_it_is_by_default_and_where_its_key_is(small, capsys):
    assert run(["providers", "show", "small"]) == 0
    *table, changed, breaker = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in table}
    assert rows["secret"] == ["secretsmanager:prod/openai"]
    assert rows["timeout_seconds"] == ["60", "default"]
    assert rows["breaker.share"] == ["0.5", "default"]
    assert rows["context_tokens"] == ["-"]
    assert rows["requests_per_minute"] == ["500"]
    assert changed == f"changed 1 s ago by {WHO}"
    assert breaker == "breaker closed"


def test_what_show_writes_as_json_goes_back_in_by_file_or_stdin(small, capsys, tmp_path, monkeypatch):
    assert run(["providers", "show", "small", "--json"]) == 0
    written = capsys.readouterr().out
    file = tmp_path / "small.json"
    file.write_text(written)
    assert run(["providers", "set", "small", "--file", str(file), "--json"]) == 0
    assert document(capsys)["changes"] == []
    give(monkeypatch, written.replace("gpt-4o-mini", "gpt-4o"))
    assert run(["providers", "set", "small", "--file", "-", "--reason", "larger", "--json"]) == 0
    said = document(capsys)
    assert said["changes"] == [{"field": "model", "before": "gpt-4o-mini", "after": "gpt-4o"}]
    assert (said["provider"], said["is_new"]) == ("small", False)
    give(monkeypatch, written)
    assert run(["providers", "set", "small", "--file", "-"]) == Exit.REFUSED
    assert "backhaul providers show" in capsys.readouterr().err
    give(monkeypatch, written)
    assert run(["providers", "set", "other", "--file", "-"]) == Exit.REFUSED
    assert "another name than 'other'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", b"\xff", "[1]", '"sk-secret"', "[" * 100_000, '{"kind": "openai", "kind"}'])
def test_a_file_that_holds_no_provider_is_refused_and_not_repeated(small, capsys, monkeypatch, text):
    give(monkeypatch, text)
    assert run(["providers", "set", "small", "--file", "-"]) == Exit.REFUSED
    said = capsys.readouterr().err
    assert said.startswith("Error: Standard input")
    assert "sk-secret" not in said


def test_a_file_that_is_not_there_is_named(small, capsys, tmp_path):
    assert run(["providers", "set", "small", "--file", str(tmp_path / "none.json")]) == Exit.UNWRITTEN
    assert "none.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["apikey=x"], "no field 'apikey'"),
        (["breaker.shares=1"], "no field 'breaker.shares'"),
        (["breaker=1"], "breaker.share"),
        (["name=other"], "keeps its name"),
        (["kind=quantum"], "openai, bedrock or http"),
        (["kind="], "field 'kind'"),
        (["requests_per_minute=many"], "requests_per_minute is not valid"),
        (["requests_per_minute=0"], "from 1 to 1,000,000"),
        (["breaker.share=2"], "breaker.share must be"),
        (["breaker.enabled=perhaps"], "breaker.enabled is not valid"),
        (["price_input=-1"], "price_input"),
        (["base_url=ftp://x"], "base_url must be"),
        (["timeout_seconds=nan"], "timeout_seconds must be"),
        (["model=two words"], "one word"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_do(small, capsys, words, said):
    before = small.store.providers.find("small")
    assert run(["providers", "set", "small", *words]) == Exit.REFUSED
    assert said in capsys.readouterr().err
    assert small.store.providers.find("small") == before
    assert len(acts(small)) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8123",
        "https://localhost/v1",
        "https://10.1.2.3",
        "http://[::1]",
        "https://[fd12::1]/v1",
        "https://2130706433",
        "https://0x7f.1",
        "https://[::ffff:127.0.0.1]",
        "https://169.254.169.254/latest",
    ],
)
def test_a_deployment_on_aws_takes_no_provider_on_a_machine_of_its_own(small, capsys, url):
    before = small.store.providers.find("small")
    assert run(["providers", "set", "small", f"base_url={url}"]) == Exit.REFUSED
    assert "base_url must not be" in capsys.readouterr().err
    assert small.store.providers.find("small") == before


def test_a_file_may_name_no_such_provider_either(small, capsys, tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SET_UP | {"base_url": "http://127.0.0.1:8123"}))
    assert run(["providers", "set", "small", "--file", str(path)]) == Exit.REFUSED
    assert "base_url must not be a loopback or private address" in capsys.readouterr().err


def test_the_local_cloud_takes_a_provider_on_this_machine(deployment, monkeypatch):
    local = Operations(Outputs(LOCAL_CLOUD, {}), deployment.settings, deployment.store, deployment.clock, WHO)
    monkeypatch.setattr("backhaul.cli.providers.operate", lambda _: local)
    words = ["kind=openai", "model=m", "base_url=http://127.0.0.1:8123"]
    assert run(["providers", "set", "near", *words]) == 0
    assert local.store.providers.find("near").provider.base_url == "http://127.0.0.1:8123"


@pytest.mark.parametrize("command", [["show"], ["remove", "--reason", "x"], ["set", "model=m"]])
def test_a_provider_that_is_not_there_is_said(small, capsys, command):
    assert run(["providers", command[0], "large", *command[1:]]) == Exit.REFUSED
    said = capsys.readouterr().err
    assert "no provider 'large'" in said
    assert "backhaul providers list" in said


@pytest.mark.parametrize("key", KEYS)
def test_a_key_goes_nowhere_and_is_never_repeated(small, capsys, monkeypatch, key):
    before = small.store.providers.find("small")
    for field in ("secret", "model", "secret_header", "idempotency_header", "base_url", "kind", "region"):
        for value in (key, f"ssm:{key}", f"https://api.example.com/{key}"):
            assert run(["providers", "set", "small", f"{field}={value}"]) == Exit.REFUSED, (field, value)
        give(monkeypatch, json.dumps(SET_UP | {field: key}))
        assert run(["providers", "set", "small", "--file", "-"]) == Exit.REFUSED
    for words in ([f"api_key={key}"], [f"{key}=x"], [key], [f"{key}=="], [f"breaker.{key}=1"]):
        assert run(["providers", "set", "small", *words]) in (Exit.REFUSED, Exit.USAGE)
    for odd in ({key: 1}, {"breaker": {key: 1}}, {"breaker": key}, {"name": key}, {"version": key, "model": "m"}):
        give(monkeypatch, json.dumps(SET_UP | odd))
        assert run(["providers", "set", "small", "--file", "-"]) == Exit.REFUSED
    for command in (["show", key], ["remove", key, "--reason", "x"], ["set", key, "kind=openai"]):
        assert run(["providers", *command]) == Exit.REFUSED
    said = capsys.readouterr()
    assert key not in said.out + said.err
    assert small.store.providers.find("small") == before
    assert len(acts(small)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "bedrock", "model": "us.anthropic.claude-3-5-sonnet-20241022-v2:0", "base_url": "", "secret": ""},
        {
            "kind": "bedrock",
            "model": "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6",
            "base_url": "",
            "secret": "",
        },
        {"base_url": "https://api.cloudflare.com/client/v4/accounts/0123456789abcdef0123456789abcdef/ai/v1"},
        {"secret": "secretsmanager:arn:aws:secretsmanager:eu-central-1:123456789012:secret:openai-AbCdEf#api_key"},
        {"secret": "ssm:/prod/sk-openai", "secret_header": "Ocp-Apim-Subscription-Key"},
        {"model": "ft:gpt-4o-mini-2024-07-18:my-company::9AbCdEfG"},
    ],
)
def test_long_names_that_are_no_keys_are_taken(small, changes):
    assert change(small, "small", changes, "").changes


@pytest.mark.parametrize(
    "words",
    [
        ["set", "small"],
        ["set", "small", "model"],
        ["set", "small", "=x"],
        ["set", "small", "model=a", "model=b"],
        ["set", "small", "model=a", "--file", "x.json"],
        ["set"],
        ["show"],
        ["remove", "small"],
        ["remove", "small", "--reason", " "],
    ],
)
def test_a_command_line_that_is_wrong_does_nothing(small, capsys, words):
    assert run(["providers", *words]) == Exit.USAGE
    assert capsys.readouterr().err.startswith("Error: ")
    assert len(acts(small)) == 1
