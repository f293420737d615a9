"""What all tests share."""

import os

import pytest
from hypothesis import HealthCheck, settings

# How long examples take to make, or to run, says something of the machine and nothing of the code.
settings.register_profile("backhaul", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("backhaul")


def pytest_configure(config: pytest.Config) -> None:
    """Keep each of several processes to one processor: threads that take turns are slower on two."""
    worker = getattr(config, "workerinput", {}).get("workerid", "")
    if worker and hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[int(worker.removeprefix("gw")) % len(processors)]})
