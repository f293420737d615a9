"""A policy on the command line: only what was given is sent, and what is none is refused before any request."""

import typing

import msgspec
import pytest
import typer

from backhaul.cli import policy
from backhaul.cli.app import app, run
from backhaul.cli.exits import Exit
from backhaul.model.policy import Policy

pytestmark = pytest.mark.usefixtures("command_line")

SUBMIT = ["submit", "a.txt", "-p", "text-stats"]


def sent(server, *arguments):
    assert run([*SUBMIT, *arguments]) == 0
    return server.asked("POST", "/jobs")[-1].json().get("policy")


@pytest.mark.usefixtures("file")
def test_without_a_word_on_it_no_policy_is_sent(takes_uploads):
    assert sent(takes_uploads) is None


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--tolerate", "5"], {"tolerate": 5}),
        (["--tolerate", "0"], {"tolerate": 0}),
        (["--tolerate", "5%"], {"tolerate": "5%"}),
        (["--tolerate", "0.125%"], {"tolerate": "0.125%"}),
        (["--tolerate", "100%"], {"tolerate": "100%"}),
        (["--fail-fast"], {"fail_fast": True}),
        (["--max-tries", "1"], {"max_tries": 1}),
        (["--record-timeout", "600"], {"record_seconds": 600}),
        (["--deadline", "90m"], {"deadline_seconds": 5400}),
        (["--deadline", "2h"], {"deadline_seconds": 7200}),
        (["--deadline", "7d"], {"deadline_seconds": 604800}),
        (["--deadline", "60"], {"deadline_seconds": 60}),
        (["--deadline", "90s"], {"deadline_seconds": 90}),
        (["--priority", "0"], {"priority": 0}),
        (["--priority", "9", "--deadline", "1d"], {"priority": 9, "deadline_seconds": 86400}),
        (["--max-cost", "2.50"], {"max_cost": "2.50"}),
        (["--max-cost", "$.0031"], {"max_cost": "0.0031"}),
        (["--max-cost", "1000000"], {"max_cost": "1000000.00"}),
        (["--max-cost", "3", "--cache"], {"max_cost": "3.00", "cache": True}),
    ],
)
def test_what_was_given_is_sent_and_the_deployment_takes_it(takes_uploads, arguments, expected):
    assert sent(takes_uploads, *arguments) == expected
    msgspec.convert(expected, Policy)


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tolerate", "101%"], "'101%' is neither a number of chunks, such as 5, nor a share of them, such as 5%"),
        (["--tolerate", "5.5"], "'5.5' is neither"),
        (["--tolerate", "-1"], "'-1' is neither"),
        (["--tolerate", ""], "'' is neither"),
        (["--tolerate", "\u0665"], "is neither"),
        (["--tolerate", "9" * 40], "is neither"),
        (["--deadline", "abc"], "'abc' is no length of time. Write seconds, or a number with m, h or d: 90m, 2h, 1d"),
        (["--deadline", "1.5h"], "'1.5h' is no length of time"),
        (["--deadline", "-5m"], "'-5m' is no length of time"),
        (["--deadline", "2 h"], "'2 h' is no length of time"),
        (["--deadline", ""], "'' is no length of time"),
        (["--deadline", "\u0665m"], "is no length of time"),
        (["--deadline", "59"], "'59' is not between 1m and 7d"),
        (["--deadline", "8d"], "'8d' is not between 1m and 7d"),
        (["--priority", "12"], "--priority"),
        (["--priority", "high"], "--priority"),
        (["--max-tries", "0"], "--max-tries"),
        (["--max-tries", "11"], "--max-tries"),
        (["--record-timeout", "601"], "--record-timeout"),
        (["--max-cost", "0"], "With $0 no call could be made"),
        (["--max-cost", "-1"], "cannot be negative"),
        (["--max-cost", "1e400"], "is not an amount of dollars"),
        (["--max-cost", "NaN"], "is not an amount of dollars"),
        (["--max-cost", "1,5"], "is not an amount of dollars"),
        (["--max-cost", "1000001"], "is more than $1,000,000"),
        (["--max-cost", "0.0000000001"], "finer than a nanodollar"),
        (["--max-cost", "\u0665"], "is not an amount of dollars"),
    ],
)
def test_what_is_no_policy_is_refused_before_any_request_and_names_the_option(server, capsys, arguments, said):
    assert run([*SUBMIT, *arguments]) == Exit.USAGE
    output = capsys.readouterr()
    assert said in output.err
    assert arguments[0] in output.err
    assert (output.out, server.requests) == ("", [])


FIELDS = {
    "tolerate": "tolerate",
    "fail_fast": "fail_fast",
    "max_tries": "max_tries",
    "record_timeout": "record_seconds",
    "deadline": "deadline_seconds",
    "priority": "priority",
    "max_cost": "max_cost",
    "cache": "cache",
}
"""The field of a policy that each option sets."""


def options():
    found = {each.name: each for each in typer.main.get_command(app).commands["submit"].params}
    return {name: found[name] for name in FIELDS}


def test_every_field_of_a_policy_has_an_option_with_help_in_a_panel_of_its_own():
    assert set(FIELDS.values()) == set(Policy.__struct_fields__)
    for option in options().values():
        assert option.help.endswith(".")
        assert option.rich_help_panel == "Policy"


@pytest.mark.parametrize(
    ("option", "field"),
    [
        (policy.MaxTries, "max_tries"),
        (policy.RecordTimeout, "record_seconds"),
        (policy.Priority, "priority"),
    ],
)
def test_the_limits_and_the_default_of_an_option_are_those_of_the_policy(option, field):
    option = typing.get_args(option)[1]
    _, limits = typing.get_args(typing.get_type_hints(Policy, include_extras=True)[field])
    assert (option.min, option.max) == (limits.ge, limits.le)
    assert option.help.endswith(f" Default: {getattr(Policy(), field)}.")


def test_the_limits_of_a_deadline_are_those_of_the_policy():
    _, limits = typing.get_args(typing.get_type_hints(Policy, include_extras=True)["deadline_seconds"])
    for seconds in (limits.ge, limits.le):
        assert policy.policy_of(**dict.fromkeys(FIELDS) | {"deadline": str(seconds)}) == {"deadline_seconds": seconds}
    for seconds in (limits.ge - 1, limits.le + 1):
        with pytest.raises(typer.BadParameter):
            policy.policy_of(**dict.fromkeys(FIELDS) | {"deadline": str(seconds)})
    assert Policy().deadline_seconds == 86400
    assert options()["deadline"].help.endswith(" Default: 1d.")
