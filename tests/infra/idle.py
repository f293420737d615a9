"""What a deployment costs that nobody uses: `python -m tests.infra.idle` writes it into docs/cost.md and README.md.

The counts come from the template, and from what a sweep of an empty deployment asks for, which a stage test counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from backhaul.estimate import prices
from backhaul.toolchain import PROJECT
from tests.infra.template import Template, text

COSTS, README = PROJECT / "docs" / "cost.md", PROJECT / "README.md"
BEGIN, END = "<!-- idle: written by tests.infra.idle -->\n", "<!-- end of idle -->\n"

MINUTES = 60 * 24 * 30
"""Of a month."""
SWEEP_READS = {("Query", False): 7, ("GetItem", True): 3}
"""The requests of a sweep that finds nothing, each with whether its read is consistent."""
SWEEP_SECONDS = 0.3
SWEEP_LOG_BYTES = 350
"""What Lambda itself logs of a call: START, END and REPORT. A sweep that mends nothing logs nothing more."""
POLLERS, POLL_SECONDS = 5, 20
"""How Lambda polls a queue that is empty: so many long polls at a time, each so long."""


@dataclass(frozen=True)
class Item:
    """One line of the bill."""

    what: str
    how_much: str
    dollars: Fraction


def bill(template: Template) -> tuple[Item, ...]:
    """Return what a month costs in which nobody submits a job."""
    (sweep,) = _called_each_minute(template)
    # Lambda polls a table's stream for nothing.
    queues = [each for each in _event_sources(template) if not each.endswith(".StreamArn>")]
    polls = len(queues) * POLLERS * MINUTES * 60 // POLL_SECONDS
    alarms = len(template.of_type("CloudWatch::Alarm"))
    gigabytes = Fraction(template.functions()[sweep]["MemorySize"], 1024)
    reads = sum(SWEEP_READS.values())
    units = sum(Fraction(1 if consistent else Fraction(1, 2)) * n for (_, consistent), n in SWEEP_READS.items())
    compute = prices.GB_SECOND.cost(float(MINUTES * gigabytes) * SWEEP_SECONDS)
    logged = MINUTES * SWEEP_LOG_BYTES / 1e9
    return (
        Item("alarms", f"{alarms}, at {prices.ALARM_MONTH.dollars} each", prices.ALARM_MONTH.cost(alarms)),
        Item(
            "intake queue",
            f"{POLLERS} pollers of the event source, {POLL_SECONDS} s a poll: {polls:,} requests",
            prices.QUEUE_REQUEST.cost(polls),
        ),
        Item(
            "`sweep`",
            f"{MINUTES:,} invocations of about {SWEEP_SECONDS} s at {int(gigabytes * 1024)} MB",
            prices.INVOCATION.cost(MINUTES) + compute,
        ),
        Item(
            "its reads", f"{reads * MINUTES:,} of DynamoDB, {reads} each time", prices.READ_UNIT.cost(units * MINUTES)
        ),
        Item("its log", f"{MINUTES * SWEEP_LOG_BYTES / 1e6:.0f} MB", prices.LOG_GB.cost(logged)),
    )


def avoided() -> Fraction:
    """Return what a month cost when each sweep was traced, wrote three metrics and listed unfinished uploads."""
    return prices.TRACE.cost(MINUTES) + prices.METRIC_MONTH.cost(3) + prices.S3_WRITE.cost(MINUTES)


def table(template: Template) -> str:
    """Return the table of docs/cost.md."""
    items = bill(template)
    total = sum((each.dollars for each in items), Fraction(0))
    rows = [f"| {each.what} | {each.how_much} | {float(each.dollars):.2f} |" for each in items]
    total_row = f"| **together** | | **{float(total):.2f}** |"
    return "\n".join(["| What | How much | $ |", "|---|---|---|", *rows, total_row, "", _left_out()]) + "\n"


def sentence(template: Template) -> str:
    """Return what README.md says of it."""
    alarms, queue, sweep, *_ = bill(template)
    total = float(sum(each.dollars for each in bill(template)))
    return (
        f"**Idle it costs {total:.2f} dollars a month**: alarms ({alarms.how_much}), the queue's polling "
        f"({float(queue.dollars):.2f})\nand a sweep each minute ({sweep.how_much}).\n"
    )


def documented(page: Path) -> str:
    """Return what stands between the marks of a page."""
    return page.read_text().partition(BEGIN)[2].partition(END)[0]


def _left_out() -> str:
    return (
        f"The sweep is not traced, writes a metric only if it is not zero, and lists no unfinished uploads, which a "
        f"lifecycle\nrule removes: {MINUTES:,} traces, three metrics and {MINUTES:,} listings would cost "
        f"{float(avoided()):.2f} more."
    )


def _called_each_minute(template: Template) -> Iterator[str]:
    by_name = {f"<{name}.Arn>": each for name, each in template.of_type("Lambda::Function").items()}
    for rule in template.of_type("Events::Rule").values():
        if rule["Properties"].get("ScheduleExpression") == "rate(1 minute)":
            for target in rule["Properties"]["Targets"]:
                yield by_name[text(target["Arn"])]["Properties"]["Handler"].split(".")[1]


def _event_sources(template: Template) -> list[str]:
    mappings = template.of_type("Lambda::EventSourceMapping").values()
    return [text(each["Properties"]["EventSourceArn"]) for each in mappings]


def _renew() -> None:
    from tests.infra.conftest import synthesized

    for page, written in ((COSTS, table(synthesized())), (README, sentence(synthesized()))):
        before, _, rest = page.read_text().partition(BEGIN)
        page.write_text(f"{before}{BEGIN}{written}{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    _renew()
