"""Estimate a job without its file: its chunks, calls and tokens, what they cost, and how long the job takes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from backhaul.estimate.estimate import Estimate, Sampled, Workforce, extrapolate
from backhaul.estimate.sampling import LARGEST, Look, TextSource, look_at, look_at_beginning, problem_of
from backhaul.model.clock import Clock
from backhaul.model.errors import CannotEstimate, InvalidRequest
from backhaul.model.limit import Rate
from backhaul.model.settings import Settings
from backhaul.model.shard import KIB, MAX_CHUNKS, check_size, choose_chunk_bytes
from backhaul.paid.channels import rate_of
from backhaul.plugin.concurrency import ConcurrentProcessor
from backhaul.plugin.options import check_extent
from backhaul.plugin.processor import Expected, Processor
from backhaul.plugin.registry import Registry
from backhaul.providers import Provider, UnknownProvider
from backhaul.store.providers import ProviderStore
from backhaul.worker.time_limit import MAX_REQUEST_SECONDS, TimeLimit, slow_options

MAX_SAMPLE = 256 * KIB
"""Bytes of the longest sample text in a request, in UTF-8."""


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts that a caller made from its own file, as `backhaul estimate` does; they hold nothing of its content."""

    bytes: Annotated[int, Meta(ge=1)]
    records: Annotated[int, Meta(ge=0)]
    chunks: Annotated[int, Meta(ge=1, le=MAX_CHUNKS)]
    calls: Annotated[tuple[Expected, ...], Meta(max_length=100)] = ()
    error: Annotated[float, Meta(ge=0, le=1)] = 0.0

    def look(self, size: int) -> Look:
        """Return the counts as a `Look` at a file of `size` bytes; raises `InvalidRequest` for impossible numbers."""
        if self.bytes > size or self.records > self.bytes or self.chunks > size:
            raise InvalidRequest("expected: bytes and chunks are no more than size, and records no more than bytes.")
        for each in self.calls:
            if problem := problem_of(each):
                raise InvalidRequest(f"expected.calls: {problem}.")
        return Look(self.chunks, Sampled(self.bytes, self.records, self.calls, self.error))


class EstimateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file by its size in bytes, with either the counts that are `expected` of it or its beginning as a `sample`."""

    processor: str
    size: int
    options: dict[str, Any] = {}
    expected: Told | None = None
    sample: str | None = None

    @classmethod
    def from_json(cls, body: str | bytes) -> EstimateRequest:
        """Read a request body; raises `InvalidRequest` with the name of the invalid field."""
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
    """Return what a job for such a file will take; it calls no provider and stores nothing.

    Raises `InvalidRequest`, `UnsuitableInput` for a sample that the processor cannot read, and `CannotEstimate`.
    """
    limit = TimeLimit(clock)
    check_extent(request.options)
    processor = limit.run(lambda: registry.create(request.processor, request.options), slow_options())
    check_size(request.size, settings.max_upload_bytes, processor.options.chunk_bytes)
    if request.expected is not None:
        look = request.expected.look(request.size)
    else:
        look = _look_at_sample(request, registry, limit)
    at_a_time = processor.options.concurrency if isinstance(processor, ConcurrentProcessor) else 1
    return extrapolate(
        request.processor,
        request.size,
        look.chunks,
        look.sampled,
        providers=_providers(look, request.size, providers),
        workforce=Workforce(settings.max_workers, at_a_time, settings.worker_seconds),
    )


def _look_at_sample(request: EstimateRequest, registry: Registry, limit: TimeLimit) -> Look:
    text = (request.sample or "").encode()
    if not 0 < len(text) <= min(MAX_SAMPLE, request.size):
        raise InvalidRequest(
            f"sample has {len(text):,} bytes; it must have 1 to {MAX_SAMPLE:,}, and no more than size."
        )

    def create() -> Processor:
        return registry.create(request.processor, request.options)

    def look() -> Look:
        if len(text) == request.size:
            return look_at(create, TextSource(text))
        # The sample ends in the middle of a record, so its last, incomplete line is left out.
        whole = text[: text.rfind(b"\n") + 1] or text
        processor = create()
        nominal = processor.options.chunk_bytes or choose_chunk_bytes(request.size)
        return Look(-(-request.size // nominal), look_at_beginning(processor, TextSource(whole)))

    return limit.run(
        look,
        CannotEstimate(
            f"The processor took longer than {MAX_REQUEST_SECONDS:.0f} s for the sample. Send less of the file."
        ),
    )


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
