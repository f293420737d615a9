"""Starts and stops one local cloud, and reports its state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from backhaul.local import logs, users
from backhaul.local.access import REGION, Access
from backhaul.local.connection import Connection
from backhaul.local.deployment import Deployment, check_project, fingerprint
from backhaul.local.emulator import Emulator
from backhaul.local.folder import Folder
from backhaul.local.status import State, Status
from backhaul.model.errors import LocalCloudError
from backhaul.toolchain import PROJECT

Report = Callable[[str, float], None]
"""A function that is called with each finished step and the seconds that it took."""


@dataclass(frozen=True)
class LocalCloud:
    """A local cloud with its state under `home`; by default BACKHAUL_HOME or the checkout's `.backhaul/`."""

    home: Path = field(default_factory=lambda: Folder.default().home)
    processors: Path | None = None
    """The user's own processors; by default the checkout's `processors/`."""
    context: Mapping[str, str] = field(default_factory=dict)
    """Further settings of the deployment, by their names in `stacks/stage.py`."""

    def up(self, report: Report = lambda _step, _seconds: None) -> Connection:
        """Start the cloud and deploy the project to it; do nothing if both are done already.

        Raises `LocalCloudError`, which names the log to read. If the call fails or is interrupted, it stops the cloud
        that it started.
        """
        check_project()
        with self._folder.locked():
            if running := self._running():
                return self._update(running, report)
            self._emulator.stop()
            self._folder.renew()
            try:
                return self._start(report)
            except BaseException:
                self._emulator.stop()
                raise

    def down(self) -> bool:
        """Stop this cloud and no other, and remove its state; return whether it ran."""
        if not self.home.exists() and not self._emulator.processes():
            return False
        with self._folder.locked():
            ran = self._emulator.stop()
            self._folder.discard()
            return ran

    def status(self) -> Status:
        """Return whether the cloud runs, is stopped, or has died."""
        running = self._running()
        if running:
            state = State.RUNNING
        elif self._folder.is_locked():
            state = State.BUSY
        elif self._folder.connection.exists() or self._emulator.processes():
            state = State.DIED
        else:
            state = State.STOPPED
        return Status(
            state=state,
            endpoint_url=running.endpoint_url if running else None,
            api_url=running.api_url if running else None,
            log=str(self._folder.emulator_log),
        )

    def connection(self) -> Connection:
        """Return the connection to the running cloud; raises `LocalCloudError` if it does not run."""
        if running := self._running():
            return running
        raise LocalCloudError(f"No local cloud runs in {self.home}. Start it with `backhaul local up`.")

    def env(self) -> str:
        """Return shell lines that point the AWS CLI, any SDK and `backhaul` at the running cloud."""
        return self.connection().exports()

    def logs(self, function: str | None = None, *, follow: bool = False) -> Iterator[str]:
        """Yield the log lines of the functions with `function` in their names, or of the emulator if it is None."""
        if function is None:
            if not self._folder.emulator_log.exists():
                raise LocalCloudError(f"There is no log in {self.home}: no local cloud has run there.")
            return logs.of_emulator(self._folder.emulator_log, follow)
        return logs.of_function(self.connection().as_root(), function, follow)

    @property
    def _folder(self) -> Folder:
        return Folder(self.home.resolve())

    @property
    def _emulator(self) -> Emulator:
        return Emulator(self._folder)

    def _running(self) -> Connection | None:
        stored = Connection.load(self._folder.connection)
        return stored if stored and self._emulator.answers(stored.port) else None

    def _start(self, report: Report) -> Connection:
        with _step("Started the emulator", report):
            endpoint_url = self._emulator.start()
        root = Access.as_root(endpoint_url, self._folder.tls / "ca.pem", self._folder.root_secret)
        with _step("Bootstrapped the account", report):
            self._deployment(endpoint_url).bootstrap()
        outputs = self._deploy(root, report)
        access_key_id, secret_access_key = users.issue_access_key(root, users.DEVELOPER)
        connection = Connection(
            endpoint_url=endpoint_url,
            api_url=_api_url(endpoint_url, outputs),
            region=REGION,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            ca_bundle=self._folder.tls / "ca.pem",
            outputs=outputs,
            operator_key=users.issue_access_key(root, users.OPERATOR),
            root_secret=self._folder.root_secret,
        )
        connection.save(self._folder.connection)
        return connection

    def _update(self, running: Connection, report: Report) -> Connection:
        with _step("Compared the sources with what is deployed", report):
            unchanged = self._deployment(running.endpoint_url).is_of(self._sources())
        if unchanged:
            return running
        outputs = self._deploy(running.as_root(), report)
        connection = replace(running, api_url=_api_url(running.endpoint_url, outputs), outputs=outputs)
        connection.save(self._folder.connection)
        return connection

    def _deploy(self, root: Access, report: Report) -> dict[str, str]:
        deployment = self._deployment(root.options["endpoint_url"])
        sources = self._sources()  # before synth: a file changed from here on means another deployment
        with _step("Synthesized the stack", report):
            deployment.synthesize()
        with _step("Deployed the stack", report):
            outputs = deployment.deploy()
        for user, policy in ((users.DEVELOPER, "ClientPolicyArn"), (users.OPERATOR, "OperatorPolicyArn")):
            users.allow(root, user, outputs[policy])
        deployment.record(sources)
        return outputs

    def _deployment(self, endpoint_url: str) -> Deployment:
        own = {"processors": str(self.processors.resolve())} if self.processors else {}
        return Deployment(self._folder, endpoint_url, {**self.context, **own})

    def _sources(self) -> str:
        """Return a fingerprint of a deployment's sources and settings: a change of either needs a new deployment."""
        own = f" {self.processors.resolve()} {fingerprint(self.processors)}" if self.processors else ""
        return f"{fingerprint(PROJECT)}{own}{''.join(f' {name}={told}' for name, told in self.context.items())}"


def _api_url(endpoint_url: str, outputs: dict[str, str]) -> str:
    # The host name that the emulator puts into ApiUrl resolves nowhere; this is its path to the same API.
    return f"{endpoint_url}/_aws/execute-api/{outputs['ApiId']}/$default"


@contextmanager
def _step(done: str, report: Report) -> Iterator[None]:
    began = time.monotonic()
    yield
    report(done, time.monotonic() - began)
