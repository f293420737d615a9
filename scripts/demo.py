"""`make demo`: one real file through the whole pipeline, on a local cloud.

Uploads Python's own standard library as one text, follows the job, receives its EventBridge events as
a subscriber would, fetches the result, and checks it against `wc`.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from backhaul.cli.local import report
from backhaul.cli.progress import JobProgress
from backhaul.cli.screen import console, plain_table, say, transfer
from backhaul.client.client import Backhaul
from backhaul.client.discovery import connect
from backhaul.local import LocalCloud
from backhaul.model.api import JobView
from backhaul.model.job import JobState
from scripts.subscriber import subscription

MIN_SIZE = 5_000_000
EVENT_SECONDS = 60


def main() -> int:
    """Run the demo and return its exit code."""
    began = time.monotonic()
    say("[bold]1. A local cloud[/bold], to which the CDK CLI deploys the stack of app.py (TLS and IAM are on)")
    connection = LocalCloud().up(report)
    with tempfile.TemporaryDirectory() as folder, subscription(connection, seconds=EVENT_SECONDS) as events:
        text = Path(folder) / "standard-library.txt"
        write_text(text)
        with connect() as client:
            say("[bold]2. Upload and process[/bold]")
            job = process(client, text)
            say("[bold]3. What a subscriber to the event bus received[/bold]")
            ended = show_events(events, job)
            say("[bold]4. The result[/bold], fetched by its presigned URL")
            result = fetch(client, job)
        agreed = show_result(result, independent_counts(text))
    say(f"Done in {time.monotonic() - began:.0f} s. Next: backhaul --help; stop the local cloud with make down.")
    return 0 if agreed and ended and job.state is JobState.SUCCEEDED else 1


def write_text(path: Path) -> None:
    """Write Python's own source files, one after the other, until the text is large enough."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) + sorted(
        Path(sysconfig.get_path("stdlib")).glob("*/*.py")
    )
    with path.open("wb") as text:
        for source in sources:
            if "site-packages" not in source.parts and is_text(data := source.read_bytes()):
                text.write(data)
            if text.tell() >= MIN_SIZE:
                return


def is_text(data: bytes) -> bool:
    """Whether text-stats would read it: a few sources of the standard library are in other encodings."""
    try:
        return "\0" not in data.decode() and not data.startswith(b"\xef\xbb\xbf")
    except UnicodeDecodeError:
        return False


def process(client: Backhaul, text: Path) -> JobView:
    """Upload the text and follow its job to the end."""
    with transfer("uploading", text.stat().st_size) as moved:
        submitted = client.submit(text, "text-stats", {"top": 5}, progress=moved)
    say(f"  job {submitted.job_id}: {submitted.file_name}, {submitted.size:,} bytes")
    with JobProgress() as shown:
        for job in client.follow(submitted.job_id):
            shown.update(job)
    say(f"  {job.state}: {job.counts.chunks_done} chunks in {job.counts.shards} shards, {job.counts.records:,} lines")
    return job


def show_events(events: Iterator[dict[str, Any]], job: JobView) -> bool:
    """Show the job's events until the one that ends it; returns whether it came."""
    for event in events:
        detail = event["detail"]
        if detail["job_id"] != job.job_id:
            continue
        say(f"  {event['detail-type']:<14} {detail['event_id']}")
        if JobState(detail["state"]).is_terminal:
            return True
    say(f"  [red]The event that ends the job did not arrive in {EVENT_SECONDS} s.[/red]")
    return False


def fetch(client: Backhaul, job: JobView) -> dict[str, Any]:
    """Fetch the job's result."""
    with tempfile.TemporaryFile() as file:
        client.fetch(client.result(job.job_id), file)
        file.seek(0)
        result: dict[str, Any] = msgspec.json.decode(file.read())
    return result


def independent_counts(text: Path) -> dict[str, int]:
    """Return what `wc` counts; its idea of a word is the C locale's, so words are counted by Python."""
    counted = subprocess.run(
        ["wc", "-l", "-m", "-c", text],  # noqa: S607  the one on PATH is meant
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        text=True,
    )
    lines, characters, size = map(int, counted.stdout.split()[:3])
    words = len(text.read_bytes().decode().split())
    return {"lines": lines, "words": words, "characters": characters, "bytes": size}


def show_result(result: dict[str, Any], expected: dict[str, int]) -> bool:
    """Show the result beside the independent counts; returns whether they agree."""
    table = plain_table("", "text-stats", "wc, and str.split for words")
    for name, count in expected.items():
        mark = "[green]equal[/green]" if result[name] == count else "[red]DIFFERENT[/red]"
        table.add_row(f"  {name}", f"{result[name]:,}", f"{count:,}  {mark}")
    console.print(table)
    top = ", ".join(f"{word} {count:,}" for word, count in result["top_words"])
    say(f"  longest line {result['longest_line']:,} characters; most frequent words: ")
    say(f"  {top}")
    return all(result[name] == count for name, count in expected.items())


if __name__ == "__main__":
    sys.exit(main())
