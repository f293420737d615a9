"""Holds messages while a command looks at them or acts on them, and releases the rest at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType

from backhaul.model.clock import Clock
from backhaul.operations.contents import Queue
from backhaul.store import MessageQueue
from backhaul.store.queues import Message

LOOKING_SECONDS = 60
"""How long a command that only looks hides a message, and so how long the message stays hidden after a SIGKILL."""
ACTING_SECONDS = 300
"""How long a command that acts hides a message. Both times are renewed when half of them has passed."""

_QUIET_ANSWERS = 2
"""How many answers in a row without a new message mean that a queue holds no more."""


class Held:
    """The messages that this command has received: hidden from other commands, and released when the block ends.

    Several threads may receive at the same time, each from another queue.
    """

    def __init__(self, queues: Mapping[Queue, MessageQueue], seconds: int, clock: Clock) -> None:
        self._queues = queues
        self._seconds = seconds
        self._clock = clock
        self._messages: dict[Queue, dict[str, Message]] = {queue: {} for queue in queues}
        self._renewed = dict.fromkeys(queues, clock.monotonic())
        self._stopped = False

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for queue, messages in self._messages.items():
            self._queues[queue].release(messages.values())

    def receive(self, queue: Queue) -> Iterator[Message]:
        """Yield each message of the queue once, until the queue returns no new one."""
        known = self._messages[queue]
        quiet = 0
        while quiet < _QUIET_ANSWERS and not self._stopped:
            self._renew(queue)
            received = self._queues[queue].receive(self._seconds)
            new = [message for message in received if message.message_id not in known]
            known.update({message.message_id: message for message in received})
            quiet = 0 if new else quiet + 1
            yield from new

    def stop(self) -> None:
        """End `receive` in every thread."""
        self._stopped = True

    def renew(self) -> None:
        """Hide all held messages for the whole time again, if half of it has passed; forget those that SQS released."""
        for queue in self._queues:
            self._renew(queue)

    def _renew(self, queue: Queue) -> None:
        now = self._clock.monotonic()
        if now - self._renewed[queue] < self._seconds / 2:
            return
        self._renewed[queue] = now
        messages = self._messages[queue]
        for lost in self._queues[queue].hide(messages.values(), self._seconds):
            del messages[lost]

    def claim(self, queue: Queue, messages: Iterable[Message]) -> bool:
        """Hide these messages for the whole time again; return whether all of them were still held."""
        wanted = [message.message_id for message in messages]
        known = self._messages[queue]
        ours = [known[each] for each in wanted if each in known]
        lost = self._queues[queue].hide(ours, self._seconds)
        for each in lost:
            del known[each]
        return not lost and len(ours) == len(wanted)

    def delete(self, queue: Queue, messages: Iterable[Message]) -> bool:
        """Delete messages that are held; return whether SQS deleted all of them."""
        known = self._messages[queue]
        ours = {message.message_id: known[message.message_id] for message in messages}
        left = self._queues[queue].delete(ours.values())
        for each in ours.keys() - left:
            del known[each]
        return not left
