"""Checks of the vectors that a provider returns for texts."""

from __future__ import annotations

from typing import Any

from backhaul.providers.calls import Embed
from backhaul.providers.errors import ProviderRejected, UnreadableAnswer


def checked_vectors(provider: str, request: Embed, found: Any) -> list[list[float]]:
    """Return the vectors, after a check that each text has one and that all have the right length.

    Raises `UnreadableAnswer` if they do not, and `ProviderRejected` if the provider ignored `dimensions`.
    """
    if not isinstance(found, list) or len(found) != len(request.texts) or not all(map(_is_vector, found)):
        raise UnreadableAnswer(f"{provider} did not answer with a vector for each text.")
    lengths = {len(each) for each in found}
    if len(lengths) != 1:
        raise UnreadableAnswer(f"{provider} answered with vectors of different lengths.")
    (length,) = lengths
    if request.dimensions not in (None, length):
        raise ProviderRejected(
            f"{provider} gives vectors of {length} dimensions, whatever it is asked for: leave dimensions out.",
            may_be_paid=True,
        )
    return found


def _is_vector(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(type(each) in (int, float) for each in found)
