"""Reads the logs of a local cloud: the emulator's own, or a function's as CloudWatch keeps them."""

import time
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

from backhaul.local.access import Access
from backhaul.model.errors import LocalCloudError

POLL_SECONDS = 0.5


def of_emulator(log: Path, follow: bool) -> Iterator[str]:
    """Yield the lines of the emulator's log; with `follow` go on with new lines."""
    with log.open(errors="replace") as file:
        while True:
            if line := file.readline():
                yield line.rstrip("\n")
            elif follow:
                time.sleep(POLL_SECONDS)
            else:
                return


def of_function(root: Access, name: str, follow: bool) -> Iterator[str]:
    """Yield the log lines of the functions with `name` in their names; with `follow` go on with new lines."""
    groups = _log_groups(root, name)
    logs = root.session.client("logs", **root.options)
    pages = logs.get_paginator("filter_log_events")
    seen: Counter[tuple[int, str, str]] = Counter()  # the emulator's events have no IDs
    while True:
        logged = Counter(
            (event["timestamp"], event["logStreamName"], event["message"])
            for group in groups
            for page in pages.paginate(logGroupName=group)
            for event in page["events"]
        )
        for _time, _stream, message in sorted((logged - seen).elements(), key=itemgetter(0)):
            yield message.rstrip("\n")
        if not follow:
            return
        seen = logged
        time.sleep(POLL_SECONDS)


def _log_groups(root: Access, name: str) -> list[str]:
    client = root.session.client("lambda", **root.options)
    pages = client.get_paginator("list_functions").paginate()
    functions = [function for page in pages for function in page["Functions"]]
    matching = [function for function in functions if name.lower() in function["FunctionName"].lower()]
    if not matching:
        known = ", ".join(sorted(function["FunctionName"] for function in functions))
        raise LocalCloudError(f"No function has {name!r} in its name. Use one of: {known}.")
    return [
        function.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{function['FunctionName']}"
        for function in matching
    ]
