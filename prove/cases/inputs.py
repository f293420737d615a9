"""Inputs that fail, or that only look simple: what comes out is compared with a plain run in this process."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from random import Random
from typing import Any

from backhaul import Context, Csv, JsonLines, Processor
from prove.faults import Fault, at
from prove.registry import Trial, case
from prove.work import POISON, RECORD_BYTES, lines


@case("F37", "A chunk always fails; its neighbours in the shard do not, and the receipt names it.")
def poison(trial: Trial) -> None:
    data = bytearray(lines(trial.random, 27))
    bad = trial.random.sample(range(27), trial.random.randrange(1, 4))
    for number in bad:
        data[number * RECORD_BYTES + 13 : (number + 1) * RECORD_BYTES - 1] = POISON.ljust(8)[:8].encode()
    kill = Fault("kill before", at("process", "commit"), skip=trial.random.randrange(4))
    with trial.world(kill) as world:
        job = world.submit(bytes(data))
        trial.expect(world.run(), "the deployment does not settle")
        trial.check(world, job, ends="PARTIAL", rework_records=None)
        chunks = {number // 3 for number in bad}
        receipt = json.loads(world.final().objects[_ref(world.job(job)["receipt"])])
        named = {each["index"] for each in receipt["missing"]}
        trial.expect(named == chunks, f"the receipt names {sorted(named)} and not {sorted(chunks)}")


def _ref(stored: dict[str, Any]) -> tuple[str, str]:
    return stored["key"], stored["version_id"]


def _upper(data: bytes, _: object = ()) -> bytes:
    return data.decode().upper().encode()


def _whole(
    trial: Trial, data: bytes, *, processor: str = "mark", ends: str, output: Callable[..., bytes] | None
) -> None:
    """Run one file with chunks of any size, with a worker killed on the way, and compare."""
    options = {"chunk_bytes": trial.random.randrange(1, 40), "seconds": 0.0}
    kill = Fault("kill after", at("process"), chance=0.2)
    with trial.world(kill) as world:
        job = world.submit(data, processor=processor, options=options)
        trial.expect(world.run(), "the deployment does not settle")
        trial.check(world, job, ends=ends, output=output, record_bytes=1, rework_records=None)


ODD: dict[str, tuple[bytes, str]] = {
    "one byte": (b"x", "SUCCEEDED"),
    "one line ending": (b"\n", "SUCCEEDED"),
    "no last newline": (b"one\ntwo\nthree", "SUCCEEDED"),
    "one giant line": (b"giant " * 60, "SUCCEEDED"),
    "CRLF": (b"one\r\ntwo\r\n\r\nthree\r\n", "SUCCEEDED"),
    "lone CR": (b"one\rtwo\rthree\nfour\r", "SUCCEEDED"),
    "BOM": (b"\xef\xbb\xbfone\ntwo\nthree\n", "SUCCEEDED"),
    "UTF-16": ("\ufeffone\ntwo\n".encode("utf-16-le"), "FAILED"),
    "blank lines": (b"\n\n\nx\n\n\n", "SUCCEEDED"),
}


@case("F38", "Odd files: one byte, no last newline, one giant line, CRLF, lone CR, BOM, UTF-16.")
def odd_files(trial: Trial) -> None:
    data, ends = list(ODD.values())[trial.seed % len(ODD)]
    _whole(trial, data, ends=ends, output=_upper if ends == "SUCCEEDED" else None)


_DEAD_LETTERS = "aé€𝄞ßñ漢🙂 \u2028\x85\t"


def _text(random: Random, size: int) -> str:
    return "".join(random.choice(_DEAD_LETTERS + "bcdef\n") for _ in range(size))


@case("F39", "Characters of two, three and four bytes lie across the borders of chunks.")
def wide_characters(trial: Trial) -> None:
    _whole(trial, _text(trial.random, 80).encode(), ends="SUCCEEDED", output=_upper)


@case("F39.invalid", "A byte that is no UTF-8 fails the job and says where it lies.")
def invalid_text(trial: Trial) -> None:
    data = _text(trial.random, 60).encode() + b"\nbad \xff byte\n" + _text(trial.random, 20).encode()
    _whole(trial, data, ends="FAILED", output=None)


class Rows(Processor):
    """Write every row of a CSV file as JSON."""

    name = "rows"
    reads = Csv()

    def process(self, record: dict[str, Any], ctx: Context) -> str:
        return json.dumps(record)


class Values(Processor):
    """Write every line of JSON again."""

    name = "values"
    reads = JsonLines()

    def process(self, record: Any, ctx: Context) -> Any:
        return record


def _rows(data: bytes, _: object = ()) -> bytes:
    found = csv.DictReader(io.StringIO(data.decode(), newline=""))
    return b"".join(json.dumps(row).encode() + b"\n" for row in found)


@case("F40", "Quoted newlines, quotes and delimiters lie across the borders of chunks of a CSV file.")
def quoted(trial: Trial) -> None:
    random = trial.random
    written = io.StringIO()
    writer = csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator=random.choice(("\n", "\r\n")))
    writer.writerow(["name", "text"])
    for number in range(12):
        writer.writerow([number, "".join(random.choice('ab",\n\r é€') for _ in range(random.randrange(9)))])
    _rows_of(trial, written.getvalue().encode(), "rows", _rows)


@case("F40.json", "JSON lines hold U+2028 and escaped line breaks.")
def json_lines(trial: Trial) -> None:
    values = [{"n": number, "text": _text(trial.random, 12)} for number in range(12)]
    data = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()
    _rows_of(trial, data, "values", lambda *_: _compact(values))


def _compact(values: list[dict[str, Any]]) -> bytes:
    written = (json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in values)
    return b"".join(line.encode() + b"\n" for line in written)


def _rows_of(trial: Trial, data: bytes, processor: str, output: Callable[..., bytes]) -> None:
    options = {"chunk_bytes": trial.random.randrange(1, 40)}
    kill = Fault("kill after", at("process"), chance=0.2)
    with trial.world(kill) as world:
        world.processors.update({Rows.name: Rows, Values.name: Values})
        job = world.submit(data, processor=processor, options=options)
        trial.expect(world.run(), "the deployment does not settle")
        trial.check(world, job, output=output, record_bytes=1, rework_records=None)
