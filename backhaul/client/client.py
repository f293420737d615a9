"""The Python client: submit a file, follow its job, fetch the result."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import quote

import httpx
import msgspec
from httpx_retries import Retry, RetryTransport

from backhaul.client.http_answers import NOT_REPEATABLE, ONCE, REPEATABLE, decoded, refusal
from backhaul.client.polling import Polls
from backhaul.client.signing import SigV4
from backhaul.client.upload import BLOCK, Progress, name_of, sha256_of, size_of, tracked
from backhaul.estimate.estimate import Estimate
from backhaul.estimate.sampling import Look
from backhaul.model.api import (
    DayUsage,
    Download,
    JobPage,
    JobView,
    RaisedView,
    RedrivenView,
    SubmittedView,
    UploadForm,
    UsageView,
)
from backhaul.model.errors import DeploymentBusy, DeploymentUnreachable
from backhaul.model.idempotency import new_key
from backhaul.model.policy import Policy
from backhaul.plugin.registry import Description

API_SECONDS = 35.0
"""An HTTP API answers within 30 seconds or not at all."""
TRANSFER_SECONDS = 300.0
"""How long S3 may be silent, for example while it stores an upload."""
PATIENCE_SECONDS = 300.0
"""How long the client follows a job while the deployment does not answer; the job itself goes on."""


class Backhaul:
    """A client of one deployment of Backhaul.

    Every method raises `RequestRefused` if the deployment refuses, and `DeploymentUnreachable` if it does not answer.
    The client retries reads and submissions after 429, 5xx and lost connections. It retries commands after 429, and
    after a connection that failed before the request was sent.
    """

    def __init__(self, api_url: str, auth: SigV4, *, ca_bundle: str | None = None, proxy: str | None = None) -> None:
        # Both clients use the proxy that the caller of this constructor has chosen, and not the environment's: that
        # one must not stand before the local cloud. And httpx ignores it once a client has a transport of its own, as
        # the retries need.
        way = httpx.HTTPTransport(verify=ssl.create_default_context(cafile=ca_bundle), proxy=proxy)
        self._api = httpx.Client(base_url=api_url, auth=auth, transport=RetryTransport(way), timeout=API_SECONDS)
        self._transfer = httpx.Client(transport=way, timeout=TRANSFER_SECONDS)
        self._polls = Polls()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the end of a `with` block does the same."""
        self._api.close()
        self._transfer.close()

    def submit(
        self,
        path: Path,
        processor: str,
        options: Mapping[str, Any] | None = None,
        *,
        policy: Policy | Mapping[str, Any] | None = None,
        hashing: Progress = lambda _: None,
        progress: Progress = lambda _: None,
    ) -> JobView:
        """Create a job for a file and upload the file; return the job as it was created.

        Sends only the policy fields that differ from the defaults. Calls `hashing` with the bytes read so far for the
        checksum, and `progress` with the bytes uploaded so far. A repeated request makes no second job.
        """
        size = size_of(path)
        body = {
            "processor": processor,
            "options": dict(options or {}),
            "file_name": name_of(path),
            "size": size,
            "sha256": sha256_of(path, hashing),
        }
        if wanted := msgspec.to_builtins(policy or {}):
            body["policy"] = wanted
        key = {"Idempotency-Key": new_key(datetime.now(UTC))}
        made = decoded(self._ask("POST", "/jobs", json=body, headers=key), SubmittedView)
        self._upload(made.upload, path, progress)
        return made.job

    def estimate(
        self,
        processor: str,
        size: int,
        options: Mapping[str, Any] | None = None,
        *,
        expected: Look | None = None,
        sample: str | None = None,
    ) -> Estimate:
        """Return what a job for a file of `size` bytes would take; uploads nothing and calls no provider.

        `expected` is the result of `estimate.sampling.look_at` for the file. Without it, `sample` may be the text with
        which the file begins, 256 KiB at most.
        """
        body: dict[str, Any] = {"processor": processor, "size": size, "options": dict(options or {})}
        if expected is not None:
            body["expected"] = expected.to_json()
        if sample is not None:
            body["sample"] = sample
        return decoded(self._ask("POST", "/estimate", json=body), Estimate)

    def job(self, job_id: str) -> JobView:
        """Return the present state of a job."""
        return decoded(self._ask("GET", _path_of(job_id)), JobView)

    def jobs(self, *, state: str | None = None, after: str | None = None, limit: int = 20) -> JobPage:
        """Return a page of the caller's jobs, newest first; `after` is the `next` of the page before."""
        wanted = {"state": state, "after": after, "limit": str(limit)}
        query = {name: value for name, value in wanted.items() if value is not None}
        return decoded(self._ask("GET", "/jobs", params=query), JobPage)

    def processors(self) -> tuple[Description, ...]:
        """Return the processors that the deployment offers, with their options."""
        return decoded(self._ask("GET", "/processors"), dict[str, tuple[Description, ...]])["processors"]

    def follow(
        self,
        job_id: str,
        *,
        patience: float = PATIENCE_SECONDS,
        unanswered: Callable[[DeploymentUnreachable], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[JobView]:
        """Yield the job now, and again after each poll until it has ended.

        If the deployment answers 429 or 5xx, or no longer answers, the client goes on asking for `patience` seconds
        from the last answer, and calls `unanswered` with each failure. A client that follows many jobs, each in a
        thread, asks about each of them less often.
        """
        answered, has_answered = clock(), False
        with self._polls.of_a_job() as poll:
            while True:
                try:
                    job = decoded(self._ask("GET", _path_of(job_id), retry=ONCE), JobView)
                except DeploymentUnreachable as error:
                    if not (has_answered or isinstance(error, DeploymentBusy)):
                        raise
                    left = answered + patience - clock()
                    if left <= 0:
                        how = f"The job goes on; follow it again with: backhaul watch {job_id}"
                        raise DeploymentUnreachable(f"{error} {how}") from error
                    unanswered(error)
                    pause = min(poll.after_failure(getattr(error, "retry_after", None)), left)
                    sleep(pause)
                    continue
                answered, has_answered = clock(), True
                yield job
                if job.state.is_terminal:
                    return
                sleep(poll.after_answer())

    def cancel(self, job_id: str, reason: str | None = None) -> JobView:
        """Cancel a job that has not ended, and return it; a running job stops, and ends, within seconds."""
        body = {} if reason is None else {"reason": reason}
        return decoded(self._command(job_id, "cancel", body), JobView)

    def redrive(self, job_id: str, *, only_failed: bool = False) -> RedrivenView:
        """Start a new run for the missing chunks of a job that has ended; start none if no chunk is missing.

        With `only_failed` the run leaves out chunks that were never tried.
        """
        body = {"only_failed": only_failed}
        return decoded(self._command(job_id, "redrive", body), RedrivenView)

    def raise_budget(self, job_id: str, max_cost: Decimal | str, reason: str | None = None) -> RaisedView:
        """Raise a job's budget to `max_cost` dollars in all; a job that is PAUSED by its own budget goes on."""
        body = {"max_cost": str(max_cost)} | ({} if reason is None else {"reason": reason})
        return decoded(self._command(job_id, "budget", body), RaisedView)

    def usage(self, first: date | None = None, last: date | None = None) -> tuple[DayUsage, ...]:
        """Return the usage of the caller's calls of providers for each day (UTC) from `first` to `last`.

        `last` is today by default, `first` 29 days before `last`. The most are 92 days.
        """
        query = {name: day.isoformat() for name, day in (("from", first), ("to", last)) if day}
        return decoded(self._ask("GET", "/usage", params=query), UsageView).days

    def result(self, job_id: str, run: int | None = None) -> Download:
        """Return the download of a job's output, or of the output of an earlier run."""
        return self._download(job_id, "result", run)

    def receipt(self, job_id: str, run: int | None = None) -> Download:
        """Return the download of a job's receipt, or of the receipt of an earlier run."""
        return self._download(job_id, "receipt", run)

    def fetch(self, download: Download, to: BinaryIO, *, progress: Progress = lambda _: None) -> None:
        """Write the downloaded bytes into an open file; calls `progress` with the bytes so far."""
        try:
            with self._transfer.stream("GET", download.url) as answer:
                if not answer.is_success:
                    answer.read()
                    raise refusal(answer)
                for block in answer.iter_bytes(BLOCK):
                    to.write(block)
                    progress(answer.num_bytes_downloaded)
        except httpx.TransportError as error:
            raise DeploymentUnreachable(f"The download broke off: {error}. Try again.") from error

    def _download(self, job_id: str, what: str, run: int | None) -> Download:
        query = {} if run is None else {"run": str(run)}
        return decoded(self._ask("GET", f"{_path_of(job_id)}/{what}", params=query), Download)

    def _upload(self, form: UploadForm, path: Path, progress: Progress) -> None:
        with path.open("rb") as file:
            sent = {"file": (name_of(path), tracked(file, progress))}
            try:
                answer = self._transfer.post(form.url, data=dict(form.fields), files=sent)
            except httpx.TransportError as error:
                raise DeploymentUnreachable(f"The upload broke off: {error}. Submit again.") from error
        if not answer.is_success:
            raise refusal(answer)

    def _command(self, job_id: str, what: str, body: Mapping[str, Any]) -> httpx.Response:
        return self._ask("POST", f"{_path_of(job_id)}/{what}", json=body, retry=NOT_REPEATABLE)

    def _ask(self, method: str, path: str, *, retry: Retry = REPEATABLE, **request: Any) -> httpx.Response:
        try:
            answer = self._api.request(method, path, extensions={"retry": retry}, **request)
        except httpx.TransportError as error:
            where = self._api.base_url
            raise DeploymentUnreachable(f"{where} does not answer: {error}. Is the deployment up?") from error
        if not answer.is_success:
            raise refusal(answer)
        return answer


def _path_of(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"
