"""The table of grants in `docs/security.md`: `python -m tests.infra.grants` writes it anew from the template."""

from __future__ import annotations

from backhaul.operations.contents import Queue
from backhaul.toolchain import PROJECT
from tests.infra.template import Grant, Template, grant

PAGE = PROJECT / "docs" / "security.md"
BEGIN, END = "<!-- grants: written by tests.infra.grants -->\n", "<!-- end of grants -->\n"

LOGGING = ["logs:CreateLogStream", "logs:PutLogEvents"]
TRACING = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
"""What every function may do as well; the page says so once."""

EVERY_QUEUE = "<every queue of dead letters>"

_NAMES = {
    EVERY_QUEUE: "every queue of dead letters",
    "<storagedata.Arn>/": "objects ",
    "<storagedata.Arn>": "data bucket",
    "<storagejobs.Arn>/index/": "jobs table, index ",
    "<storagejobs.StreamArn>": "jobs table, stream",
    "<storageflow.StreamArn>": "flow table, stream",
    "<storagejobs.Arn>": "jobs table",
    "<storageflow.Arn>?": "flow table, items ",
    "<storageflow.Arn>": "flow table",
    "<intakequeue.Arn>": "intake queue",
    "<intakedeadletters.Arn>": "intake's dead letters",
    "<workersfailedchunks.Arn>": "failed chunks",
    "<announcementsbus.Arn>": "event bus",
    "<announcementsdeadletters.Arn>": "announcements' dead letters",
    "<alarmstopic>": "alarm topic",
    "arn:<AWS::Partition>:cloudformation:<AWS::Region>:<AWS::AccountId>:stack/": "stack ",
    "arn:<AWS::Partition>:secretsmanager:<AWS::Region>:<AWS::AccountId>:secret:": "secrets ",
    "arn:<AWS::Partition>:ssm:<AWS::Region>:<AWS::AccountId>:parameter/": "parameters ",
    "arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:<workflowrun.Name>:": "executions ",
    "<workflowrun>": "state machine",
    "arn:<AWS::Partition>:execute-api:<AWS::Region>:<AWS::AccountId>:<apihttp>/$default/": "routes of the API ",
    "<workersplan.Arn>": "function plan",
    "<workersprocess.Arn>": "function process",
    "<workersmerge.Arn>": "function merge",
    "<workersconclude.Arn>": "function conclude",
    "<workerspark.Arn>": "function park",
}


def table(template: Template) -> str:
    """Return the grants of the template: a row for each function, and for the state machine, operators, callers."""
    rows = ["| Who | May |", "|---|---|"]
    for function in template.functions():
        grants = [own for each in template.grants(function) if (own := _without_everyones(each))[0]]
        rows.append(_row(f"`{function}`", grants))
    rows.append(_row("state machine", _of(template, "workflowrunrole", "workflowchildren")))
    rows.append(_row("operators", [_of_every_queue(template, each) for each in _of(template, "operatorspolicy")]))
    rows.append(_row("callers", _of(template, "apiclient")))
    return "\n".join(rows) + "\n"


def documented() -> str:
    """Return the table as the page has it."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


def _of(template: Template, *resources: str) -> list[Grant]:
    return [grant(each) for name, each in template.statements() if name in resources]


def _of_every_queue(template: Template, grant: Grant) -> Grant:
    """Return the grant with one name for all the queues of dead letters, if it is on all of them."""
    actions, resources = grant
    queues = {f"{template.output(queue.kind.output)[:-1]}.Arn>" for queue in Queue}
    if not queues <= set(resources):
        return grant
    return actions, [EVERY_QUEUE, *(each for each in resources if each not in queues)]


def _without_everyones(grant: Grant) -> Grant:
    actions, resources = grant
    return [each for each in actions if each not in (*LOGGING, *TRACING)], resources


def _row(who: str, grants: list[Grant]) -> str:
    lines = [f"{_code(actions)} on {', '.join(map(_name, resources))}" for actions, resources in grants]
    return f"| {who} | {'<br>'.join(lines)} |"


def _code(actions: list[str]) -> str:
    return ", ".join(f"`{each}`" for each in actions)


def _name(resource: str) -> str:
    for arn, name in _NAMES.items():
        if resource.startswith(arn):
            rest = resource.removeprefix(arn)
            return f"{name}`{rest}`" if rest else name
    return f"`{resource}`"


def _renew() -> None:
    from tests.infra.conftest import synthesized

    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{table(synthesized())}{END}{after}")


if __name__ == "__main__":
    _renew()
