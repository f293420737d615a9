"""Which records of the audit trail a command's filters take."""

import pytest

from backhaul.operations.audit import Wanted
from backhaul.store.audit import AuditRecord

OF_JOB = AuditRecord("dlq discard", "arn", "why", job="T1/J1")
OF_TENANT = AuditRecord("pause", "arn", "why", what={"tenant": "T1"})
OF_ALL = AuditRecord("dlqx", "arn", "why")


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Wanted(), [OF_JOB, OF_TENANT, OF_ALL]),
        (Wanted(job="J1"), [OF_JOB]),
        (Wanted(job="T1"), []),
        (Wanted(tenant="T1"), [OF_JOB, OF_TENANT]),
        (Wanted(tenant="T2"), []),
        (Wanted(action="dlq"), [OF_JOB]),
        (Wanted(action="dlq discard"), [OF_JOB]),
        (Wanted(action="dlq d"), []),
        (Wanted(action="discard"), []),
        (Wanted(tenant="T1", action="pause"), [OF_TENANT]),
        (Wanted(job="J1", tenant="T2"), []),
    ],
    ids=str,
)
def test_a_record_is_taken_if_it_is_all_that_is_asked_for(wanted, taken):
    assert [record for record in (OF_JOB, OF_TENANT, OF_ALL) if wanted.takes(record)] == taken
