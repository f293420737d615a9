"""The folder in which one local cloud keeps everything that it writes."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backhaul.toolchain import PROJECT


@dataclass(frozen=True)
class Folder:
    """The files of the local cloud whose home is `home`."""

    home: Path

    @classmethod
    def default(cls) -> Folder:
        """Return the folder named by BACKHAUL_HOME, else `.backhaul` in the checkout."""
        return cls(Path(os.environ.get("BACKHAUL_HOME") or PROJECT / ".backhaul").resolve())

    @property
    def connection(self) -> Path:
        return self.home / "connection.json"

    @property
    def state(self) -> Path:
        """The folder of everything that is removed with one emulator."""
        return self.home / "state"

    @property
    def tls(self) -> Path:
        return self.state / "tls"

    @property
    def root_secret(self) -> str:
        """The secret of the emulator's root key; that of no key if no emulator was started."""
        return self._root_secret.read_text() if self._root_secret.exists() else "none"

    def make_root_secret(self) -> None:
        """Write a new random secret for the emulator's root key."""
        with open(self._root_secret, "x", opener=_private) as file:
            file.write(secrets.token_hex(20))

    @property
    def _root_secret(self) -> Path:
        return self.state / "root-secret"

    @property
    def emulator_log(self) -> Path:
        return self.state / "emulator.log"

    @property
    def cdk_log(self) -> Path:
        return self.state / "cdk.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one command at a time start or stop this cloud; the others wait."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.home / "lock", "w", opener=_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def is_locked(self) -> bool:
        """Return whether a command is starting or stopping this cloud right now."""
        if not (self.home / "lock").exists():
            return False
        with open(self.home / "lock", "w", opener=_private) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def renew(self) -> None:
        """Remove the state of an earlier cloud, and make the folders of a new one."""
        self.discard()
        self.state.mkdir(mode=0o700)

    def discard(self) -> None:
        """Remove all state; the lock stays, because another command may be waiting for it."""
        self.connection.unlink(missing_ok=True)
        shutil.rmtree(self.state, ignore_errors=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
