"""Say what a job would take, without its file: chunks, calls, tokens, what they cost, and how long it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from backhaul.estimate.estimate import Estimate, Sampled, Workforce, extrapolate
from backhaul.estimate.sampling import LARGEST, Look, TextSource, look_at, look_at_beginning, problem_of
from backhaul.model.clock import Clock
from backhaul.model.errors import CannotEstimate, InvalidRequest
from backhaul.model.interruption import Interrupted, InterruptReason
from backhaul.model.limit import Rate
from backhaul.model.settings import Settings
from backhaul.model.shard import KIB, MAX_CHUNKS, check_size, choose_chunk_bytes
from backhaul.paid.channels import rate_of
from backhaul.plugin.concurrency import ConcurrentProcessor
from backhaul.plugin.processor import Expected, Processor
from backhaul.plugin.registry import Registry
from backhaul.providers import Provider, UnknownProvider
from backhaul.store.providers import ProviderStore
from backhaul.worker.interrupter import Interrupter

T = TypeVar("T")

MAX_SAMPLE = 256 * KIB
"""Bytes of text, as UTF-8, that an estimate may be asked for with."""
ESTIMATE_SECONDS = 5.0
"""How long a processor may take to say what it expects of that."""


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller has read of its file itself, as `backhaul estimate` does: counts, and nothing of what is in it."""

    bytes: Annotated[int, Meta(ge=1)]
    records: Annotated[int, Meta(ge=0)]
    chunks: Annotated[int, Meta(ge=1, le=MAX_CHUNKS)]
    calls: Annotated[tuple[Expected, ...], Meta(max_length=100)] = ()
    error: Annotated[float, Meta(ge=0, le=1)] = 0.0

    def look(self, size: int) -> Look:
        """Return it as if it had been read here; raises `InvalidRequest` for numbers that cannot be true."""
        if self.bytes > size or self.records > self.bytes or self.chunks > size:
            raise InvalidRequest("expected: bytes and chunks are no more than size, and records no more than bytes.")
        for each in self.calls:
            if problem := problem_of(each):
                raise InvalidRequest(f"expected.calls: {problem}.")
        return Look(self.chunks, Sampled(self.bytes, self.records, self.calls, self.error))


class EstimateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that is not there: its size, and what is `expected` of it, or its beginning as a `sample`."""

    processor: str
    size: int
    options: dict[str, Any] = {}
    expected: Told | None = None
    sample: str | None = None

    @classmethod
    def from_json(cls, body: str | bytes) -> EstimateRequest:
        """Read a request body; raises `InvalidRequest` naming the field that is wrong."""
        try:
            request = msgspec.convert(msgspec.json.decode(body), cls)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidRequest(f"The request body is not what POST /estimate takes: {error}.") from None
        if (request.expected is None) is (request.sample is None):
            raise InvalidRequest("Give either expected or sample: docs/api.md shows both.")
        return request


def estimate(
    request: EstimateRequest, *, registry: Registry, providers: ProviderStore, settings: Settings, clock: Clock
) -> Estimate:
    """Return what a job for such a file will take; calls nobody, and stores nothing.

    Raises `InvalidRequest`, `UnsuitableInput` for a sample that the processor cannot read, and `CannotEstimate`.
    """
    processor = registry.create(request.processor, request.options)
    check_size(request.size, settings.max_upload_bytes, processor.options.chunk_bytes)
    if request.expected is not None:
        look = request.expected.look(request.size)
    else:
        look = _look_at_sample(request, registry, clock)
    at_a_time = processor.options.concurrency if isinstance(processor, ConcurrentProcessor) else 1
    return extrapolate(
        request.processor,
        request.size,
        look.chunks,
        look.sampled,
        providers=_providers(look, request.size, providers),
        workforce=Workforce(settings.max_workers, at_a_time, settings.worker_seconds),
    )


def _look_at_sample(request: EstimateRequest, registry: Registry, clock: Clock) -> Look:
    text = (request.sample or "").encode()
    if not 0 < len(text) <= min(MAX_SAMPLE, request.size):
        raise InvalidRequest(
            f"sample has {len(text):,} bytes; it must have 1 to {MAX_SAMPLE:,}, and no more than size."
        )

    def create() -> Processor:
        return registry.create(request.processor, request.options)

    if len(text) == request.size:
        return _in_time(lambda: look_at(create, TextSource(text)), clock)
    # What the cut has left of its last record is no record.
    whole = text[: text.rfind(b"\n") + 1] or text
    sampled = _in_time(lambda: look_at_beginning(create(), TextSource(whole)), clock)
    nominal = create().options.chunk_bytes or choose_chunk_bytes(request.size)
    return Look(-(-request.size // nominal), sampled)


def _in_time(look: Callable[[], T], clock: Clock) -> T:
    """Return what is found in time; the processor's code may hang."""
    end = clock.monotonic() + ESTIMATE_SECONDS
    interrupter = Interrupter(lambda: InterruptReason.TOO_SLOW if clock.monotonic() >= end else None)
    with interrupter.installed():
        interrupter.arm()
        try:
            return look()
        except Interrupted:
            raise CannotEstimate(
                f"The processor took longer than {ESTIMATE_SECONDS:.0f} s for the sample. Send less of the file."
            ) from None
        finally:
            interrupter.disarm()


def _providers(look: Look, size: int, store: ProviderStore) -> dict[str, tuple[Provider, Rate | None]]:
    found = {}
    for each in look.sampled.calls:
        if max(each.calls, each.input_tokens, each.max_output_tokens) * size / look.sampled.bytes > LARGEST:
            raise InvalidRequest(f"What is expected of {each.provider} is more than any job could ask for.")
        try:
            provider = store.get(each.provider)
        except UnknownProvider as error:
            raise InvalidRequest(str(error)) from None
        found[each.provider] = provider, rate_of(provider)
    return found
