"""Backhaul: background file processing for AI agents; this is what a processor file imports."""

from backhaul.errors import Permanent, Transient, UnsuitableInput
from backhaul.processor import ConcurrentProcessor, Context, Expected, Processor
from backhaul.providers import (
    Answer,
    Chat,
    Embed,
    Message,
    ModelRefused,
    PromptTooLong,
    ProviderDown,
    ProviderRejected,
    Raw,
    Usage,
    estimate_tokens,
)
from backhaul.reading import Bytes, Chunk, Csv, JsonLines, Lines, Record

__all__ = [
    "Answer",
    "Bytes",
    "Chat",
    "Chunk",
    "ConcurrentProcessor",
    "Context",
    "Csv",
    "Embed",
    "Expected",
    "JsonLines",
    "Lines",
    "Message",
    "ModelRefused",
    "Permanent",
    "Processor",
    "PromptTooLong",
    "ProviderDown",
    "ProviderRejected",
    "Raw",
    "Record",
    "Transient",
    "UnsuitableInput",
    "Usage",
    "estimate_tokens",
]
