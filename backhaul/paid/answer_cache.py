"""The cache of answers that a tenant has already paid for, by model, question and parameters."""

from __future__ import annotations

import hashlib

import msgspec

from backhaul.model.job import Job
from backhaul.providers import Answer, Provider, Request
from backhaul.store import AnswerStore


class AnswerCache:
    """The answers that one job shares with its tenant's other jobs; those that it adds are kept as long as the job."""

    def __init__(self, store: AnswerStore, job: Job) -> None:
        self._store = store
        self._job = job

    def find(self, provider: Provider, request: Request) -> Answer | None:
        """Return the stored answer to the same question; None if there is none."""
        found = self._store.find(self._job.ref.tenant, digest_of(provider, request))
        return Answer.from_stored(found) if found else None

    def keep(self, provider: Provider, request: Request, answer: Answer) -> None:
        """Store an answer, unless the model's length limit cut it off: another call may return all of it."""
        if answer.finish != "length":
            tenant, digest = self._job.ref.tenant, digest_of(provider, request)
            self._store.keep(tenant, digest, msgspec.json.encode(answer), expires_at=self._job.expires_at)


def digest_of(provider: Provider, request: Request) -> str:
    """Return the digest of a question; questions that differ in anything that may change the answer differ in it."""
    model = (provider.kind, provider.base_url, provider.region, provider.model)
    asked = msgspec.json.encode([*model, type(request).__name__, request], order="sorted")
    return hashlib.sha256(asked).hexdigest()
