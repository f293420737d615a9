"""A holder's side of one budget: what it has there, what is to be written, and what was sent without an answer."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import date

from backhaul.paid.budget.rule import Account, Batch
from backhaul.store.budgets import BudgetStore, Posting


class Occupied(Exception):
    """Another attempt has an entry here, or has taken ours away."""

    def __init__(self, attempt: int) -> None:
        super().__init__(attempt)
        self.attempt = attempt


class Ledger:
    """One budget's account, what is to be written to it, and what was sent without an answer."""

    def __init__(self, account: Account, store: BudgetStore, lock: threading.Lock) -> None:
        self.account = account
        self.pending = Batch()
        self._store = store
        self._lock = lock
        self._sent: tuple[Posting, Batch] | None = None

    def post(self, day: date, draw: int = 0, *, last: bool = False) -> bool:
        """Write what is pending and draw so much; false if the cap does not allow that, and then nothing is written."""
        if self._sent:
            # Nobody knows whether it was written: sent again it counts once. Who asked for the draw has gone by now.
            drawn = self._sent[0].held + self._sent[1].released
            if self._send(*self._sent):
                self.add(Batch(surplus=drawn))
        if last and not self.account.entry:
            self.post(day)  # two writes, because only an entry tells that a write is there already
        with self._lock:
            batch = self.pending
            if batch.is_empty and not draw and not (last and self.account.entry):
                return True
            self.pending = Batch()
        return self._send(self.account.posting(batch, draw, day, last=last), batch)

    def add(self, batch: Batch) -> None:
        """Have this written the next time."""
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
