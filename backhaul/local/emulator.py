"""Starts, finds and ends the processes of one AWS emulator (MiniStack)."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

from backhaul.local.access import REGION
from backhaul.local.errors import failure
from backhaul.local.folder import Folder
from backhaul.model.errors import LocalCloudError
from backhaul.toolchain import PROJECT

ACCOUNT = "000000000000"
PORT = 4566
ANSWER_SECONDS = 60
"""How long a busy emulator may take; one that is dead refuses at once."""
PYTHON = PROJECT / ".venv" / "emulator" / "bin" / "python"

# Every process of a cloud, its Lambda workers included, inherits this variable: it tells whose a process is.
OWNER = "BACKHAUL_LOCAL_CLOUD"

# The shell lifts the limit of open files, as the emulator's own launcher would, and leaves the emulator as
# nobody's child, so that no caller has to wait for it.
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
        for name in ("home", "tmp"):
            (self.folder.state / name).mkdir()
        with listen() as gate:
            port = int(gate.getsockname()[1])
            self._spawn(gate, port)
        try:
            # The port is open from the first moment, so this one request waits until the emulator takes it,
            # and fails at once if the emulator dies.
            self._ask_for_health(port)
        except (OSError, http.client.HTTPException) as error:
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
        """Return every living process that this cloud has started."""
        owner = str(self.folder.home)
        found = psutil.process_iter(["environ"])
        return [process for process in found if (process.info["environ"] or {}).get(OWNER) == owner]

    def stop(self) -> bool:
        """Kill all processes of this cloud, whose state is disposable; returns whether there were any."""
        running = self.processes()
        while remaining := self.processes():  # again, for a worker born while its parent was dying
            for process in remaining:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                    while process.status() != psutil.STATUS_ZOMBIE:
                        time.sleep(0.01)
        return bool(running)

    def environment(self, port: int) -> dict[str, str]:
        """Return the emulator's whole environment; functions inherit it, so nothing of the developer's."""
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
        # Its server is started directly, because MiniStack's own launcher would also listen on port 443.
        server = [str(PYTHON), "-m", "hypercorn", "ministack.app:app", "--workers", "0", "--keep-alive", "75"]
        tls = ["--certfile", str(self.folder.tls / "server.crt"), "--keyfile", str(self.folder.tls / "server.key")]
        with self.folder.emulator_log.open("wb") as log:
            subprocess.run(
                ["/bin/sh", "-c", DETACH, "sh", *server, *tls, "--bind", f"fd://{gate.fileno()}"],
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
        try:
            connection.request("GET", "/_ministack/health")
            if (status := connection.getresponse().status) != http.HTTPStatus.OK:
                raise http.client.HTTPException(f"its health check answers {status}")
        finally:
            connection.close()


def listen(preferred: int = PORT) -> socket.socket:
    """Return a socket listening on loopback, on `preferred` or, if that is taken, on any free port.

    Handing over a socket that listens already leaves no moment in which another cloud could take the port.
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
