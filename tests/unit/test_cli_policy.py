"""A policy on the command line: only what was given is sent, and what is none is refused before any request."""

import msgspec
import pytest
import typer

from backhaul.cli.app import app, run
from backhaul.cli.exits import Exit
from backhaul.cli.length import in_largest_unit
from backhaul.model.policy import Policy, Written
from backhaul.model.policy_fields import FIELDS

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
        (
            ["--deadline", "abc"],
            "'abc' is not a length of time. Write seconds, or a number with m, h or d: 90m, 2h",
        ),
        (["--deadline", "1.5h"], "'1.5h' is not a length of time"),
        (["--deadline", "-5m"], "'-5m' is not a length of time"),
        (["--deadline", "2 h"], "'2 h' is not a length of time"),
        (["--deadline", ""], "'' is not a length of time"),
        (["--deadline", "\u0665m"], "is not a length of time"),
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


def options():
    found = {each.name: each for each in typer.main.get_command(app).commands["submit"].params}
    return [(field, found[field.option.replace("-", "_")]) for field in FIELDS]


def test_every_field_of_a_policy_has_an_option_that_says_what_the_field_says():
    assert [field.name for field, _ in options()] == list(Policy.__struct_fields__)
    for field, option in options():
        assert option.rich_help_panel == "Policy"
        assert option.opts == [f"--{field.option}"]
        assert option.help.startswith(field.description[:-1])


def test_the_default_of_an_option_is_that_of_the_field():
    for field, option in options():
        if field.written is Written.FLAG:
            assert (field.default, option.default) == (False, False)
        elif field.written is Written.TIME:
            assert option.help.endswith(f" Default: {in_largest_unit(field.default)}.")
        else:
            assert option.help.endswith(f" Default: {'any' if field.default is None else field.default}.")


RANGES = [(field, limit) for field in FIELDS if field.least is not None for limit in (field.least, field.most)]


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize(("field", "limit"), RANGES, ids=lambda each: getattr(each, "name", str(each)))
def test_the_range_of_an_option_is_that_of_the_field(takes_uploads, field, limit):
    assert sent(takes_uploads, f"--{field.option}", str(limit)) == {field.name: limit}
    outside = limit - 1 if limit == field.least else limit + 1
    assert run([*SUBMIT, f"--{field.option}", str(outside)]) == Exit.USAGE
