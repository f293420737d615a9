"""One local cloud for all end-to-end tests, apart from the developer's own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backhaul.client.client import Backhaul
from backhaul.client.discovery import client_of
from backhaul.local import Connection, LocalCloud
from backhaul.local.emulator import Emulator
from backhaul.local.folder import Folder
from prove.affinity import use_all_processors
from tests.e2e.support import PROJECT


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalCloud:
    """The tests' cloud: it offers the checkout's processors, and those that fail on purpose."""
    use_all_processors()  # the cloud's processes inherit what this one may use
    processors = tmp_path_factory.mktemp("processors")
    for folder in (PROJECT / "processors", PROJECT / "prove" / "processors"):
        shutil.copytree(folder, processors, dirs_exist_ok=True)
    return LocalCloud(tmp_path_factory.mktemp("cloud"), processors)


@pytest.fixture(scope="session")
def cloud_home(local: LocalCloud) -> Path:
    """The BACKHAUL_HOME of the tests' cloud."""
    return local.home


@pytest.fixture(scope="session")
def client(cloud: Connection) -> Iterator[Backhaul]:
    """A client of the tests' cloud."""
    with client_of(cloud) as client:
        yield client


@pytest.fixture(scope="session")
def cloud(local: LocalCloud) -> Iterator[Connection]:
    """A running local cloud with this checkout's stack; it leaves no process behind."""
    yield local.up()
    assert local.down()
    assert Emulator(Folder(local.home)).processes() == []
