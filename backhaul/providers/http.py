"""Any API that takes JSON by POST and answers with JSON, such as translation, OCR or your own service."""

from __future__ import annotations

from backhaul.providers.caller import HttpCaller
from backhaul.providers.calls import Answer, Raw, Request
from backhaul.providers.errors import ProviderRejected
from backhaul.providers.openai import raw_answer


class HttpAdapter:
    """Posts JSON to one API and returns the JSON of its answer."""

    max_texts = 0

    def __init__(self, caller: HttpCaller) -> None:
        self._caller = caller

    def call(self, request: Request, *, key: str | None = None, timeout: float | None = None) -> Answer:
        """Make one call and return its answer; raises the errors of `backhaul.providers.errors`."""
        if not isinstance(request, Raw):
            name = self._caller.provider.name
            raise ProviderRejected(f"{name} is of the kind http, which takes Raw requests only.")
        return raw_answer(self._caller, request, key, timeout)
