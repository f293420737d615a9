"""Exit codes: what a script may rely on."""

from __future__ import annotations

from enum import IntEnum

from backhaul.cli.signals import INTERRUPTED, TERMINATED
from backhaul.model.errors import BackhaulError, CallerError, InvalidProcessor
from backhaul.model.job import JobState
from backhaul.providers.errors import InvalidProvider, ProviderConflict, UnknownProvider


class Exit(IntEnum):
    """How a command ended."""

    SUCCEEDED = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    REFUSED = 4
    UNREACHABLE = 5
    UNWRITTEN = 6
    INTERRUPTED = INTERRUPTED
    TERMINATED = TERMINATED


MEANINGS = {
    Exit.SUCCEEDED: "done; with --wait: the job SUCCEEDED; with cancel --wait: it is CANCELLED",
    Exit.FAILED: "the job ended FAILED, CANCELLED or EXPIRED; with cancel --wait: in any other state than CANCELLED; "
    "with try: the processor failed; with doctor: something is wrong",
    Exit.USAGE: "the command line is wrong",
    Exit.PARTIAL: "the job ended PARTIAL, or is PAUSED: part of the output is missing, and the receipt names it; "
    "with dlq: some dead letters stayed where they are",
    Exit.REFUSED: "the request was refused: unknown job, dead letter, processor or provider, bad option or field, "
    "unsuitable file, a job in a state that does not allow it, a provider that somebody else has changed meanwhile",
    Exit.UNREACHABLE: "no deployment was found, or it does not work",
    Exit.UNWRITTEN: "a file could not be read or written, for example because the disk is full",
    Exit.INTERRUPTED: "interrupted by Ctrl-C; a job that was submitted or redriven goes on",
    Exit.TERMINATED: "ended by SIGTERM; a job that was submitted or redriven goes on",
}

# To a worker these are the operator's; on a command line the operator is who asks.
_REFUSALS = (CallerError, InvalidProvider, ProviderConflict, UnknownProvider)

EPILOG = "**Exit codes:** " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + "."


def exit_of(ended: BackhaulError | JobState) -> Exit:
    """Return the exit code for an error, or for a job's terminal state."""
    if isinstance(ended, _REFUSALS):
        return Exit.REFUSED
    if isinstance(ended, InvalidProcessor):
        return Exit.FAILED
    if isinstance(ended, BackhaulError):
        return Exit.UNREACHABLE
    in_part = (JobState.PARTIAL, JobState.PAUSED)
    return Exit.SUCCEEDED if ended is JobState.SUCCEEDED else Exit.PARTIAL if ended in in_part else Exit.FAILED
