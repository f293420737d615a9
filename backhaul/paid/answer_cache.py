"""Answers that a tenant has paid for before, by what was asked: of which model, and with which parameters."""

from __future__ import annotations

import hashlib

import msgspec

from backhaul.model.job import Job
from backhaul.providers import Answer, Provider, Request
from backhaul.store import AnswerStore


class AnswerCache:
    """The answers that one job shares with the others of its tenant; what it adds is kept as long as the job is."""

    def __init__(self, store: AnswerStore, job: Job) -> None:
        self._store = store
        self._job = job

    def find(self, provider: Provider, request: Request) -> Answer | None:
        """Return the answer to the same question, or None."""
        found = self._store.find(self._job.ref.tenant, digest_of(provider, request))
        return Answer.from_stored(found) if found else None

    def keep(self, provider: Provider, request: Request, answer: Answer) -> None:
        """Keep an answer, unless it was cut off: who asks again may have the end of it."""
        if answer.finish != "length":
            tenant, digest = self._job.ref.tenant, digest_of(provider, request)
            self._store.keep(tenant, digest, msgspec.json.encode(answer), expires_at=self._job.expires_at)


def digest_of(provider: Provider, request: Request) -> str:
    """Return what stands for a question: two that differ in anything that counts for the answer differ in it."""
    model = (provider.kind, provider.base_url, provider.region, provider.model)
    asked = msgspec.json.encode([*model, type(request).__name__, request], order="sorted")
    return hashlib.sha256(asked).hexdigest()
