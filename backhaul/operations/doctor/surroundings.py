"""Checks of the jobs' surroundings: old dead letters, alarms without a subscriber, an account with a small quota."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from backhaul.operations import lambda_quota
from backhaul.operations.contents import Queue
from backhaul.operations.dead_letters import DeadLetter, Wanted, find
from backhaul.operations.doctor.finding import Finding
from backhaul.operations.doctor.survey import Survey
from backhaul.operations.holding import LOOKING_SECONDS, Held
from backhaul.operations.reasons import DeadLetterReason

DEAD_LETTERS_OLD = timedelta(days=1)
"""A dead letter that is older than this has probably been overlooked."""
MAX_DEAD_LETTERS = 1000
"""The most dead letters of a queue that the doctor looks at."""
_TOPIC = "AlarmTopicArn"
_QUOTA_REMEDY = (
    "ask AWS to raise the quota; or run `make deploy` without max_concurrency and max_running_jobs, so that both "
    "follow from the quota; or deploy with -c account_concurrency={}"
)
_LIMITS = ("MaxRunningJobs", "MaxWorkersPerJob", "ReservedWorkers")


def dead_letters(survey: Survey) -> Iterator[Finding]:
    """Find queues with dead letters that are older than a day."""
    operations, store = survey.operations, survey.store
    with Held(operations.dead_letters(), LOOKING_SECONDS, operations.clock) as held:
        dead_letters = find(Wanted(limit=MAX_DEAD_LETTERS), held, jobs=store.jobs, shards=store.shards).dead_letters
    old = [dead_letter for dead_letter in dead_letters if survey.now - dead_letter.sent_at > DEAD_LETTERS_OLD]
    for queue in Queue:
        resolved = [each for each in old if each.queue is queue and each.reason is DeadLetterReason.RESOLVED]
        others = [each for each in old if each.queue is queue and each.reason is not DeadLetterReason.RESOLVED]
        if others:
            yield _dead_letters(queue, others, f"by hand: backhaul dlq list --queue {queue}", "")
        if resolved:
            command = f"backhaul dlq discard --queue {queue} --reason {DeadLetterReason.RESOLVED} --why resolved"
            yield _dead_letters(queue, resolved, f"by hand: {command}", "-resolved")


def unheard_alarms(survey: Survey) -> Iterator[Finding]:
    """Find the topic of the alarms if it has no subscriber."""
    outputs = survey.operations.outputs
    arn = outputs.values.get(_TOPIC)
    if outputs.is_local:
        survey.skipped.append("unheard-alarms: does not apply to a local cloud")
    elif arn is None:
        survey.skipped.append(f"unheard-alarms: the stack has no output {_TOPIC}; deploy it again")
    elif not survey.store.alarm_topic(arn).has_subscriber():
        command = f"aws sns subscribe --topic-arn {arn} --protocol email --notification-endpoint ADDRESS"
        mends_by = f"by hand: deploy with -c alarm_emails=ADDRESS, or {command}"
        yield Finding("nobody is subscribed to the alarms", mends_by, key=arn)


def small_quota(survey: Survey) -> Iterator[Finding]:
    """Find a quota so small that workers may use all of the account's concurrent executions, and the API must wait."""
    outputs = survey.operations.outputs
    missing = [name for name in _LIMITS if name not in outputs.values]
    if outputs.is_local:
        survey.skipped.append("small-quota: does not apply to a local cloud")
        return
    if missing:
        survey.skipped.append(f"small-quota: the stack has no output {missing[0]}; deploy it again")
        return
    jobs, workers, reserved = (int(outputs.get(name)) for name in _LIMITS)
    quota = survey.store.concurrency_quota()
    if what := lambda_quota.too_small(quota, jobs=jobs, workers=workers, reserved=reserved):
        yield Finding(what, f"by hand: {_QUOTA_REMEDY.format(quota)}", key=lambda_quota.QUOTA_CODE)


def _dead_letters(queue: Queue, dead_letters: list[DeadLetter], mends_by: str, kind: str) -> Finding:
    reasons = Counter(dead_letter.reason for dead_letter in dead_letters)
    counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    what = f"the queue {queue} holds dead letters that are older than a day: {counts}"
    return Finding(what, mends_by, since=min(dead_letter.sent_at for dead_letter in dead_letters), key=f"{queue}{kind}")
