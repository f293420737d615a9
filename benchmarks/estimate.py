"""Estimates beside what jobs then really took: calls, tokens and time, on the local cloud and at a provider's limit.

`make bench-estimate` asks for an estimate as a user does, runs the job, and compares. The calls are the strict
provider's count; the tokens are those of OpenAI's `o200k_base`, by a tokenizer that npm fetches into build/, of the
very prompts that were sent; the time is from the first call to the last, and from submitting the job to its end.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from backhaul.toolchain import PROJECT, command
from prove.cases.process_calls import Asking, asking
from prove.site import running
from prove.strict.answers import count_tokens

TOKENIZER = "gpt-tokenizer@4.0.0"  # MIT; it brings the vocabulary along
PER_MINUTE = 300
ANSWER_TOKENS = 5
SIZE = 24 * 1024
_MESSAGE_TOKENS = 3
"""What the strict provider counts for each message."""
_FOLDER = PROJECT / "build" / "tokenizer"
_COUNT = """
import { countTokens } from "gpt-tokenizer/model/gpt-4o";
let text = "";
for await (const piece of process.stdin) text += piece;
console.log(JSON.parse(text).map((content) => countTokens([{ role: "user", content }])).reduce((a, b) => a + b, 0));
"""


@dataclass(frozen=True)
class Text:
    """A file and how it is asked about: `prompts` are what the provider must then have been sent."""

    name: str
    format: str
    template: str
    data: bytes
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What was estimated and what it came to, as shares of the latter."""

    text: str
    calls: float
    tokens: float
    pace: float
    """The time from the first call to the last."""
    whole: float
    """The time from submitting to the end."""

    @property
    def holds(self) -> bool:
        """Whether the estimate is as good as it has to be."""
        close = all(0.8 <= each <= 1.2 for each in (self.calls, self.tokens))
        return close and all(1 / 1.3 <= each <= 1.3 for each in (self.pace, self.whole))


def main() -> int:
    """Print the table; returns 1 if an estimate is off by more than 20 %, or its time by more than a factor of 1.3."""
    _fetch_tokenizer()
    with running() as site, asking(site, limit=PER_MINUTE, requests_per_minute=PER_MINUTE, latency_ms=150) as it:
        found = [_compare(it, each()) for each in (_english, _python, _table)]
    table = Table("Text", "Calls", "Input tokens", "First call to last", "Submitted to ended")
    for each in found:
        table.add_row(each.text, *(f"{share:.2f}" for share in (each.calls, each.tokens, each.pace, each.whole)))
    Console().print(table, "Estimates as shares of what it came to.")
    return int(not all(each.holds for each in found))


def _compare(it: Asking, text: Text) -> Comparison:
    it.fake.reset()
    it.seen.clear()
    options = {"provider": it.name, "prompt": text.template, "format": text.format, "max_tokens": 20}
    options |= {"expect_tokens": ANSWER_TOKENS, "chunk_bytes": SIZE // 8}
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(text.data)
        file.flush()
        given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        code, said = it.deployed.command("estimate", file.name, "-p", "prompt", *given, "--json")
    if code:
        raise RuntimeError(said)
    estimate = json.loads(said)
    (expected,) = estimate["providers"]
    began = time.monotonic()
    with it.watched():
        job = it.deployed.ended(it.deployed.submit(text.data, "prompt", options), seconds=600)
    whole = time.monotonic() - began
    if job.state != "SUCCEEDED":
        raise RuntimeError(f"The job is {job.state}: {job.cause}")
    counts = it.fake.counts()
    if counts["tokens"]["input"] != sum(count_tokens(each) + _MESSAGE_TOKENS for each in text.prompts):
        raise RuntimeError(f"{text.name}: the provider was not sent these prompts.")
    pace = (counts["calls"] - 1) / it.per_second()
    return Comparison(
        text.name,
        expected["calls"]["likely"] / counts["calls"],
        expected["input_tokens"]["likely"] / _count(text.prompts),
        estimate["seconds"] / pace,
        estimate["seconds"] / whole,
    )


def _english() -> Text:
    return _lines("English (this documentation)", [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))])


def _python() -> Text:
    return _lines("Python (Backhaul's stages)", sorted((PROJECT / "backhaul/stages").glob("*.py")))


def _lines(name: str, paths: Iterable[Path]) -> Text:
    lines = [line for path in paths for line in path.read_text().splitlines() if line.strip()]
    kept = _within(lines, lambda line: len(line.encode()) + 1)
    data = "".join(f"{line}\n" for line in kept).encode()
    return _text(name, "lines", "Summarise in one word: {{record}}", data, kept)


def _table() -> Text:
    """What the modules say of themselves: rows of very different lengths, with line breaks inside quotes."""
    said = [
        text
        for path in sorted((PROJECT / "backhaul").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node))
    ]
    kept = _within(said, lambda text: len(text.encode()) + 8)
    written = io.StringIO()
    csv.writer(written).writerows([["number", "text"], *enumerate(kept)])
    return _text("CSV (its docstrings)", "csv", "Summarise in one word: {{text}}", written.getvalue().encode(), kept)


def _within(texts: Iterable[str], size: Callable[[str], int]) -> list[str]:
    kept, total = [], 0
    for each in texts:
        total += size(each)
        if total > SIZE:
            break
        kept.append(each)
    return kept


def _text(name: str, form: str, template: str, data: bytes, values: list[str]) -> Text:
    field = template[template.index("{{") :]
    return Text(name, form, template, data, tuple(template.replace(field, value) for value in values))


def _fetch_tokenizer() -> None:
    if not (_FOLDER / "node_modules" / "gpt-tokenizer").exists():
        _FOLDER.mkdir(parents=True, exist_ok=True)
        install = command("npm", "install", "--prefix", str(_FOLDER), "--silent", "--no-audit", "--no-fund", TOKENIZER)
        subprocess.run(install, check=True)


def _count(prompts: Iterable[str]) -> int:
    count = command("node", "--input-type=module", "--eval", _COUNT)
    done = subprocess.run(
        count, cwd=_FOLDER, input=json.dumps(list(prompts)), capture_output=True, text=True, check=True
    )
    return int(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
