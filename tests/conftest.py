"""What all tests share."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from prove.affinity import keep_to_processor

SHARING = ("tests/e2e/faults/", "tests/e2e/", "tests/emulator/", "tests/infra/")
"""Folders whose tests stay in one process: they share a local cloud, an emulator, or what is synthesized.

They begin first, in this order, because they take longest as a whole; all other tests run beside them. The end-to-end
tests are two such folders, each with a local cloud, as they mostly wait. Not by the mark `xdist_group`: pytest 9.2 does
not see the names that pytest-xdist 3.8 gives to marked tests.
"""

# How long examples take to make, or to run, says something of the machine and nothing of the code.
settings.register_profile("backhaul", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("backhaul")


def pytest_configure(config: pytest.Config) -> None:
    """Keep each of several processes to a processor of its own; the end-to-end tests let theirs use all again."""
    if worker := getattr(config, "workerinput", {}).get("workerid"):
        keep_to_processor(int(worker.removeprefix("gw")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders in `SHARING`, in that order."""

    def place(item: pytest.Item) -> int:
        return next((at for at, folder in enumerate(SHARING) if item.nodeid.startswith(folder)), len(SHARING))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Hand out test after test, but those of a folder whose tests share something to one process."""
    config.option.loadscopereorder = False
    return ByFolder(config, log)


class ByFolder(LoadScopeScheduling):
    """Tests of one folder as one unit of work, where they share something; every other test is its own."""

    @property
    def nodes(self) -> list[Any]:
        """The processes in the order of their numbers: the first one gets the first folder."""
        return sorted(super().nodes, key=lambda node: str(node.gateway.id))

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in SHARING if nodeid.startswith(folder)), nodeid)
