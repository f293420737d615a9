"""Count what is in a text."""

from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import nsmallest
from itertools import islice
from typing import Annotated

from msgspec import Meta, json

from backhaul import Context, Lines, Processor, Record

_LINES_AT_ONCE = 2048


class TextStats(Processor):
    """Count lines, words, characters and bytes, and find the longest line and the commonest words.

    The output is one JSON object. A line ends with LF or CRLF, and a last line without an ending counts;
    words are what `str.split()` gives; a leading byte-order mark counts in `bytes` only.
    """

    name = "text-stats"
    reads = Lines()
    content_type = "application/json"

    class Options(Processor.Options, frozen=True):
        """How much the answer holds."""

        top: Annotated[int, Meta(ge=0, le=10_000, description="How many of the commonest words to list.")] = 20

    def process_chunk(self, records: Iterator[Record], ctx: Context) -> Iterable[bytes]:
        """Yield the chunk's counts as JSON, with every word that occurs in it."""
        lines = characters = size = longest = 0
        words: Counter[str] = Counter()
        while batch := list(islice(records, _LINES_AT_ONCE)):
            texts = [record.value for record in batch]
            endings = b"".join([record.ending for record in batch])
            text = "\n".join(texts)
            # A file that is nothing but a byte-order mark is one record, and no line.
            lines += len(batch) if text or endings else 0
            characters += len(text) - (len(batch) - 1) + len(endings)
            size += batch[-1].start + batch[-1].size - batch[0].start
            longest = max(longest, *map(len, texts))
            words.update(text.split())
        yield _json(lines=lines, characters=characters, bytes=size, longest_line=longest, words=words)

    def merge(self, results: Iterator[bytes], ctx: Context) -> Iterable[bytes]:
        """Yield the sums over all chunks as one JSON object."""
        total: Counter[str] = Counter()
        longest = 0
        words: Counter[str] = Counter()
        for counts in map(json.decode, results):
            longest = max(longest, counts["longest_line"])
            words.update(counts["words"])
            total.update({name: counts[name] for name in ("lines", "characters", "bytes")})
        yield _json(
            lines=total["lines"],
            words=words.total(),
            characters=total["characters"],
            bytes=total["bytes"],
            longest_line=longest,
            top_words=nsmallest(self.options.top, words.items(), key=lambda item: (-item[1], item[0])),
        )


def _json(**values: object) -> bytes:
    return json.encode(values) + b"\n"
