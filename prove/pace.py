"""What botocore and moto do over and over for each of a proof's hundred thousand requests, done once."""

from __future__ import annotations

import functools
import gc
from typing import Any

from botocore import useragent
from botocore.hooks import EventAliaser
from botocore.loaders import JSONFileLoader, Loader
from moto.core import responses, utils
from moto.core.serialize import AttributePicker


@functools.cache
def set_pace() -> None:
    """Make requests cheaper in this process, with the same answers."""
    _load_models_once()
    _find_models_once()
    _alias_events_once()
    _find_attributes_at_once()


@functools.cache
def freeze() -> None:
    """Let the garbage collector pass over what has been loaded by now: service models are large, and for ever."""
    gc.collect()
    gc.freeze()


def _load_models_once() -> None:
    JSONFileLoader.load_file = _of_path(functools.cache(JSONFileLoader().load_file))  # type: ignore[method-assign]
    sanitize = functools.cache(useragent.sanitize_user_agent_string_component)
    useragent.sanitize_user_agent_string_component = sanitize
    names = functools.cache(utils.method_names_from_class)
    responses.method_names_from_class = names  # type: ignore[attr-defined]


def _of_path(load: Any) -> Any:
    return lambda _, path: load(path)


def _find_models_once() -> None:
    """Spare each new session the search of four hundred folders for the newest model of each service."""
    find: Any = Loader.load_service_model
    found: dict[tuple[Any, ...], Any] = {}

    def once(loader: Loader, *wanted: Any, **named: Any) -> Any:
        key = (*loader.search_paths, *wanted, *sorted(named.items()))
        if key not in found:
            found[key] = find(loader, *wanted, **named)
        return found[key]

    Loader.load_service_model = once  # type: ignore[method-assign, assignment]


def _alias_events_once() -> None:
    """Spare each new client the search for the present names of the same events."""
    aliaser: Any = EventAliaser  # the stubs leave out what is private
    alias = functools.cache(aliaser(None)._alias_event_name)
    aliaser._alias_event_name = lambda _, event: alias(event)


def _find_attributes_at_once() -> None:
    """Spare moto the search for each of the ten types of a DynamoDB value under all of its possible names."""
    pick = AttributePicker.__call__

    def picked(picker: AttributePicker, context: Any) -> Any:
        if isinstance(context.obj, dict) and len(context.obj) == 1 and context.shape.parent.name == "AttributeValue":
            return context.obj.get(context.key)
        return pick(picker, context)

    AttributePicker.__call__ = picked  # type: ignore[method-assign, assignment]
