"""One local cloud for all end-to-end tests, apart from the developer's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backhaul.client import Backhaul
from backhaul.discovery import client_of
from backhaul.local import Connection, LocalCloud
from backhaul.local.emulator import Emulator
from backhaul.local.folder import Folder


@pytest.fixture(scope="session")
def cloud_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The BACKHAUL_HOME of the tests' cloud."""
    return tmp_path_factory.mktemp("cloud")


@pytest.fixture(scope="session")
def client(cloud: Connection) -> Iterator[Backhaul]:
    """A client of the tests' cloud."""
    with client_of(cloud) as client:
        yield client


@pytest.fixture(scope="session")
def cloud(cloud_home: Path) -> Iterator[Connection]:
    """A running local cloud with this checkout's stack; it leaves no process behind."""
    local = LocalCloud(cloud_home)
    yield local.up()
    assert local.down()
    assert Emulator(Folder(cloud_home)).processes() == []
