"""An emulator without a stack: it starts, dies, is interrupted, and leaves nothing."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from backhaul.local import LocalCloud, LocalCloudError, State, emulator
from backhaul.local.deployment import Deployment
from backhaul.local.emulator import Emulator
from backhaul.local.folder import Folder
from tests.e2e.support import eventually


def folder_in(home: Path) -> Folder:
    folder = Folder(home)
    with folder.locked():
        folder.renew()
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator without a stack: it starts in no time."""
    alone = Emulator(folder_in(tmp_path / "bare"))
    yield alone
    alone.stop()


def test_a_dead_emulator_is_seen_as_dead_and_a_new_one_takes_its_place(bare):
    first = bare.start()
    for process in bare.processes():
        process.kill()
    eventually(bare.processes, lambda living: not living, seconds=10)
    assert not bare.answers(int(first.rpartition(":")[2]))
    bare.folder.renew()
    assert bare.answers(int(bare.start().rpartition(":")[2]))


def test_two_emulators_that_start_at_once_get_ports_of_their_own(bare, tmp_path):
    other = Emulator(folder_in(tmp_path / "other"))
    try:
        assert bare.start() != other.start()
    finally:
        assert other.stop()


def test_an_emulator_that_cannot_start_names_its_log_and_leaves_nothing(bare, tmp_path, monkeypatch):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho the reason\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(emulator, "PYTHON", broken)
    with pytest.raises(LocalCloudError, match="the reason") as raised:
        bare.start()
    assert str(bare.folder.emulator_log) in str(raised.value)
    assert bare.processes() == []


@pytest.fixture
def interruptible():
    """Python's usual answer to Ctrl-C, also where the tests run in the background, which a shell lets ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("step", ["bootstrap", "synthesize", "deploy"])
def test_an_interrupted_start_leaves_nothing_running(step, tmp_path, monkeypatch, interruptible):
    for name in ("bootstrap", "synthesize", "deploy"):
        monkeypatch.setattr(Deployment, name, lambda _self: None)
    monkeypatch.setattr(Deployment, step, lambda _self: os.kill(os.getpid(), signal.SIGINT))
    interrupted = LocalCloud(tmp_path / "interrupted")
    with pytest.raises(KeyboardInterrupt):
        interrupted.up()
    assert Emulator(Folder(interrupted.home)).processes() == []
    assert interrupted.status().state is State.STOPPED
