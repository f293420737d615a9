"""A holder's side of one budget: its account, the pending writes, and the write that got no answer."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import date

from backhaul.paid.budget.rule import Account, Batch
from backhaul.store.budgets import BudgetStore, Posting


class Occupied(Exception):
    """Another attempt has the holder's entry in the ledger, or has removed it."""

    def __init__(self, attempt: int) -> None:
        super().__init__(attempt)
        self.attempt = attempt


class Ledger:
    """One budget's account, with what is to be written to it; it repeats a write that got no answer."""

    def __init__(self, account: Account, store: BudgetStore, lock: threading.Lock) -> None:
        self.account = account
        self.pending = Batch()
        self._store = store
        self._lock = lock
        self._sent: tuple[Posting, Batch] | None = None

    def post(self, day: date, amount: int = 0, *, last: bool = False) -> bool:
        """Write what is pending and draw `amount` nanodollars; return False, and write nothing, if the cap is too low.

        Raises `Occupied` if another attempt has the entry.
        """
        if self._sent:
            # The last write got no answer. Sent again it counts once, whether it was made or not. The thread that asked
            # for its draw has been refused meanwhile, so the drawn amount is given back.
            drawn = self._sent[0].held + self._sent[1].released
            if self._send(*self._sent):
                self.add(Batch(surplus=drawn))
        if last and not self.account.entry:
            self.post(day)  # first make an entry: only by its number is a repeated write recognised
        with self._lock:
            batch = self.pending
            if batch.is_empty and not amount and not (last and self.account.entry):
                return True
            self.pending = Batch()
        return self._send(self.account.posting(batch, amount, day, last=last), batch)

    def add(self, batch: Batch) -> None:
        """Add a batch to what the next write settles."""
        with self._lock:
            self.pending += batch

    def _send(self, posting: Posting, batch: Batch) -> bool:
        self._sent = (posting, batch)
        posted = self._store.post(posting)
        self._sent = None
        entry = posting.after if posted.done else self.account.entry
        self.account = replace(self.account, known=posted.state, entry=entry)
        if posted.done:
            return True
        with self._lock:
            self.pending = batch + self.pending
        found = posted.state.entries.get(posting.name)
        if found != posting.before:
            raise Occupied(found.attempt if found else self.account.attempt)
        return False
