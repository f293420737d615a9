"""What all tests share."""

import pytest
from hypothesis import HealthCheck, settings

from prove.affinity import keep_to_processor

# How long examples take to make, or to run, says something of the machine and nothing of the code.
settings.register_profile("backhaul", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("backhaul")


def pytest_configure(config: pytest.Config) -> None:
    """Keep each of several processes to a processor of its own."""
    if worker := getattr(config, "workerinput", {}).get("workerid"):
        keep_to_processor(int(worker.removeprefix("gw")))
