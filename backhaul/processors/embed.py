"""Turn texts into vectors."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta

from backhaul import (
    AsJsonLines,
    ConcurrentProcessor,
    Context,
    Csv,
    Embed,
    Expected,
    JsonLines,
    Lines,
    Permanent,
    PromptTooLong,
    estimate_tokens,
)

_READERS = {"jsonl": JsonLines, "csv": Csv, "lines": Lines}
_UNIT = re.compile(r"\s*\S{1,20}")
"""What is never cut: a word, or twenty characters of what knows no spaces."""


class NoText(Permanent):
    """What is to be a record's text is empty, or none."""

    code = "no_text"


class MissingField(Permanent):
    """A record lacks the field that is to hold its text."""

    code = "missing_field"


class EmbedTexts(ConcurrentProcessor):
    """Turn the texts of a JSON Lines, CSV or text file into vectors, and write them as JSON Lines.

    Every record becomes one line, in the order of the input: `{"input": …, "embedding": […]}`. With `split_tokens` it
    becomes one line for each piece of its text.
    """

    name = "embed"
    reads = AsJsonLines(JsonLines())
    content_type = "application/jsonl"

    class Options(ConcurrentProcessor.Options, frozen=True, kw_only=True):
        """Whom to ask, and for which texts."""

        provider: Annotated[str, Meta(min_length=1, description="The provider to ask.")]
        text: Annotated[str, Meta(min_length=1, description="The field that holds a record's text.")] = "text"
        format: Annotated[Literal["jsonl", "csv", "lines"], Meta(description="The format of the input.")] = "jsonl"
        batch: Annotated[int, Meta(ge=1, le=2048, description="How many texts to send with one call.")] = 64
        dimensions: (
            Annotated[int, Meta(ge=1, description="The length of each vector, for models that offer several.")] | None
        ) = None
        split_tokens: (
            Annotated[int, Meta(ge=32, description="Cut texts into pieces of about this many tokens.")] | None
        ) = None
        overlap: Annotated[
            int, Meta(ge=0, description="How many tokens two neighbouring pieces share; at most half of split_tokens.")
        ] = 0
        on_error: Annotated[
            Literal["keep", "fail"],
            Meta(description="What to do with a record without a vector: keep it, with its error, or fail its chunk."),
        ] = "keep"
        concurrency: Annotated[
            int, Meta(ge=1, le=64, description="How many batches each worker has in work at a time.")
        ] = 4

        def __post_init__(self) -> None:
            """Refuse an overlap of nothing, or one that would hardly get on."""
            if 2 * self.overlap > (self.split_tokens or 0):
                raise ValueError("Option 'overlap' needs 'split_tokens', and is at most half of it")

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.reads = AsJsonLines(_READERS[options.format]())
        self.group = options.batch

    def process(self, record: Any, ctx: Context) -> list[dict[str, Any]]:
        """Return the lines of one record."""
        try:
            return self._lines_of([record], ctx)[0]
        except PromptTooLong as error:
            if self.options.on_error == "fail":
                raise
            return [_without_vector(record, error, ctx)]

    def process_group(self, records: Sequence[Any], ctx: Context) -> list[list[dict[str, Any]]]:
        """Return the lines of each record."""
        return self._lines_of(records, ctx)

    def expect(self, records: Sequence[Any]) -> Iterator[Expected]:
        """Yield what the calls will take: vectors have no output tokens."""
        left, calls, tokens = iter(records), 0, 0
        for several in iter(lambda: list(islice(left, self.group)), []):
            texts = [text for record in several for text in self._texts_of(record)]
            calls += -(-len(texts) // self.options.batch)
            tokens += sum(map(estimate_tokens, texts))
        yield Expected(provider=self.options.provider, calls=calls, input_tokens=tokens)

    def _lines_of(self, records: Sequence[Any], ctx: Context) -> list[list[dict[str, Any]]]:
        texts = [self._texts_of(record) for record in records]
        vectors = iter(self._vectors([text for several in texts for text in several], ctx))
        return [self._lines(*each, vectors, ctx) for each in zip(records, texts, strict=True)]

    def _lines(
        self, record: Any, texts: Sequence[str], vectors: Iterator[list[float]], ctx: Context
    ) -> list[dict[str, Any]]:
        if not texts:
            return [_without_vector(record, NoText("The record has no text."), ctx)]
        if self.options.split_tokens is None:
            return [{"input": record, "embedding": next(vectors)}]
        field = self.options.text
        rest = {name: value for name, value in record.items() if name != field} if isinstance(record, dict) else None
        return [
            {"input": rest, "part": part, "parts": len(texts), "text": text, "embedding": next(vectors)}
            for part, text in enumerate(texts, 1)
        ]

    def _vectors(self, texts: Sequence[str], ctx: Context) -> Iterator[list[float]]:
        for start in range(0, len(texts), self.options.batch):
            some = texts[start : start + self.options.batch]
            request = Embed(texts=tuple(some), dimensions=self.options.dimensions)
            yield from ctx.call(self.options.provider, request, name=f"texts {start}").content

    def _texts_of(self, record: Any) -> list[str]:
        """Return a record's text, or the pieces of it; nothing if it is empty."""
        text = record
        if isinstance(record, dict):
            if self.options.text not in record:
                raise MissingField(f"The record has no field {self.options.text!r}; the option 'text' names another.")
            text = record[self.options.text]
        if not isinstance(text, str) or not text.strip():
            if self.options.on_error == "fail":
                raise NoText("The record has no text.")
            return []
        text = text.encode(errors="replace").decode()  # half a surrogate pair, which JSON lets in and no request takes
        most = self.options.split_tokens
        return [text] if most is None else list(_pieces(text, most, self.options.overlap))


def _without_vector(record: Any, error: NoText | PromptTooLong, ctx: Context) -> dict[str, Any]:
    ctx.tally(f"error {error.code}")
    return {"input": record, "embedding": None, "error": {"code": error.code, "message": str(error)}}


class _Unit(NamedTuple):
    start: int
    end: int
    tokens: int


def _pieces(text: str, most: int, overlap: int) -> Iterator[str]:
    """Yield the text in pieces of so many tokens at most, each beginning with the last words of the one before."""
    units = [_Unit(*match.span(), estimate_tokens(match[0])) for match in _UNIT.finditer(text)]
    begin = 0
    while begin < len(units):
        end, tokens = begin, 0
        while end < len(units) and (end == begin or tokens + units[end].tokens <= most):
            tokens += units[end].tokens
            end += 1
        yield text[units[begin].start : units[end - 1].end].strip()
        if end == len(units):
            return
        first, begin, tokens = begin + 1, end, 0
        room = min(overlap, most - units[end].tokens)  # the next piece has to get on
        while begin > first and tokens + units[begin - 1].tokens <= room:
            begin -= 1
            tokens += units[begin].tokens
