"""What the end-to-end tests share."""

from __future__ import annotations

import io
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from botocore.credentials import Credentials

from backhaul.client.client import Backhaul
from backhaul.client.signing import SigV4
from backhaul.local.connection import Connection
from backhaul.model.api import JobView
from backhaul.model.job import JobState

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 300

__all__ = [
    "PROJECT",
    "admin_client",
    "ask",
    "eventually",
    "output_of",
    "run_job",
    "trusted",
    "wait_for",
]


def run_job(
    client: Backhaul,
    path: Path,
    processor: str,
    options: Mapping[str, Any] | None = None,
    *,
    ends: JobState = JobState.SUCCEEDED,
) -> tuple[JobView, Any]:
    """Submit a file, wait for its job, and return the job and its output (None if it has none)."""
    submitted = client.submit(path, processor, options)
    job = wait_for(client, submitted.job_id)
    assert job.state is ends, job
    return job, output_of(client, job)


def wait_for(client: Backhaul, job_id: str) -> JobView:
    """Wait for a job's end."""
    return eventually(lambda: client.job(job_id), lambda job: job.state.is_terminal)


def output_of(client: Backhaul, job: JobView) -> bytes | None:
    """Return a job's output."""
    if job.output_size is None:
        return None
    output = io.BytesIO()
    client.fetch(client.result(job.job_id), output)
    return output.getvalue()


def eventually(ask: Callable[[], Any], enough: Callable[[Any], bool], seconds: float = PATIENCE_SECONDS) -> Any:
    """Ask until the answer is enough, and return it."""
    until = time.monotonic() + seconds
    while not enough(answer := ask()):
        assert time.monotonic() < until, f"still {answer} after {seconds} s"
        time.sleep(0.3)
    return answer


def ask(cloud: Connection, method: str, path: str, *, key: tuple[str, str] | None = None, **request: Any) -> Any:
    """Send one request to the HTTP API, signed with an access key (by default the developer's)."""
    auth = SigV4(Credentials(*(key or (cloud.access_key_id, cloud.secret_access_key))), cloud.region)
    return httpx.request(method, cloud.api_url + path, auth=auth, verify=trusted(cloud), **request)


def trusted(cloud: Connection) -> ssl.SSLContext:
    """Return a context that trusts the local cloud's certificate."""
    return ssl.create_default_context(cafile=str(cloud.ca_bundle))


def admin_client(cloud: Connection, service: str) -> Any:
    """Return a boto3 client of the account's root user."""
    root = cloud.as_root()
    return root.session.client(service, **root.options)
