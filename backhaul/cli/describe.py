"""A job in words: where it stands, what is the matter with it, and how to go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from backhaul.cli.screen import plain, span, styled
from backhaul.model.api import JobView
from backhaul.model.cost import Cost
from backhaul.model.job import BUDGET_EXHAUSTED, DAY_BUDGET_EXHAUSTED, Cause, JobState
from backhaul.model.money import display, nanodollars

NEAR = timedelta(hours=1)
"""A deadline that is no further away is worth a line."""


def describe(job: JobView, now: datetime) -> str:
    """Return a job in one paragraph, as markup."""
    run = f" (run {job.run})" if job.run > 1 else ""
    lines = [
        f"[bold]{plain(job.job_id)}[/bold]  {styled(job.state)}{run}  {plain(job.processor)}  {plain(job.file_name)}"
    ]
    lines += [f"  {line}" for line in (*_done(job), *notes_on(job, now).values(), *_next(job))]
    return "\n".join(lines)


def notes_on(job: JobView, now: datetime) -> Mapping[str, str]:
    """Return what is the matter with a job that has not ended, as markup, by the kind of matter."""
    notes = {}
    if job.stopping is not None:
        notes["stopping"] = f"stopping: {_said(job.stopping)}"
    if job.waiting_for and job.state is JobState.RUNNING:
        notes["waiting"] = _waiting(job)
    if job.stalled_shards:
        have = "1 shard has" if job.stalled_shards == 1 else f"{job.stalled_shards} shards have"
        notes["stalled"] = f"{have} shown no sign of life for 30 s; other workers take over"
    if job.deadline_at is not None and job.deadline_at - now <= NEAR and job.stopping is None:
        notes["deadline"] = _deadline(job.deadline_at, now)
    return notes


def _done(job: JobView) -> Iterator[str]:
    counts = job.counts
    if counts.chunks:
        word = "failed" if job.state in (JobState.RUNNING, JobState.MERGING) else "missing"
        failed = f", {counts.chunks_failed} {word}" if counts.chunks_failed else ""
        yield f"{counts.chunks_done} of {counts.chunks} chunks{failed}, {counts.records:,} records"
    if counts.tallies:
        yield ", ".join(f"{plain(name)} {amount:,}" for name, amount in counts.tallies.items())
    if job.cost is not None:
        yield cost_line(job.cost)
    if job.cause is not None:
        yield _said(job.cause)
    if job.waiting_for and job.state is not JobState.RUNNING:
        yield _waiting(job)
    if job.upload_until is not None:
        yield f"waiting for the upload until {job.upload_until:%H:%M:%S} UTC"


def cost_line(cost: Cost) -> str:
    """Return what a job has cost in one line, rounded as people read money."""
    of = f" of {_money(cost.max_cost)}" if cost.max_cost else ""
    held = f", {_money(cost.held)} held for calls under way" if nanodollars(cost.held) else ""
    saved = f", {_money(cost.saved)} saved by the cache" if nanodollars(cost.saved) else ""
    return f"{_money(cost.spent)}{of} spent{held}{saved}"


def _money(amount: str) -> str:
    return display(nanodollars(amount))


def _waiting(job: JobView) -> str:
    return f"waiting: {plain(', and '.join(job.waiting_for))}"


def _said(cause: Cause) -> str:
    detail = f" ({plain(cause.detail)})" if cause.detail else ""
    return f"{plain(cause.message)}{detail}"


def _deadline(moment: datetime, now: datetime) -> str:
    at = f"{moment:%H:%M:%S} UTC"
    return f"its deadline is in {span(moment - now)}, at {at}" if moment > now else f"its deadline passed at {at}"


def _next(job: JobView) -> Iterator[str]:
    """Yield the commands that go on from a job of which chunks are missing, and so a receipt names them."""
    if not job.state.is_terminal or not job.counts.chunks_failed:
        return
    code, job_id = job.cause.code if job.cause else "", plain(job.job_id)
    yield f"see which:  backhaul result {job_id} --receipt"
    if code == BUDGET_EXHAUSTED and job.state is JobState.PAUSED:
        yield f"go on:      backhaul budget raise {job_id} AMOUNT"
    elif code == DAY_BUDGET_EXHAUSTED:
        yield f"go on:      backhaul redrive {job_id}"
    elif code != "unsuitable_input":  # the same file would fail again
        # Not --only-failed: a run that passed its deadline has left out chunks that it never tried.
        yield f"try again:  backhaul redrive {job_id}"
