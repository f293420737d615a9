"""Backhaul: background file processing for AI agents; this is what a processor file imports."""

from backhaul.model.errors import Permanent, Transient, UnsuitableInput
from backhaul.plugin.answer_schema import AnswerSchema, InvalidAnswer
from backhaul.plugin.concurrency import ConcurrentProcessor
from backhaul.plugin.context import Context
from backhaul.plugin.processor import Expected, Processor
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
    estimate_input,
    estimate_tokens,
)
from backhaul.reading import AsJsonLines, Bytes, Chunk, Csv, JsonLines, Lines, Record

__all__ = [
    "Answer",
    "AnswerSchema",
    "AsJsonLines",
    "Bytes",
    "Chat",
    "Chunk",
    "ConcurrentProcessor",
    "Context",
    "Csv",
    "Embed",
    "Expected",
    "InvalidAnswer",
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
    "estimate_input",
    "estimate_tokens",
]
