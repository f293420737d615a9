"""Runs the emulator, and ends every process whose parent has died.

    python -I backhaul/local/keeper.py LISTENING_SOCKET COMMAND...

A Lambda worker that is killed leaves its children behind, and so does an emulator that is killed. On Linux the kernel
makes the keeper their new parent, even if they changed their environment or session. On other systems the keeper finds
them by the environment that they inherited. It runs as a file, and imports nothing of the package.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType

import psutil

PAUSE_SECONDS = 1
PR_SET_CHILD_SUBREAPER = 36
OWNER = "BACKHAUL_LOCAL_CLOUD"
"""Every process of a cloud, its Lambda workers included, inherits this variable, which names the cloud."""


def main() -> int:
    """Run the command with the socket; return when neither the command nor a descendant of it is left."""
    signal.signal(signal.SIGTERM, _end)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gate = int(sys.argv[1])
    # The keeper writes nothing to this pipe: its end tells the emulator that the keeper has ended, even if killed.
    emulator = subprocess.Popen([*sys.argv[2:], str(gate)], stdin=subprocess.PIPE, pass_fds=[gate])
    os.close(gate)  # else clients could still connect after the emulator has died
    try:
        while emulator.poll() is None:
            end(orphans(emulator.pid))
            time.sleep(PAUSE_SECONDS)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        emulator.kill()
        emulator.wait()
        while left := orphans():
            end(left)
    return emulator.returncode


def orphans(emulator: int | None = None) -> list[psutil.Process]:
    """Return the processes of this cloud whose parent has died."""
    if sys.platform == "linux":
        return [child for child in psutil.Process().children() if child.pid != emulator]
    mine, init = os.environ[OWNER], 1
    found = psutil.process_iter(["environ", "ppid"])
    alone = [each for each in found if (each.info["environ"] or {}).get(OWNER) == mine and each.info["ppid"] == init]
    return [each for each in alone if each.pid not in (emulator, os.getpid())]


def end(processes: list[psutil.Process]) -> None:
    """Kill the processes, and reap those that have become children of this one."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
        with suppress(ChildProcessError):
            os.waitpid(process.pid, 0)


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
