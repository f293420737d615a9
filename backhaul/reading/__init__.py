"""Cutting an input into chunks, and reading a chunk's records, wherever the chunk's borders fall."""

from backhaul.model.chunk import Chunk, Record, Source
from backhaul.reading.delimited import Csv
from backhaul.reading.lines import AsJsonLines, JsonLines, Lines
from backhaul.reading.raw import Bytes
from backhaul.reading.reader import Reader
from backhaul.reading.window import FileSource, Window

__all__ = [
    "AsJsonLines",
    "Bytes",
    "Chunk",
    "Csv",
    "FileSource",
    "JsonLines",
    "Lines",
    "Reader",
    "Record",
    "Source",
    "Window",
]
