"""Backhaul: background file processing for AI agents; this is what a processor file imports."""

from backhaul.errors import Permanent, Transient, UnsuitableInput
from backhaul.processor import ConcurrentProcessor, Context, Processor
from backhaul.reading import Bytes, Chunk, Csv, JsonLines, Lines, Record

__all__ = [
    "Bytes",
    "Chunk",
    "ConcurrentProcessor",
    "Context",
    "Csv",
    "JsonLines",
    "Lines",
    "Permanent",
    "Processor",
    "Record",
    "Transient",
    "UnsuitableInput",
]
