"""Turns under providers' limits that one attempt at a shard has reserved and left to the next."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from backhaul.flow.channels import Channel
from backhaul.limit import Go, Lease


@dataclass(frozen=True)
class _Kept:
    """What is reserved under a provider's limit: single calls, and what is left of a lease."""

    turns: tuple[Go, ...]
    lease: Lease | None


class Turns:
    """The reservations of one attempt, from all of its threads.

    Without them a worker that leaves to wait would give its place in the queue away, and the limit would be used by
    those who stay.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: dict[str, _Kept] = {}
        self._turns: dict[str, list[Go]] = {}

    def take_up(self, kept: Mapping[str, str]) -> None:
        """Use what the attempt before this one has kept."""
        self._before = {name: msgspec.json.decode(text, type=_Kept) for name, text in kept.items()}

    def take(self, channel: Channel) -> Go | None:
        """Return the first turn that was put back, or kept, and is not void."""
        name = channel.provider.name
        with self._lock:
            if (before := self._before.pop(name, None)) and channel.limiter:
                self._turns.setdefault(name, []).extend(before.turns)
                channel.limiter.lease = before.lease
            turns = self._turns.get(name, [])
            turns.sort(key=lambda turn: turn.at, reverse=True)
            while turns:
                turn = turns.pop()
                if channel.limiter and not channel.limiter.is_void(turn):
                    return turn
        return None

    def put_back(self, channel: Channel, turn: Go) -> None:
        """Leave a turn to whoever takes one next."""
        with self._lock:
            self._turns.setdefault(channel.provider.name, []).append(turn)

    def keep(self, channels: Iterable[Channel]) -> dict[str, str]:
        """Return what is reserved for calls that were not made, by provider and as JSON; nothing is taken after it."""
        kept = {}
        for channel in channels:
            name = channel.provider.name
            lease = channel.limiter.take_lease() if channel.limiter else None
            with self._lock:
                turns = tuple(self._turns.get(name, ()))
            if turns or lease:
                kept[name] = msgspec.json.encode(_Kept(turns, lease)).decode()
        return kept
