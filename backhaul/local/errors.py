"""The errors of the local cloud."""

from pathlib import Path

from backhaul.model.errors import LocalCloudError

LINES_SHOWN = 15


def failure(what: str, log: Path) -> LocalCloudError:
    """Return an error that names the failed step (`what`) and the log to read, and quotes the log's end."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return LocalCloudError("\n".join([f"{what}. Read {log}; it ends:", *lines[-LINES_SHOWN:]]))
