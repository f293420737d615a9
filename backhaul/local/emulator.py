"""Starts, finds and ends the processes of one AWS emulator (MiniStack)."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from backhaul.local.access import REGION, ROOT
from backhaul.local.errors import failure
from backhaul.local.folder import Folder
from backhaul.local.keeper import OWNER
from backhaul.model.errors import LocalCloudError
from backhaul.toolchain import PROJECT

ACCOUNT = "000000000000"
PORT = 4566
ANSWER_SECONDS = 60
"""How long a busy emulator may take to answer; a dead one refuses the connection at once."""
KEEPER_SECONDS = 10
"""How long the keeper may take to end its processes, before it is killed itself."""
PYTHON = PROJECT / ".venv" / "emulator" / "bin" / "python"
KEEPER, GATE = (Path(__file__).with_name(name) for name in ("keeper.py", "gate.py"))

# The shell raises the limit of open files, as the emulator's own launcher would. It starts the emulator in the
# background and ends, so that the emulator is not this process's child and no caller has to wait for it.
DETACH = 'ulimit -n "$(ulimit -H -n)"; "$@" &'


@dataclass(frozen=True)
class Emulator:
    """The emulator of one local cloud, running or not."""

    folder: Folder

    def start(self) -> str:
        """Start the emulator and return its endpoint URL once it answers."""
        if not PYTHON.exists():
            raise LocalCloudError(f"{PYTHON} is missing. Run `make setup`.")
        from backhaul.local import certificate  # late: no other command needs the cryptography beneath it

        certificate.issue(self.folder.tls)
        self.folder.make_root_secret()
        for name in ("home", "tmp"):
            (self.folder.state / name).mkdir()
        with listen() as gate:
            port = int(gate.getsockname()[1])
            self._spawn(gate, port)
        try:
            # The port is open from the start, so this one request waits until the emulator accepts it, and fails
            # at once if the emulator dies.
            self._ask_for_health(port)
        except (OSError, http.client.HTTPException) as error:
            self.stop()
            raise failure(f"The emulator did not start ({error})", self.folder.emulator_log) from error
        return f"https://127.0.0.1:{port}"

    def answers(self, port: int) -> bool:
        """Return whether this emulator, and no other program, answers on the port."""
        try:
            self._ask_for_health(port)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def processes(self) -> list[psutil.Process]:
        """Return every living process that this cloud has started, even one with another environment."""
        owner = str(self.folder.home)
        found = {each.pid: each for each in psutil.process_iter(["environ", "ppid", "status"])}
        living = {pid: each for pid, each in found.items() if each.info["status"] != psutil.STATUS_ZOMBIE}
        mine = {pid for pid, each in living.items() if (each.info["environ"] or {}).get(OWNER) == owner}
        while born := {pid for pid, each in living.items() if each.info["ppid"] in mine} - mine:
            mine |= born
        return [living[pid] for pid in sorted(mine)]

    def stop(self) -> bool:
        """Kill all processes of this cloud, whose state is disposable; return whether there were any."""
        running = self.processes()
        keepers = [process for process in running if _is_keeper(process)]
        for keeper in keepers:
            with suppress(psutil.NoSuchProcess):
                keeper.terminate()
        psutil.wait_procs(keepers, timeout=KEEPER_SECONDS)
        while remaining := self.processes():  # again, for a worker born while its parent was dying
            for process in remaining:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                    while process.status() != psutil.STATUS_ZOMBIE:
                        time.sleep(0.01)
        return bool(running)

    def environment(self, port: int) -> dict[str, str]:
        """Return the emulator's whole environment; it holds nothing of the developer's, as functions inherit it."""
        state, tls = self.folder.state, self.folder.tls
        return {
            OWNER: str(self.folder.home),
            "PATH": os.defpath,
            "HOME": str(state / "home"),
            "TMPDIR": str(state / "tmp"),
            "LANG": "C.UTF-8",
            "AUTH": "true",
            "USE_SSL": "1",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": self.folder.root_secret,  # functions get the key of their role instead
            "MINISTACK_REGION": REGION,
            "MINISTACK_SSL_CERT": str(tls / "server.crt"),
            "MINISTACK_SSL_KEY": str(tls / "server.key"),
            "STATE_DIR": str(state / "services"),
            "S3_DATA_DIR": str(state / "s3"),
            "LAMBDA_EXECUTOR": "local",
            "IOT_MTLS_ENABLED": "0",  # else it listens on port 8883
            "SFTP_ENABLED": "0",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CA_BUNDLE": str(tls / "trust.pem"),
            "REQUESTS_CA_BUNDLE": str(tls / "trust.pem"),
            "SSL_CERT_FILE": str(tls / "trust.pem"),
        }

    def _spawn(self, gate: socket.socket, port: int) -> None:
        keeper = [sys.executable, "-I", str(KEEPER), str(gate.fileno())]
        with self.folder.emulator_log.open("wb") as log:
            subprocess.run(
                ["/bin/sh", "-c", DETACH, "sh", *keeper, str(PYTHON), "-I", str(GATE)],
                cwd=self.folder.state,
                env=self.environment(port),
                pass_fds=[gate.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                check=True,
            )

    def _ask_for_health(self, port: int) -> None:
        context = ssl.create_default_context(cafile=self.folder.tls / "ca.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=ANSWER_SECONDS)
        question = AWSRequest("GET", f"https://127.0.0.1:{port}/_ministack/health")
        SigV4Auth(Credentials(ROOT, self.folder.root_secret), "sts", REGION).add_auth(question)
        try:
            connection.request("GET", "/_ministack/health", headers=dict(question.headers))
            if (status := connection.getresponse().status) != http.HTTPStatus.OK:
                raise http.client.HTTPException(f"its health check answers {status}")
        finally:
            connection.close()


def _is_keeper(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return str(KEEPER) in process.cmdline()
    return False


def listen(preferred: int = PORT) -> socket.socket:
    """Return a socket listening on loopback, on `preferred` or, if that is taken, on any free port.

    The emulator gets the listening socket itself, so that no other cloud can take the port in between.
    """
    for port in (preferred, 0):
        gate = socket.socket()
        try:
            gate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            gate.bind(("127.0.0.1", port))
            gate.listen(128)
        except OSError:
            gate.close()
        else:
            return gate
    raise LocalCloudError("No port is free on 127.0.0.1.")
