"""Keeping a process to one processor, where threads that take turns are faster than on several."""

from __future__ import annotations

import os


def keep_to_processor(number: int) -> None:
    """Keep this process to one of the processors that it may use, counted round; elsewhere than on Linux do nothing."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[number % len(allowed)]})


def use_all_processors() -> None:
    """Let this process, and those that it starts, use every processor again; elsewhere than on Linux do nothing."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
