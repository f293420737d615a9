"""Checks of what surrounds the jobs: dead letters that nobody looks at, and alarms that nobody hears."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from backhaul.operations.contents import Queue
from backhaul.operations.deadletters import DeadLetter, Wanted, find
from backhaul.operations.doctor.finding import Finding
from backhaul.operations.doctor.survey import Survey
from backhaul.operations.holding import LOOKING_SECONDS, Held
from backhaul.operations.reasons import Reason

LETTERS_OLD = timedelta(days=1)
"""A dead letter that has waited for so long waits for somebody who does not come."""
LETTERS_MOST = 1000
"""Letters of a queue that the doctor looks at."""
_TOPIC = "AlarmTopicArn"


def dead_letters(survey: Survey) -> Iterator[Finding]:
    """Find queues with dead letters that are older than a day."""
    operations, store = survey.operations, survey.store
    with Held(operations.dead_letters(), LOOKING_SECONDS, operations.clock) as held:
        letters = find(Wanted(limit=LETTERS_MOST), held, jobs=store.jobs, shards=store.shards).letters
    old = [letter for letter in letters if survey.now - letter.sent_at > LETTERS_OLD]
    for queue in Queue:
        resolved = [each for each in old if each.queue is queue and each.reason is Reason.RESOLVED]
        others = [each for each in old if each.queue is queue and each.reason is not Reason.RESOLVED]
        if others:
            yield _letters(queue, others, f"a person: backhaul dlq list --queue {queue}", "")
        if resolved:
            command = f"backhaul dlq discard --queue {queue} --reason {Reason.RESOLVED} --why resolved"
            yield _letters(queue, resolved, f"a person: {command}", "-resolved")


def unheard_alarms(survey: Survey) -> Iterator[Finding]:
    """Find out whether anybody hears the alarms."""
    outputs = survey.operations.outputs
    arn = outputs.values.get(_TOPIC)
    if outputs.is_local:
        survey.skipped.append("unheard-alarms: nobody needs to hear those of a local cloud")
    elif arn is None:
        survey.skipped.append(f"unheard-alarms: the stack has no output {_TOPIC}")
    elif not survey.store.alarm_topic(arn).has_subscriber():
        command = f"aws sns subscribe --topic-arn {arn} --protocol email --notification-endpoint ADDRESS"
        mends_by = f"a person: deploy with -c alarm_emails=ADDRESS, or {command}"
        yield Finding("nobody hears the alarms", mends_by, key=arn)


def _letters(queue: Queue, letters: list[DeadLetter], mends_by: str, kind: str) -> Finding:
    reasons = Counter(letter.reason for letter in letters)
    counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    what = f"{queue} holds dead letters that are older than a day: {counts}"
    return Finding(what, mends_by, since=min(letter.sent_at for letter in letters), key=f"{queue}{kind}")
