"""Replace what identifies people in a text by typed placeholders."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from itertools import chain
from operator import itemgetter
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from backhaul import Context, Lines, Processor

Kind = Literal["email", "phone", "ipv4", "ipv6", "card"]
Span = tuple[int, int]
Finder = Callable[[str], Iterator[Span]]
"""Yields the matches in a line as (start, end), by ascending start; they may overlap."""

_LONG_LINE = 1024 * 1024
_ORDER = itemgetter(0, 1)


class Redact(Processor):
    """Replace e-mail addresses, phone numbers, IP addresses, card numbers and your own patterns.

    Every match becomes a placeholder such as `[EMAIL]`; the number and order of lines and every other byte
    stay. What overlapping matches cover becomes one placeholder: that of the match which begins first, or of
    the longer one if two begin together (your own before a built-in). The receipt counts the placeholders by name.
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
        ] = field(default_factory=dict)

        def __post_init__(self) -> None:
            """Refuse expressions that are malformed or match nothing at all."""
            if not self.types and not self.patterns:
                raise ValueError("Options 'types' and 'patterns' are both empty, so there is nothing to redact")
            for name, pattern in self.patterns.items():
                _check_pattern(name, pattern)

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._types = [_own_type(name, pattern) for name, pattern in options.patterns.items()]
        self._types += [_BUILT_IN[kind] for kind in options.types]

    def process(self, record: Any, ctx: Context) -> str:
        """Return the line with its matches replaced."""
        line: str = record
        matches = [
            _named(find(line), kind.name) for kind in self._types if kind.needs.match(line) for find in kind.finders
        ]
        return _replace(line, matches, ctx) if matches else line


@dataclass(frozen=True)
class _Type:
    name: str
    needs: re.Pattern[str]
    """What a line without a match need not even be searched for; matched from the line's start."""
    finders: tuple[Finder, ...]


def _named(spans: Iterable[Span], name: str) -> Iterator[tuple[int, int, str]]:
    for start, end in spans:
        yield start, -end, name


def _replace(line: str, matches: list[Iterator[tuple[int, int, str]]], ctx: Context) -> str:
    # Sorting is quicker; but a line of 30 MB may hold millions of matches, and merging them needs no memory.
    ordered = sorted(chain(*matches), key=_ORDER) if len(line) < _LONG_LINE else merge(*matches, key=_ORDER)
    kept: list[str] = []
    covered = 0
    for start, minus_end, name in ordered:
        if start >= covered:
            kept += (line[covered:start], f"[{name}]")
            ctx.tally(name)
        covered = max(covered, -minus_end)
    kept.append(line[covered:])
    return "".join(kept)


def _check_pattern(name: str, pattern: str) -> None:
    try:
        matches_nothing = re.compile(pattern).search("")
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"Option 'patterns': {name} is not a regular expression: {error}") from None
    if matches_nothing:
        raise ValueError(f"Option 'patterns': {name} matches the empty string, so it would match everywhere")


def _own_type(name: str, pattern: str) -> _Type:
    expression = re.compile(pattern)

    def find(line: str) -> Iterator[Span]:
        return (match.span() for match in expression.finditer(line) if match[0])

    return _Type(name, re.compile(""), (find,))


# Every expression takes linear time on any line: its repeats are bounded or possessive. Each begins with a plain
# set of characters, which the engine looks for quickly, and looks back from there.

_EMAIL = re.compile(
    r"[A-Za-z0-9_](?<![A-Za-z0-9_].)[A-Za-z0-9._%+&'-]{0,63}+"
    r"@(?:[^\W_][\w-]{0,62}+\.){1,8}(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,24})"
)
_IPV4 = re.compile(r"[0-9](?<![0-9A-Za-z_].)(?<![0-9]\..)[0-9]{0,2}+(?:\.[0-9]{1,3}+){3}(?![0-9A-Za-z_]|\.[0-9])")
# Somewhere it must have "::", or else seven colons.
_IPV6 = re.compile(
    r"[0-9A-Fa-f:](?<![0-9A-Za-z_.].)(?<![0-9A-Fa-f]:.)(?<!::.)"
    r"(?=(?<=:):|[0-9A-Fa-f:]{0,38}?::|[0-9A-Fa-f]{0,3}+:(?:[0-9A-Fa-f]{1,4}+:){5})"
    r"[0-9A-Fa-f:.]{1,44}+(?![0-9A-Za-z_])"
)
# Plain, or in groups of which the first has four digits, as every issuer prints them.
_CARD = re.compile(
    r"[2-6](?<![0-9A-Za-z_].)(?<![0-9]\..)(?=(?P<run>[0-9]{12,18}+|[0-9]{3}(?:[ -][0-9]{1,7}+){2,4})(?!\.[0-9]))"
)
_PHONE_ABROAD = re.compile(r"\+(?<![0-9A-Za-z_+].)[1-9](?:[ \u00a0\u202f\u2011().\/-]{0,2}+[0-9]){7,14}(?![0-9])")
_PHONE_AMERICAN = re.compile(
    r"[1-9](?<![0-9A-Za-z_].)(?<![0-9][.-].)(?:(?<=1)[ .-]\(?[2-9][0-9]{2}|(?<=[2-9])[0-9]{2})"
    r"(?:([.-])[0-9]{3}\1| [2-9][0-9]{2}[ -]|\)[ -]?[0-9]{3}[ .-])[0-9]{4}(?![0-9]|[.-][0-9])"
)
_PHONE_AMERICAN_AREA = re.compile(r"\([2-9][0-9]{2}\)[ .-]?[0-9]{3}[ .-][0-9]{4}(?![0-9]|[.-][0-9])")
_GAP = r"[ \u00a0\u202f-]"
_DATE = r"[0-9](?P<sep>[ /-])[0-9]{2}(?P=sep)(?:(?:19|20)[0-9]{2}(?![0-9])|[0-9]{2}(?![0-9]|(?P=sep)))"
_PHONE_TRUNK = re.compile(
    rf"0(?<![0-9A-Za-z_].)(?<![0-9][.:-].)(?!{_DATE})(?=(?P<run>"
    rf"[1-9][0-9]{{1,4}} ?/ ?[0-9]{{3,8}}+(?:{_GAP}[0-9]{{2,8}}+){{0,3}}"
    rf"|[1-9][0-9]{{0,4}}(?:{_GAP}[0-9]{{2,8}}+){{1,5}}"
    r"|[1-9](?:\.[0-9]{2}){4}(?!\.[0-9])"
    rf"|0[1-9][0-9]{{0,2}}(?:{_GAP}\(?[0-9]{{1,8}}+\)?){{2,5}}"
    r"))"
)
_PHONE_TRUNK_AREA = re.compile(rf"\((?=(?P<run>0[1-9][0-9]{{0,4}}\) ?[0-9]{{2,8}}+(?:{_GAP}[0-9]{{2,8}}+){{0,4}}))")
_EXTENSION = re.compile(r" ?(?:x|ext\.?) ?[0-9]{1,6}+")
_DIGITS = re.compile(r"[0-9]+")
_DEAD_LETTER_OR_DIGIT = re.compile(r"[0-9A-Za-z_]")
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")


def _emails(line: str) -> Iterator[Span]:
    return (match.span() for match in _EMAIL.finditer(line))


def _ipv4(line: str) -> Iterator[Span]:
    return (match.span() for match in _IPV4.finditer(line) if _is_address(IPv4Address, match[0]))


def _ipv6(line: str) -> Iterator[Span]:
    for match in _IPV6.finditer(line):
        text = match[0].rstrip(".")
        if text.endswith(":") and not text.endswith("::"):
            text = text[:-1]
        # Without a digit it is rather a name with its namespace, or "::" as an operator.
        if _DIGITS.search(text) and _is_address(IPv6Address, text):
            yield match.start(), match.start() + len(text)


def _is_address(kind: Callable[[str], object], text: str) -> bool:
    try:
        kind(text)
    except AddressValueError:
        return False
    return True


def _cards(line: str) -> Iterator[Span]:
    for match in _CARD.finditer(line):
        end = _longest(line, match.start(), match.end("run"), range(13, 20), _has_check_digit)
        if end:
            yield match.start(), end


def _has_check_digit(number: str) -> bool:
    """Return whether the last digit fits the others (the Luhn algorithm, ISO/IEC 7812-1)."""
    digits = number.encode()
    return (sum(digits[::-2] + digits[-2::-2].translate(_DOUBLED)) - 48 * len(digits)) % 10 == 0


def _phones_as_matched(expression: re.Pattern[str]) -> Finder:
    def find(line: str) -> Iterator[Span]:
        return ((match.start(), _with_extension(line, match.end())) for match in expression.finditer(line))

    return find


def _phones_with_trunk_prefix(expression: re.Pattern[str]) -> Finder:
    def find(line: str) -> Iterator[Span]:
        for match in expression.finditer(line):
            lengths = range(10, 18) if line.startswith("00", match.start()) else range(9, 13)
            end = _longest(line, match.start(), match.end("run"), lengths)
            if end:
                yield match.start(), _with_extension(line, end)

    return find


def _with_extension(line: str, end: int) -> int:
    match = _EXTENSION.match(line, end)
    return match.end() if match else end


def _longest(
    line: str, start: int, end: int, lengths: range, accept: Callable[[str], bool] = lambda _: True
) -> int | None:
    """Return where the longest acceptable number ends that begins at `start` and ends with a group of digits."""
    groups = list(_DIGITS.finditer(line, start, end))
    while groups:
        end = groups[-1].end()
        number = "".join(group[0] for group in groups)
        if len(number) in lengths and accept(number) and _stands_apart(line, end):
            return end
        groups.pop()
    return None


def _stands_apart(line: str, end: int) -> bool:
    return not _DEAD_LETTER_OR_DIGIT.match(line, end) or _EXTENSION.match(line, end) is not None


_BUILT_IN: dict[Kind, _Type] = {
    "email": _Type("EMAIL", re.compile("[^@]*+@"), (_emails,)),
    "phone": _Type(
        "PHONE",
        re.compile("(?:[^0-9]*+[0-9]){8}"),
        (
            _phones_as_matched(_PHONE_ABROAD),
            _phones_as_matched(_PHONE_AMERICAN),
            _phones_as_matched(_PHONE_AMERICAN_AREA),
            _phones_with_trunk_prefix(_PHONE_TRUNK),
            _phones_with_trunk_prefix(_PHONE_TRUNK_AREA),
        ),
    ),
    "ipv4": _Type("IPV4", re.compile("(?:[^0-9]*+[0-9]){4}"), (_ipv4,)),
    "ipv6": _Type("IPV6", re.compile("(?:[^:]*+:){2}"), (_ipv6,)),
    "card": _Type("CARD", re.compile("(?:[^0-9]*+[0-9]){13}"), (_cards,)),
}
