"""Budgets as a worker uses them: it holds money before a call, settles after, and writes once for several calls."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from functools import partial

from backhaul.model.clock import Clock
from backhaul.model.errors import Superseded
from backhaul.model.money import check
from backhaul.model.transience import is_transient
from backhaul.paid.budget.ledger import Ledger, Occupied
from backhaul.paid.budget.rule import (
    ALLOWANCE_SECONDS,
    HELD_SECONDS,
    OUTAGE_SECONDS,
    PAUSE_SECONDS,
    TAKEN_OVER,
    Account,
    Batch,
    Caps,
    Exhausted,
    HeldByOthers,
    Hold,
    Holder,
    OutOfReach,
    calls_wanted,
    lost_race,
    room_for,
    spread,
    takeover_posting,
)
from backhaul.store.budgets import BudgetKey, BudgetStore, Entry, ProviderUsage, digest_of


class Budget:
    """What one attempt at a shard may spend, for all of its threads.

    Every call counts against three ledgers: its job's, its tenant's of the day, and the deployment's of the day.
    """

    def __init__(
        self,
        holder: Holder,
        caps: Caps,
        store: BudgetStore,
        clock: Clock,
        *,
        expires_at: int | None = None,
        stored: Callable[[int], tuple[int, int | None]] = lambda _: (0, None),
    ) -> None:
        self._holder = holder
        self._caps = caps
        self._store = store
        self._clock = clock
        self.stored = stored
        """Returns (cost, estimate) in nanodollars of the answers that an earlier attempt has stored."""
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._digest = digest_of(holder.job, holder.shard)
        self._job = self._ledger(BudgetKey.of_job(holder.job), str(holder.shard), caps.job, expires_at)
        self._days: dict[date, tuple[Ledger, Ledger]] = {}
        self._day = date.min
        """The day of the allowance; only the thread that holds `_writing` changes the day or raises the allowance."""
        self._allowance_left = 0
        self._open: dict[int, Hold] = {}
        self._holds_made = 0
        self._last_draw = (0, clock.monotonic())
        """How many holds were made when the last allowance was drawn, and when that was, in monotonic seconds."""
        self._posted_at = clock.monotonic()
        self._out_until = -math.inf
        self._has_ended = False

    def hold(self, estimate: int) -> Hold | Exhausted | HeldByOthers | OutOfReach:
        """Hold the most that a call can cost, in nanodollars, or return the refusal; raises `Superseded`."""
        check(estimate, "An estimate")
        if taken := self._take(estimate):
            return taken
        with self._writing:
            if taken := self._take(estimate):  # another thread may have drawn meanwhile
                return taken
            # Another thread may also have found that the table does not answer. After `settle_all`, a thread that was
            # given up must draw nothing: nobody would give it back.
            if self._clock.monotonic() >= self._out_until and not self._has_ended:
                try:
                    return self._draw_allowance(estimate)
                except Exception as error:
                    if not is_transient(error):
                        raise
                    self._out_until = self._clock.monotonic() + PAUSE_SECONDS
            return OutOfReach(spread(OUTAGE_SECONDS), "the budgets cannot be written")

    def settle(self, hold: Hold, provider: str, usage: ProviderUsage) -> None:
        """Settle a call at the cost that `usage` names; a second time changes nothing.

        A caller that does not know the cost passes the estimate of the hold as the cost.
        """
        check(usage.nanodollars, "A cost")
        self._close(hold, Batch(usage.nanodollars, hold.estimate, usage={provider: usage}))

    def give_back(self, hold: Hold) -> None:
        """Release the hold of a call that was not made; a call that is settled already does not change."""
        self._close(hold, Batch(surplus=hold.estimate))

    def count(self, provider: str, usage: ProviderUsage) -> None:
        """Count usage that needs no hold: what a cache saved."""
        for ledger in self._ledgers(self._clock.now().date()):
            ledger.add(Batch(usage.nanodollars, usage={provider: usage}))

    def settle_all(self) -> None:
        """Settle all calls at the attempt's end; raises as the stores do.

        A call of which the worker does not know the outcome is settled at its estimate.
        """
        for hold in list(self._open.values()):
            self.settle(hold, TAKEN_OVER, ProviderUsage(nanodollars=hold.estimate))
        with self._writing:
            self._has_ended = True
            if self._holder.attempt > 1 and not self._job.account.entry:
                self._inherit()
            self._flush(last=True)

    def take_over(self, dead: Holder, spent: int = 0, estimated: int | None = None) -> None:
        """Settle the holds of a dead attempt at the shard; call it before `hold`, and again if it raises.

        `spent` is the cost of all calls whose answers that attempt stored, `estimated` the sum of their estimates, both
        in nanodollars. The attempt's other holds count as spent, because they may be. A second time changes nothing.
        """
        with self._writing:
            self._take_over(dead.attempt, spent, estimated)

    def _inherit(self) -> None:
        """Settle a dead attempt's holds if no draw has met its entry yet: other workers may wait for that money."""
        found = self._store.get(self._job.account.key).entries.get(self._job.account.name)
        if found and found.attempt < self._holder.attempt:
            self._take_over(found.attempt, *self.stored(found.attempt))

    def _ledger(self, key: BudgetKey, name: str, cap: int | None, expires_at: int | None = None) -> Ledger:
        account = Account(key, name, self._holder.attempt, cap, expires_at)
        return Ledger(account, self._store, self._lock)

    def _ledgers(self, day: date) -> tuple[Ledger, ...]:
        with self._lock:
            if day not in self._days:
                tenant, stack = BudgetKey.of_tenant(self._holder.job.tenant, day), BudgetKey.of_stack(day)
                of_tenant = self._ledger(tenant, self._digest, self._caps.tenant)
                self._days[day] = (of_tenant, self._ledger(stack, self._digest, self._caps.stack))
            return (self._job, *self._days[day])

    def _take(self, estimate: int) -> Hold | None:
        with self._lock:
            is_old = self._clock.monotonic() - self._posted_at > ALLOWANCE_SECONDS
            if self._allowance_left < max(estimate, 1) or is_old or self._clock.now().date() != self._day:
                return None
            self._allowance_left -= estimate
            return self._new_hold(estimate)

    def _new_hold(self, estimate: int) -> Hold:
        self._holds_made += 1
        made = Hold(self._holds_made, estimate, self._day)
        self._open[made.number] = made
        return made

    def _close(self, hold: Hold, batch: Batch) -> None:
        ledgers = self._ledgers(hold.day)
        with self._lock:
            if self._open.pop(hold.number, None) is None:
                return
            for ledger in ledgers:
                ledger.pending += batch
        is_due = self._clock.monotonic() - self._posted_at > ALLOWANCE_SECONDS
        if is_due and self._writing.acquire(blocking=False):
            try:
                with suppress(Exception):  # the batch stays pending, and the next thread that draws gets the error
                    self._flush()
            finally:
                self._writing.release()

    def _draw_allowance(self, estimate: int) -> Hold | Exhausted | HeldByOthers:
        today, unit = self._clock.now().date(), max(estimate, 1)
        if today != self._day:
            self._flush()  # give the rest back to the ledgers of the day on which it was drawn
        self._return_allowance()
        self._day = today
        ledgers, rate = self._ledgers(today), self._rate()
        tries = 0
        while tries < 2:  # first the wanted amount, then the amount for which the first refusal says there is room
            caps = [ledger.account.known.cap for ledger in ledgers]
            calls = calls_wanted(rate, [room_for(ledger.account, ledger.pending, unit) for ledger in ledgers])
            refusing = self._draw_from(ledgers, calls * unit)
            if refusing is None:
                with self._lock:
                    self._allowance_left += calls * unit - estimate
                    self._posted_at = self._clock.monotonic()
                    return self._new_hold(estimate)
            room = room_for(refusing.account, refusing.pending, unit)
            refusal = lost_race(refusing.account, estimate) if isinstance(room, int) else room
            if refusal is room:
                break
            # A refusal also tells of a cap that was raised meanwhile. Such a refusal is no failed try: to leave then
            # would be to come back without having used the new cap.
            tries += caps == [ledger.account.known.cap for ledger in ledgers]
        self._flush()
        return replace(refusal, seconds=spread(HELD_SECONDS)) if isinstance(refusal, HeldByOthers) else refusal

    def _draw_from(self, ledgers: tuple[Ledger, ...], amount: int) -> Ledger | None:
        """Draw `amount` nanodollars from every ledger or from none; return the ledger that refuses, None if none."""
        drawn: list[Ledger] = []
        try:
            for ledger in ledgers:
                if not self._post(ledger, amount):
                    return ledger
                drawn.append(ledger)
            drawn = []
        finally:
            for ledger in drawn:
                ledger.add(Batch(surplus=amount))
        return None

    def _rate(self) -> float:
        (holds, at), now = self._last_draw, self._clock.monotonic()
        self._last_draw = (self._holds_made, now)
        return (self._holds_made - holds) / max(now - at, 1.0)

    def _return_allowance(self) -> None:
        """Note the rest of the allowance to be given back to the ledgers from which it was drawn."""
        with self._lock:
            idle, self._allowance_left = self._allowance_left, 0
        for ledger in self._ledgers(self._day) if idle else ():
            ledger.add(Batch(surplus=idle))

    def _flush(self, *, last: bool = False) -> None:
        self._return_allowance()
        self._posted_at = self._clock.monotonic()
        # The job's ledger is written last: a successor finds the attempt's other entries by the one there.
        for ledger in (*(each for pair in self._days.values() for each in pair), self._job):
            self._post(ledger, last=last)

    def _post(self, ledger: Ledger, amount: int = 0, *, last: bool = False) -> bool:
        for _ in range(2):
            try:
                return ledger.post(max(self._days, default=self._clock.now().date()), amount, last=last)
            except Occupied as found:
                if found.attempt >= self._holder.attempt:
                    break
                self._take_over(found.attempt, *self.stored(found.attempt))
                # If that attempt died while it left, its only entry may be in a day's ledger.
                self._take_over_entry(ledger.account.key, ledger.account.name, 0, None)
        job, shard, attempt = self._holder.job, self._holder.shard, self._holder.attempt
        raise Superseded(f"What attempt {attempt} at shard {shard} of job {job.job_id} held was taken over.")

    def _take_over(self, attempt: int, spent: int = 0, estimated: int | None = None) -> None:
        job = self._job.account
        found = self._store.get(job.key).entries.get(job.name)
        if found is None or found.attempt >= self._holder.attempt:
            return
        if found.attempt != attempt:  # the caller's numbers are not about this older attempt: all of its holds count
            spent, estimated = 0, None
        last = date.fromordinal(found.day)
        for key_of in (partial(BudgetKey.of_tenant, self._holder.job.tenant), BudgetKey.of_stack):
            # An attempt may span two days, and its stored answers do not say on which a call was made. So all that it
            # held on the first day counts as spent, and its stored answers count on the second.
            old = self._take_over_entry(key_of(last - timedelta(days=1)), self._digest, 0, None)
            rest = None if estimated is None else estimated - old.estimated - old.held
            self._take_over_entry(key_of(last), self._digest, max(0, spent - old.cost), rest)
        self._take_over_entry(job.key, job.name, spent, estimated)

    def _take_over_entry(self, key: BudgetKey, name: str, spent: int, estimated: int | None) -> Entry:
        """Settle a dead attempt's entry, even if that attempt still writes; return the entry, or an empty one."""
        while True:
            entry = self._store.get(key).entries.get(name)
            if entry is None or entry.attempt >= self._holder.attempt:
                return Entry(0, 0)
            if self._store.post(takeover_posting(key, name, entry, spent, estimated)).done:
                return entry
