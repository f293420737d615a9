"""A rough count of tokens before a call, from which its cost is estimated."""

from __future__ import annotations

import re
from math import ceil

_PIECES = re.compile(
    r"(?P<short>'(?:s|t|re|ve|m|ll|d)\b)"  # I'm, it's
    r"|(?P<other>[A-Za-z]{0,30}[À-ɏ][A-Za-zÀ-ɏ]*)"  # a Latin word with an accent; bounded, so that no text takes long
    r"|(?P<word>[A-Z]?[a-z]+)"
    r"|(?P<capitals>[A-Z]+)"
    r"|(?P<digits>[0-9]+)"
    r"|(?P<break>[ \t]*[\r\n]\s*)"
    r"|(?P<space>[ \t]{2,})"
    r"|(?P<mark>[!-/:-@\[-`{-~]+)"
    r"|(?P<han>[⺀-⿿㐀-䶿一-鿿豈-﫿]+)"
    r"|(?P<kana>[぀-ヿ]+)"
    r"|(?P<hangul>[가-힣]+)"
    r"|(?P<cyrillic>[Ͱ-ӿ]+)"  # and Greek
    r"|(?P<letters>[֐-῿]+)"  # Hebrew, Arabic, the scripts of India and South-East Asia
    r"|(?P<control>[\x00-\x08\x0e-\x1b\x7f]+)"
    r"|(?P<general>[¡-¿\u2000-\u2e7f\u3000-\u303f\uff00-\uffef]+)"  # typographic marks
    r"|(?P<rare>[^\s])"
)
_FOREIGN = frozenset(
    re.findall(
        r"\S+",
        "der die das und ist nicht ein eine mit auf den dem des zu im von für sich auch wird sind "
        "le la les et des est un une dans que pour du el los las en y por con del se il di che è per "
        "de do da em os het een van niet i w na z nie som och att det",
    )
)
_ENGLISH = frozenset(
    re.findall(
        r"\S+",
        "the of and to a in is that it for was on are as with be by at this have from or an not you but we i",
    )
)
_COSTS = {
    "short": (1, 9, 1.0),
    "word": (1, 8, 4.5),
    "word abroad": (1, 4, 4.8),
    "other": (1, 3, 4.2),
    "capitals": (1, 2, 3.5),
    "break": (1, 99, 99.0),
    "space": (1, 99, 99.0),
    "mark": (1, 3, 3.0),
    "han": (0, 0, 1.4),
    "kana": (0, 0, 1.6),
    "hangul": (0, 0, 2.0),
    "cyrillic": (1, 3, 4.5),
    "letters": (0, 0, 2.2),
    "control": (0, 0, 1.0),
    "general": (0, 0, 1.0),
    "rare": (0, 0, 0.5),
}
"""For each kind of piece: the tokens of every piece, the characters that these cover, and the characters of each
further token."""
_EVIDENCE = 0.1
"""The share of words with accents, or of another language's small words, above which a text is not English."""


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has, as OpenAI's `o200k_base` counts them.

    The error is within 20 % for English prose, code, JSON, German and Chinese of twenty words or more, and within
    about 35 % for other languages. Other tokenizers differ: older ones take up to half more for other languages than
    English, and some recent ones take a third more for every text.
    """
    foreign = _is_foreign(text)
    total = 0.0
    for match in _PIECES.finditer(text):
        total += _cost(match.lastgroup or "", match.end() - match.start(), foreign)
    return ceil(total)


def _is_foreign(text: str) -> bool:
    """Return whether the Latin words are mostly not English: a rarer language's words make more tokens."""
    words = re.findall(r"[A-Za-zÀ-ɏ]+", text[:20_000])
    foreign = sum(not word.isascii() or word.lower() in _FOREIGN for word in words)
    english = sum(word.lower() in _ENGLISH for word in words)
    return foreign > english and foreign >= _EVIDENCE * len(words)


def _cost(kind: str, size: int, foreign: bool) -> float:
    if kind == "digits":
        return ceil(size / 3)
    base, whole, each = _COSTS["word abroad" if foreign and kind == "word" else kind]
    return base + max(0, size - whole) / each
