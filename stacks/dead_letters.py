"""The dead-letter queues, one for each entry of `Queue`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from aws_cdk import CfnElement
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from backhaul.operations.contents import Queue
from stacks.monitoring import dead_letters

_LOGICAL_IDS: Mapping[Queue, tuple[str, str]] = {
    Queue.INTAKE: ("intakedeadletters0AFC5333", "intakedeadlettersPolicy87910E74"),
    Queue.FAILED_CHUNKS: ("workersfailedchunks89277FF0", "workersfailedchunksPolicy8BD4E9D2"),
    Queue.ANNOUNCE: ("announcementsdeadlettersF947661D", "announcementsdeadlettersPolicy188D3814"),
}
"""Logical IDs of queues, and of their policies, that were once declared elsewhere. With other IDs, an update of a
deployment would replace these queues and lose their dead letters. A new queue needs no entry."""


class DeadLetters(Construct):
    """The dead-letter queues, from which other constructs take theirs."""

    def __init__(self, scope: Construct, name: str) -> None:
        super().__init__(scope, name)
        self.queues = {queue: dead_letters(self, queue) for queue in Queue}
        for queue, (queue_id, policy_id) in _LOGICAL_IDS.items():
            made = self.queues[queue].node
            cast(CfnElement, made.default_child).override_logical_id(queue_id)
            cast(CfnElement, made.find_child("Policy").node.default_child).override_logical_id(policy_id)

    def __getitem__(self, queue: Queue) -> sqs.Queue:
        """Return the SQS queue for an entry of `Queue`."""
        return self.queues[queue]

    def outputs(self) -> dict[str, str]:
        """Return the URL of each queue by the name of its output."""
        return {queue.kind.output: each.queue_url for queue, each in self.queues.items()}
