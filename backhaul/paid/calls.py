"""The one guarded way to a paid API: budget, breaker, limit, the call itself, and what it really took."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

import msgspec

from backhaul.model.errors import Transient
from backhaul.model.interruption import Interrupted, InterruptReason, wait_outside
from backhaul.model.limit import Reservation
from backhaul.model.parking import NO_BREAKER, Parking
from backhaul.model.waits import AGAIN_SECONDS, stay_away
from backhaul.paid.answer_cache import AnswerCache
from backhaul.paid.breaker.rule import CallResult, OpenBreaker, Permit, Probe
from backhaul.paid.budget.budget import Budget
from backhaul.paid.budget.rule import Exhausted, HeldByOthers, Hold, OutOfReach
from backhaul.paid.call_outcome import CallOutcome, outcome_of_error, report_to_breaker, report_to_limit
from backhaul.paid.channels import Channel, Channels
from backhaul.paid.reservations import Reservations
from backhaul.paid.single_flight import SingleFlight
from backhaul.providers import (
    Answer,
    PromptTooLong,
    Provider,
    ProviderBusy,
    ProviderDenied,
    ProviderDown,
    Request,
    UnreadableAnswer,
    Usage,
    max_estimate,
)
from backhaul.store.budgets import ProviderUsage

T = TypeVar("T")


@dataclass(frozen=True)
class Paid:
    """An answer, what it cost, and the estimate at which its money was held, in nanodollars."""

    answer: Answer
    cost: int
    estimate: int


class PaidCalls:
    """The paid calls of one attempt at a shard, from all of its threads.

    `ends_at` is when the attempt must have left, on the clock's monotonic scale, and `total_seconds` how long it has in
    all. `pause` is called when a budget is spent: it asks the job to stop.
    """

    def __init__(
        self,
        channels: Channels,
        budget: Budget,
        *,
        cache: AnswerCache | None = None,
        ends_at: float,
        total_seconds: float,
        pause: Callable[[Exhausted], object],
        refusals: Mapping[str, int] | None = None,
    ) -> None:
        self._channels = channels
        self._budget = budget
        self._cache = cache
        self._clock = channels.clock
        self._ends_at = ends_at
        self._total_seconds = total_seconds
        self._pause = pause
        self._lock = threading.Lock()
        self.reservations = Reservations(clock=self._clock, left=lambda: self._left)
        self._used: dict[str, Channel] = {}
        self.made = 0
        """Calls that were made."""
        self._single_flight: SingleFlight[tuple[Any]] = SingleFlight()
        self._has_ended = False
        self.refusals = dict(refusals or {})
        """By provider, how often in a row it refused calls of this shard, in this attempt and those before."""
        self._refused_at: dict[str, float] = {}
        self._refused_under: dict[str, tuple[int, str]] = {}
        """By provider, its breaker's epoch and its settings' fingerprint when a call of this attempt first waited."""

    def ask(
        self,
        name: str,
        request: Request,
        *,
        key: str,
        generation: int,
        keep: Callable[[Paid], T],
        estimate: Usage | None = None,
        further_calls: float = math.inf,
    ) -> T:
        """Make one call, once its budget, its breaker and its limit let it, and return the answer as `keep` keeps it.

        `key` is the same for the same call, however often it is made; `generation` is what `begin` returned.
        `further_calls` is about how many calls of this provider will follow those that are asked for now.

        The worker sleeps here for up to two seconds until the call's turn under the limit. For every other wait this
        raises `Interrupted`, which costs the record no try: for a longer one, for the budget or the breaker, and after
        a call to a provider that is busy, down or denies all calls. Other errors of the adapter are raised as they are,
        and so is `ProviderDown` where the call is to blame and not the provider.
        """
        # A thread that the worker gave up may still be making this call. Its answer is paid for, so it is shared.
        found = self._single_flight.once(
            key,
            lambda: (keep(self._ask(name, request, key, estimate, further_calls)),),
            generation=generation,
            seconds=self._left,
        )
        if found is None:
            raise Interrupted(InterruptReason.WAIT)
        return cast("T", found[0])

    def begin(self) -> int:
        """Begin a generation, for a try at a chunk, and return its number.

        Threads of earlier generations were given up and make no more calls. A call that one of them is making is
        shared with whoever asks the same.
        """
        return self._single_flight.begin()

    def _ask(self, name: str, request: Request, key: str, estimate: Usage | None, further_calls: float) -> Paid:
        channel = self._channel(name)
        if self._used.get(name) is not channel:
            channel.breaker.begin_attempt()
            self._used[name] = channel
        provider = channel.provider
        if self._cache and (known := self._cache.find(provider, request)):
            self._budget.count(name, ProviderUsage(saved=provider.cost(known.usage)))
            return Paid(known, 0, 0)
        expected = estimate or max_estimate(request)
        if provider.context_tokens and expected.input_tokens > provider.context_tokens:
            raise PromptTooLong(
                f"The request has about {expected.input_tokens:,} tokens; {name} takes {provider.context_tokens:,}."
            )
        if self._left < min(provider.timeout_seconds, self._total_seconds / 2):
            raise Interrupted(InterruptReason.WAIT)  # a call that is cut off is paid for nothing
        hold = self._hold(provider.cost(expected))
        try:
            permit, reservation = self._admitted(channel, expected, further_calls)
        except BaseException:
            self._budget.give_back(hold)
            raise
        made = self._call(channel, request, key, hold, permit, reservation)
        if self._cache:
            with suppress(Exception):  # the next look into it meets the same before it is paid for
                self._cache.keep(provider, request, made.answer)
        return made

    def hand_over_reservations(self) -> dict[str, str]:
        """Return the reservations of calls that were not made, for the next attempt; only `settle_all` follows."""
        self._single_flight.begin()
        return self.reservations.hand_over(list(self._used.values()))

    def accept_reservations(self, handed_over: Mapping[str, str]) -> None:
        """Use the reservations that the attempt before this one has handed over."""
        self.reservations.accept(handed_over)

    def settle_all(self) -> None:
        """Settle all calls; none follows. Raises as the stores do, and `Superseded`; a second time does nothing."""
        if self._has_ended:
            return
        self._has_ended = True
        self._single_flight.begin()
        for channel in list(self._used.values()):
            channel.breaker.flush()
            if channel.limiter:
                channel.limiter.settle()
        self._budget.settle_all()

    def parking(self, provider: str, seconds: int) -> Parking:
        """Return how the shard is to wait, because of a provider or of none; call it after `settle_all`."""
        channel = self._used.get(provider)
        if channel is None:
            return Parking(seconds)
        breaker = channel.breaker if channel.provider.breaker.enabled else None
        away = breaker.seconds_away(seconds) if breaker else seconds
        # One thread may wait because the breaker was open, and another have seen since that it has closed. What counts
        # is how the provider stood for the first: `park` sees that this has changed, and lets the shard go on.
        now = (breaker.state.epoch if breaker else NO_BREAKER, channel.provider.fingerprint())
        return Parking(math.ceil(away), provider, *self._refused_under.get(provider, now))

    def try_to_settle_all(self) -> None:
        """Settle what can be, because an exception ended the attempt; the next attempt settles the rest."""
        if self._left > 0:
            with suppress(Exception):
                self.settle_all()

    @property
    def _left(self) -> float:
        return self._ends_at - self._clock.monotonic()

    def _channel(self, name: str) -> Channel:
        try:
            return self._channels.to(name)
        except Transient as error:
            self._stay_away(name, str(error), self._clock.monotonic())

    def _hold(self, cost: int) -> Hold:
        match found := self._budget.hold(cost):
            case Exhausted():
                self._pause(found)
                raise Interrupted(InterruptReason.STOP)
            case HeldByOthers() | OutOfReach():
                wait_outside(found.seconds, found.describe())
        return found

    def _admitted(
        self, channel: Channel, expected: Usage, further_calls: float
    ) -> tuple[Permit | Probe | None, Reservation | None]:
        permit = channel.breaker.may_call() if channel.provider.breaker.enabled else None
        if isinstance(permit, OpenBreaker):
            self._note_wait(channel, permit)
            wait_outside(permit.seconds, permit.reason, channel.provider.name)
        try:
            return permit, self.reservations.wait(
                channel, expected.input_tokens + expected.output_tokens, further_calls
            )
        except BaseException:
            self._note_wait(channel, permit)
            report_to_breaker(channel, permit, CallOutcome(CallResult.NOT_MADE, 0))
            raise

    def _note_wait(self, channel: Channel, permit: Permit | Probe | OpenBreaker | None) -> None:
        """Keep the provider's breaker and settings as they were when a call first had to wait for it."""
        seen = (permit.epoch if permit else NO_BREAKER, channel.provider.fingerprint())
        self._refused_under.setdefault(channel.provider.name, seen)

    def _call(
        self,
        channel: Channel,
        request: Request,
        key: str,
        hold: Hold,
        permit: Permit | Probe | None,
        reservation: Reservation | None,
    ) -> Paid:
        provider, longest = channel.provider, channel.provider.timeout_seconds
        timeout = min(longest, self._left, permit.seconds if isinstance(permit, Probe) else longest)
        with self._lock:
            self.made += 1
        outcome, began = CallOutcome(CallResult.NOT_MADE, hold.estimate), self._clock.monotonic()
        try:
            answer = channel.adapter.call(request, key=key, timeout=timeout)
            outcome = CallOutcome(CallResult.OK, provider.cost(answer.usage), answer.usage, answer.limits)
            channel.note_answer(key, began)
            self.refusals.pop(provider.name, None)
            return Paid(msgspec.structs.replace(answer, limits=None), outcome.cost, hold.estimate)
        except Exception as error:
            is_cut_off = timeout < longest and self._clock.monotonic() - began >= timeout
            outcome = outcome_of_error(error, provider, hold, is_cut_off=is_cut_off)
            self._wait_for(error, channel, permit, key, began)
            raise
        finally:
            with suppress(Exception):  # the next call meets the same before it is paid for
                self._settle(hold, provider, outcome)
            with suppress(Exception):
                report_to_breaker(channel, permit, outcome)
                report_to_limit(channel, reservation, outcome)

    def _wait_for(
        self, error: Exception, channel: Channel, permit: Permit | Probe | None, key: str, began: float
    ) -> None:
        """Raise `Interrupted` for what the provider will do later."""
        name, asked = channel.provider.name, None
        match error:
            case ProviderBusy():
                if channel.limiter:
                    channel.limiter.refused(error.retry_after)
                what, asked = f"{name} is busy", error.retry_after
            case ProviderDenied():
                what = str(error)
            case ProviderDown():
                is_first = not channel.has_failed(key) and name not in self.refusals
                # An answer that nobody can read is paid for: it is a try of its record, or there would be no end to it.
                if isinstance(error, UnreadableAnswer) or channel.fails_alone(key, self._clock.monotonic()):
                    return
                if is_first and not error.retry_after:
                    raise Interrupted(InterruptReason.AGAIN, AGAIN_SECONDS) from None
                what, asked = f"{name} fails to answer", error.retry_after
            case Transient():  # its key cannot be read for now
                what = str(error)
            case _:
                return
        self._note_wait(channel, permit)
        self._stay_away(name, what, began, asked)

    def _stay_away(self, name: str, what: str, began: float, asked: float | None = None) -> NoReturn:
        """Wait for a provider that has refused a call: for as long as it asked, or longer each time it refuses again.

        Calls that were under way at the same time are refused once: `began` is when this one was made.
        """
        with self._lock:
            if began >= self._refused_at.get(name, -math.inf):
                self.refusals[name] = self.refusals.get(name, 0) + 1
                self._refused_at[name] = self._clock.monotonic()
            refusals = self.refusals[name]
        # What it asks for is believed once; who came back when it said, and was refused again, stays away for longer.
        wait_outside(asked if asked and refusals == 1 else max(asked or 0.0, stay_away(refusals)), what, name)

    def _settle(self, hold: Hold, provider: Provider, outcome: CallOutcome) -> None:
        taken = outcome.taken or Usage(0)
        if outcome.cost or taken.input_tokens:
            usage = ProviderUsage(1, taken.input_tokens, taken.output_tokens, outcome.cost)
            self._budget.settle(hold, provider.name, usage)
        else:
            self._budget.give_back(hold)
