"""Grants on some items of a table hold for these items, and for no request that names no items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.infra.simulator import Request, allowed
from tests.infra.template import Template, listed, texts

KEY = "dynamodb:LeadingKeys"
FLOW = "<storageflow.Arn>"
SLOTS = "SLOTS"
"""The partition of the flow table that no worker may touch."""


def limited(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the statements with a condition on partition keys, each with the name of its role or policy."""
    return ((name, each) for name, each in template.statements() if KEY in str(each.get("Condition")))


def holders(template: Template) -> set[str]:
    return {name for name, _ in limited(template)}


def all_of(template: Template, holder: str) -> list[dict[str, Any]]:
    return [each for name, each in template.statements() if name == holder]


def asking(statement: dict[str, Any], keys: list[str] | None, held: list[dict[str, Any]]) -> list[Request]:
    """Return a request for each of the statement's actions, about items with these partition keys, or without any."""
    context = {} if keys is None else {KEY: keys}
    tables = texts(statement["Resource"])
    return [Request(held, action, table, context) for action in listed(statement["Action"]) for table in tables]


def patterns(statement: dict[str, Any]) -> list[str]:
    return listed(statement["Condition"]["ForAllValues:StringLike"][KEY])


def passing(requests: list[Request]) -> list[tuple[str, object]]:
    """Return what of the requests IAM would let pass, as action and partition keys."""
    assert requests
    answers = zip(requests, allowed(requests), strict=True)
    return [(request.action, request.context.get(KEY)) for request, passes in answers if passes]


def test_there_are_such_grants(template: Template):
    wakers = {"workersparkrole", "wakingwakerole", "recoverysweeprole"}
    paying = {"apiestimaterole", "workersprocessrole", "workersmergerole"}
    assert holders(template) == {*paying, *wakers, "operatorspolicy"}


def test_each_allows_its_own_items(template: Template):
    requests = [
        request
        for holder, statement in limited(template)
        for pattern in patterns(statement)
        for request in asking(statement, [pattern.replace("*", "example")], all_of(template, holder))
    ]
    assert len(passing(requests)) == len(requests)


def test_none_allows_a_request_for_other_items_or_without_a_key(template: Template):
    others = (None, [SLOTS], ["BUDGET#example", SLOTS], ["PROVIDER#example", SLOTS])
    requests = [
        request
        for holder, statement in limited(template)
        for keys in others
        for request in asking(statement, keys, all_of(template, holder))
    ]
    assert passing(requests) == []


def test_a_worker_reads_how_a_provider_is_set_up_and_cannot_change_it(template: Template):
    held, provider = all_of(template, "workersprocessrole"), ["PROVIDER#example"]
    actions = ("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:PutItem")
    requests = [Request(held, action, FLOW, {KEY: provider}) for action in actions]
    assert passing(requests) == [("dynamodb:GetItem", provider)]


def test_who_is_held_to_some_items_may_not_read_the_whole_table_in_any_way(template: Template):
    reading = ("dynamodb:Scan", "dynamodb:Query", "dynamodb:BatchGetItem", "dynamodb:PartiQLSelect")
    functions = holders(template) - {"operatorspolicy"}  # an operator may read all of it
    assert passing([Request(all_of(template, each), action, FLOW) for each in functions for action in reading]) == []


def test_without_the_second_condition_the_simulator_lets_a_request_without_a_key_pass(template: Template):
    requests = []
    for _, statement in limited(template):
        forgetful = {**statement, "Condition": {"ForAllValues:StringLike": {KEY: patterns(statement)}}}
        requests += asking(forgetful, None, [forgetful])
    assert len(passing(requests)) == len(requests)


def test_the_local_cloud_is_not_asked_for_keys_that_it_never_knows(synthesize: Callable[..., Template]):
    local = list(limited(synthesize(stage="local")))
    assert local
    assert all(set(each["Condition"]) == {"ForAllValues:StringLike"} for _, each in local)
