"""What can go wrong with the local cloud."""

from pathlib import Path

from backhaul.errors import OperatorError

LINES_SHOWN = 15


class LocalCloudError(OperatorError):
    """The local cloud could not be started, or is not running."""

    code = "local_cloud"


def failure(what: str, log: Path) -> LocalCloudError:
    """Return an error that says what failed, which log to read, and how that log ends."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return LocalCloudError("\n".join([f"{what}. Read {log}; it ends:", *lines[-LINES_SHOWN:]]))
