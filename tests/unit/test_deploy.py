"""What `make deploy` says of settings that a deployment would drop, and what it does then."""

from __future__ import annotations

import json
import shlex
from xml.sax.saxutils import escape

import boto3
import pytest
from botocore.exceptions import ClientError

from backhaul.operations.connection import REMEMBERED
from scripts import deploy
from scripts.deploy import Change, Refused, changes, confirm, deployed, kept, main, with_quota

STACK = "Backhaul-prod"
MODEL = "eu.amazon.nova-lite-v1:0"


DEFAULTS = {"retention_days": 30, "reserved_workers": "", "max_cost_per_day": "", "bedrock_models": []}


def remembered(**settings: object) -> dict[str, object]:
    """A part of what a template remembers: empty where nothing was named."""
    return DEFAULTS | settings


@pytest.fixture
def session(server, monkeypatch, tmp_path) -> boto3.Session:
    """Credentials for a server that is CloudFormation and Lambda."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_CA_BUNDLE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return boto3.Session("AKIAEXAMPLE", "secret", region_name="us-east-1")


@pytest.fixture
def stack_has(server, answer):
    """Makes CloudFormation answer with this template, or with this error."""

    def have(template: object = None, error: str = "", status: int = 400) -> None:
        namespace = 'xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"'
        found = f"<TemplateBody>{escape(json.dumps(template))}</TemplateBody>"
        body = f"<GetTemplateResponse {namespace}><GetTemplateResult>{found}</GetTemplateResult></GetTemplateResponse>"
        if error:
            body = (
                f"<ErrorResponse {namespace}><Error><Code>{error}</Code><Message>no</Message></Error></ErrorResponse>"
            )
        server.on("POST", "/", answer(status if error else 200, body.encode(), {"Content-Type": "text/xml"}))

    return have


@pytest.fixture
def terminal(monkeypatch):
    """Makes stdin a terminal where somebody answers a question like this, or no terminal."""

    def be(reply: str | None) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: reply is not None, raising=False)
        monkeypatch.setattr("builtins.input", lambda _: reply)

    return be


def dropped() -> list[Change]:
    before = remembered(bedrock_models=[MODEL], reserved_workers=300, retention_days=90)
    return changes(before, remembered(retention_days=90), {"retention_days"})


def test_a_setting_that_is_not_given_again_is_a_change_that_nobody_named():
    found = {each.name: (each.before, each.after, each.named) for each in dropped()}
    assert found == {"bedrock_models": ([MODEL], [], False), "reserved_workers": (300, "", False)}


def test_a_cap_that_becomes_another_one_is_a_change_and_is_named_on_the_command_line_or_not():
    before, after = remembered(max_cost_per_day="50"), remembered(max_cost_per_day="500")
    assert [each.named for each in changes(before, after, {"max_cost_per_day"})] == [True]
    assert [each.named for each in changes(before, after, {"stage"})] == [False]  # cdk.json has it, say


def test_a_setting_that_an_older_version_did_not_know_is_no_change():
    before = remembered()
    assert changes(before, remembered(account_concurrency=50), set()) == []


def test_a_setting_that_this_version_does_not_know_is_a_change():
    (found,) = changes(remembered() | {"colour": "red"}, remembered(), set())
    assert str(found) == "  colour: red would become no setting any more"


def test_without_a_terminal_a_dropped_setting_is_told_and_refused(terminal, capsys):
    terminal(None)
    with pytest.raises(Refused, match=r"nobody to ask.*-c NAME=VALUE.*--yes"):
        confirm(STACK, dropped(), yes=False)
    first, *said = capsys.readouterr().err.splitlines()
    assert first == "Settings of Backhaul-prod would change:"
    assert set(said[:2]) == {
        "  reserved_workers: 300 would become the default",
        f"  bedrock_models: {MODEL} would become the default",
    }


@pytest.mark.parametrize("reply", ["", "n", "maybe"])
def test_at_a_terminal_anything_but_yes_deploys_nothing(terminal, reply):
    terminal(reply)
    with pytest.raises(Refused, match="did not say yes"):
        confirm(STACK, dropped(), yes=False)


def test_yes_is_said_at_a_terminal_or_on_the_command_line(terminal, capsys):
    terminal("y")
    confirm(STACK, dropped(), yes=False)
    terminal(None)
    confirm(STACK, dropped(), yes=True)
    assert capsys.readouterr().err.count("would change:") == 2


def test_what_the_command_line_names_is_told_and_not_asked(terminal, capsys):
    terminal(None)
    confirm(STACK, changes(remembered(bedrock_models=[MODEL]), remembered(), {"bedrock_models"}), yes=False)
    assert f"bedrock_models: {MODEL} would become the default" in capsys.readouterr().err


def test_where_nothing_changes_nothing_is_said(terminal, capsys):
    terminal(None)
    confirm(STACK, changes(remembered(), remembered(), set()), yes=False)
    assert capsys.readouterr().err == ""


def test_one_is_told_what_to_write_to_keep_what_is_not_named():
    before = remembered(bedrock_models=[MODEL, "zai.glm-4.7"], processors="my own")
    after = remembered(processors="processors", max_cost_per_day="50")
    said = shlex.split(kept(changes(before, after, set())))
    assert set(said) == {"-c", f"bedrock_models={MODEL},zai.glm-4.7", "max_cost_per_day=", "processors=my own"}


def test_the_deployed_template_tells_the_settings(session, stack_has):
    stack_has({"Metadata": {REMEMBERED: {"retention_days": 90}}})
    assert deployed(STACK, session, yes=False) == {"retention_days": 90}


def test_a_first_deployment_has_nothing_to_compare(session, stack_has):
    stack_has(error="ValidationError")
    assert deployed(STACK, session, yes=False) == {}


def test_a_stack_of_a_version_that_remembered_nothing_is_asked_about(session, stack_has, terminal):
    stack_has({"Resources": {}})
    before = deployed(STACK, session, yes=False)
    assert changes(before, remembered(), set()) is None
    terminal(None)
    with pytest.raises(Refused):
        confirm(STACK, None, yes=False)
    confirm(STACK, None, yes=True)


def test_a_stack_that_may_not_be_read_is_refused_unless_one_insists(session, stack_has):
    stack_has(error="AccessDenied", status=403)
    with pytest.raises(Refused, match=r"cannot be read.*cloudformation:GetTemplate.*--yes"):
        deployed(STACK, session, yes=False)
    assert deployed(STACK, session, yes=True) is None


def test_the_accounts_quota_is_read_and_handed_on(session, server, answer):
    account = answer.of({"AccountLimit": {"ConcurrentExecutions": 10}})
    server.on("GET", "/2016-08-19/account-settings", account)
    assert with_quota(["stage=prod"], session) == ["stage=prod", "account_concurrency=10"]
    assert with_quota(["account_concurrency=50"], session) == ["account_concurrency=50"]


def test_a_quota_that_may_not_be_read_is_told_and_left_out(session, server, answer, capsys):
    server.on("GET", "/2016-08-19/account-settings", answer.of({"Message": "not you"}, 403))
    assert with_quota(["stage=prod"], session) == ["stage=prod"]
    assert "L-B99A9384" in capsys.readouterr().err


def test_a_profile_that_does_not_exist_ends_it_in_a_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert main(["--profile", "nobody"]) == 1
    assert capsys.readouterr().err.startswith("Nothing was deployed: The config profile (nobody) could not be found")


def test_other_errors_of_aws_are_no_stack_that_is_missing(session, stack_has):
    stack_has(error="Throttling")
    with pytest.raises(Refused) as refused:
        deployed(STACK, session, yes=False)
    assert isinstance(refused.value.__cause__, ClientError)


def test_the_region_is_the_one_that_the_cdk_cli_takes(session, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    assert deploy._session(None, None).region_name == "us-east-1"
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert deploy._session(None, None).region_name == "eu-central-1"
    assert deploy._session(None, "eu-west-1").region_name == "eu-west-1"
