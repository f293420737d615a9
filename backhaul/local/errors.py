"""What can go wrong with the local cloud."""

from pathlib import Path

from backhaul.model.errors import LocalCloudError

LINES_SHOWN = 15


def failure(what: str, log: Path) -> LocalCloudError:
    """Return an error that says what failed, which log to read, and how that log ends."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return LocalCloudError("\n".join([f"{what}. Read {log}; it ends:", *lines[-LINES_SHOWN:]]))
