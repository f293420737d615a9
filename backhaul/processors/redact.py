"""Replace what identifies people in a text by typed placeholders."""

import re
from collections.abc import Callable, Iterator
from heapq import merge
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Annotated, Any, Literal

from msgspec import Meta

from backhaul import Context, Lines, Processor

Kind = Literal["email", "phone", "ipv4", "ipv6", "card"]
Span = tuple[int, int]
Finder = Callable[[str], Iterator[Span]]
"""Yields the matches in a line as (start, end), by ascending start; they may overlap."""


class Redact(Processor):
    """Replace e-mail addresses, phone numbers, IP addresses, card numbers and your own patterns.

    Every match becomes a placeholder such as `[EMAIL]`; the number and order of lines and every other byte
    stay. What overlapping matches cover becomes one placeholder: that of the match which begins first, or of
    the longer one if two begin together. The receipt counts the placeholders by name.
    """

    name = "redact"
    reads = Lines()
    content_type = "text/plain; charset=utf-8"

    class Options(Processor.Options, frozen=True):
        """What is replaced."""

        types: Annotated[
            tuple[Kind, ...], Meta(description="Which built-in types to replace; default: all of them.")
        ] = ("email", "phone", "ipv4", "ipv6", "card")
        patterns: Annotated[
            dict[
                Annotated[str, Meta(pattern="^[A-Z][A-Z0-9_]{0,31}$")],
                Annotated[str, Meta(min_length=1, max_length=200)],
            ],
            Meta(max_length=20, description="Your own types: placeholder name to Python regular expression."),
        ] = {}

        def __post_init__(self) -> None:
            """Refuse expressions that are malformed or match nothing at all."""
            if not self.types and not self.patterns:
                raise ValueError("Options 'types' and 'patterns' are both empty, so there is nothing to redact")
            for name, pattern in self.patterns.items():
                _check_pattern(name, pattern)

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._finders: list[tuple[str, Finder]] = [
            (name, _finder(pattern)) for name, pattern in options.patterns.items()
        ]
        self._finders += [(kind.upper(), find) for kind in options.types for find in _FINDERS[kind]]

    def process(self, record: Any, ctx: Context) -> str:
        """Return the line with its matches replaced."""
        line: str = record
        kept: list[str] = []
        covered = 0
        # Merged lazily: a line of 30 MB may hold millions of matches.
        for start, minus_end, _, name in merge(*self._matches(line)):
            if start >= covered:
                kept += (line[covered:start], f"[{name}]")
                ctx.tally(name)
            covered = max(covered, -minus_end)
        return "".join([*kept, line[covered:]]) if kept else line

    def _matches(self, line: str) -> Iterator[Iterator[tuple[int, int, int, str]]]:
        for rank, (name, find) in enumerate(self._finders):
            yield _ranked(find(line), rank, name)


def _ranked(spans: Iterator[Span], rank: int, name: str) -> Iterator[tuple[int, int, int, str]]:
    for start, end in spans:
        yield start, -end, rank, name


def _check_pattern(name: str, pattern: str) -> None:
    try:
        matches_nothing = re.compile(pattern).search("")
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"Option 'patterns': {name} is no regular expression: {error}") from None
    if matches_nothing:
        raise ValueError(f"Option 'patterns': {name} matches the empty string, so it would match everywhere")


def _finder(pattern: str) -> Finder:
    expression = re.compile(pattern)

    def find(line: str) -> Iterator[Span]:
        return (match.span() for match in expression.finditer(line) if match[0])

    return find


# Every expression takes linear time on any line: its repeats are bounded or possessive. Each begins with a plain
# set of characters, which the engine looks for quickly, and looks back from there.

_EMAIL = re.compile(
    r"[A-Za-z0-9_](?<![A-Za-z0-9_].)[A-Za-z0-9._%+&'-]{0,63}+"
    r"@(?:[^\W_][\w-]{0,62}+\.){1,8}(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,24})"
)
_IPV4 = re.compile(
    r"[0-9](?<![0-9A-Za-z_].)(?<![0-9]\..)[0-9]{0,2}+(?:\.[0-9]{1,3}+){3}(?![0-9A-Za-z_]|\.[0-9])"
)
_IPV6 = re.compile(
    r"[0-9A-Fa-f:](?<![0-9A-Za-z_.].)(?<![0-9A-Fa-f]:.)(?<!::.)"
    r"(?<=(?=[0-9A-Fa-f:]{0,38}::|(?:[0-9A-Fa-f]{1,4}+:){6}).)"
    r"[0-9A-Fa-f:.]{1,44}+(?![0-9A-Za-z_])"
)
_CARD = re.compile(
    r"[2-6](?<![0-9A-Za-z_].)(?<![0-9]\..)"
    r"(?=([0-9]{12,18}+|[0-9]{3}(?:[ -][0-9]{1,7}+){2,4})(?!\.[0-9]))"
)
_GAP = r"[ \u00a0\u202f-]"
_PHONE_ABROAD = re.compile(r"\+(?<![0-9A-Za-z_+].)[1-9](?:[ \u00a0\u202f().\u2011/-]{0,2}+[0-9]){7,14}(?![0-9])")
_PHONE_AMERICAN = re.compile(
    r"[(1-9](?<![0-9A-Za-z_].)(?<![0-9][.-].)(?:(?<=1)[ .-](?=[(2-9])|(?<=[(2-9]))"
    r"(?:(?<=\()[2-9][0-9]{2}\)[ -]?[0-9]{3}[ .-][0-9]{4})"
)
