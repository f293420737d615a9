"""A job while it goes on: a live line on stderr, and what its follower should know."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from backhaul.cli.describe import notes_on
from backhaul.cli.screen import console, plain, say
from backhaul.model.api import JobView
from backhaul.model.errors import DeploymentUnreachable
from backhaul.model.job import JobState

_COUNTING_FAILED = (JobState.RUNNING, JobState.MERGING, JobState.PARTIAL)
"""Where a failed chunk is settled: one to be redriven is still to be done, one of a job that ended badly was not."""


class JobProgress:
    """A live line for one job: chunks, records per second and the time that is left."""

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("chunks"),
            _RecordRate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bars.add_task("", total=None, records=0)
        self._state: JobState | None = None
        self._noted: Collection[str] = ()
        self._waiting = False

    def __enter__(self) -> JobProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def wait(self, error: DeploymentUnreachable) -> None:
        """Say, once in a row, that the deployment does not answer at the moment."""
        if not self._waiting:
            say(f"{plain(str(error))} Trying again.")
        self._waiting = True

    def update(self, job: JobView) -> None:
        """Show the job as it now stands; say once what is new about it, without a terminal also each state."""
        if not console.is_terminal and job.state is not self._state:
            say(f"{plain(job.job_id)} {job.state}")
        notes = notes_on(job, datetime.now(UTC))
        for kind in notes.keys() - self._noted:
            say(notes[kind])
        self._state, self._noted, self._waiting = job.state, notes, False
        failed = job.counts.chunks_failed if job.state in _COUNTING_FAILED else 0
        self._bars.update(
            self._task,
            description=job.state.lower().replace("_", " "),
            total=job.counts.chunks or None,
            completed=job.counts.chunks_done + failed,
            records=job.counts.records,
        )


class _RecordRate(ProgressColumn):
    """Records per second since the job was first seen."""

    def render(self, task: Task) -> Text:
        records, seconds = task.fields.get("records", 0), task.elapsed or 0
        return Text(f"{records / seconds:,.0f} records/s" if records and seconds >= 1 else "")
