"""A worker's temporary folder is its own, whoever used the environment before."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from backhaul.worker.workspace import workspace


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_temporary_files_go_into_a_folder_that_is_gone_afterwards(place):
    with workspace() as folder:
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(b"secret")
        assert Path(file.name).parent == folder
        assert os.environ["TMPDIR"] == str(folder)
        assert list(place.iterdir()) == [folder]
    assert list(place.iterdir()) == []
    assert tempfile.gettempdir() == str(place)


def test_an_exception_leaves_nothing_behind(place):
    def worker():
        with workspace() as folder:
            (folder / "file").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        worker()
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("pid", [os.getpid(), 2**22 + 1], ids=["this process before", "a process that is gone"])
def test_what_a_killed_worker_left_is_removed_by_the_next(place, pid):
    left = place / f"backhaul-worker-{pid}-abc"
    left.mkdir()
    (left / "secret").write_text("another tenant's")
    with workspace() as folder:
        assert list(place.iterdir()) == [folder]


def test_the_folder_of_a_worker_that_lives_stays(place):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        theirs = place / f"backhaul-worker-{other.pid}-abc"
        theirs.mkdir()
        with workspace():
            assert theirs.exists()
        other.communicate(b"\n")
