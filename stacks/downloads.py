"""Runs a command that downloads packages; if it fails, one sentence says what failed and what to do.

    python -I stacks/downloads.py "the CDK CLI" COMMAND...

Run as a file, it imports nothing of the project, because setting up begins with it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

LOG = Path(__file__).resolve().parent.parent / "build" / "downloads.log"
PATIENCE = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_RETRIES": "1",
    "PIP_TIMEOUT": "20",
    "npm_config_fetch_retries": "1",
    "npm_config_fetch_retry_mintimeout": "1000",
    "npm_config_fetch_timeout": "60000",
}
"""Settings of pip and npm. With the tools' defaults, a machine without a network waits for minutes. Variables that the
user has set take precedence."""

# The words of pip, npm and their HTTP libraries when no registry answers.
_UNREACHABLE = re.compile(
    r"connection broken|Failed to establish|NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError"
    r"|name resolution|Name or service not known|Network is unreachable|Connection refused|nodename nor servname"
    r"|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ERR_SOCKET_TIMEOUT|ENETUNREACH|EHOSTUNREACH",
    re.IGNORECASE,
)
_ERROR = re.compile(r"^(?:ERROR:|npm error|npm ERR!) *(?P<said>\S.*)$", re.MULTILINE)


class DownloadError(Exception):
    """Packages could not be installed; the message says why and what to do."""


def download(what: str, command: list[str]) -> None:
    """Run the command that installs `what`; raises `DownloadError`."""
    environment = {**PATIENCE, **os.environ}
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment, check=False
    )
    if done.returncode == 0:
        return
    said = done.stdout + done.stderr
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text(said, encoding="utf-8")
    if _UNREACHABLE.search(said):
        raise DownloadError(
            f"{what[:1].upper()}{what[1:]} could not be downloaded, because the package registry did not answer: "
            f"check the network, the proxy, or the registry that {_names(command)}, then run the command again "
            f"(details: {LOG})."
        )
    errors = "\n".join(found["said"] for found in _ERROR.finditer(said)) or said.strip()
    raise DownloadError(f"{what[:1].upper()}{what[1:]} could not be installed (details: {LOG}):\n{errors}")


def _names(command: list[str]) -> str:
    return "npm_config_registry names" if "npm" in command else "PIP_INDEX_URL names"


def main() -> None:
    """Run the command line's command; its first argument says what the command installs."""
    what, *command = sys.argv[1:]
    try:
        download(what, command)
    except DownloadError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
