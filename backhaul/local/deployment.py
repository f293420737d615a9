"""Deploys the project's own CDK app to the emulator, with the real CDK CLI."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from backhaul import toolchain
from backhaul.local.access import REGION, ROOT
from backhaul.local.emulator import ACCOUNT
from backhaul.local.errors import failure
from backhaul.local.folder import Folder
from backhaul.local.keeper import OWNER
from backhaul.model.errors import LocalCloudError
from backhaul.toolchain import PROJECT

STAGE = "local"

# The developer's variables with these prefixes must not change the deployment. Those of pip and of proxies stay,
# because bundling may fetch wheels, and so does HOME, because jsii keeps a large cache there.
FOREIGN = ("AWS_", "PYTHON", "CDK_", "JSII_", "NODE_OPTIONS")

# Top folders without sources of a deployment. All others count: one deployment too many does no harm.
NO_SOURCE = {"build", "cdk.out", "docs", "htmlcov", "node_modules", "prove", "tests"}


@dataclass(frozen=True)
class Deployment:
    """The stack as deployed to the emulator at `endpoint_url`."""

    folder: Folder
    endpoint_url: str
    context: Mapping[str, str] = field(default_factory=dict)
    """The stack's CDK context besides its stage."""

    def synthesize(self) -> None:
        """Turn `app.py` into templates and assets."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        told = [f"--context={name}={value}" for name, value in {**self.context, "stage": STAGE}.items()]
        arguments = ["--quiet", "--no-validation", *told, f"--output={self._assembly}"]
        self._cdk("synth", *arguments, environment=mine, where=PROJECT)

    def bootstrap(self) -> None:
        """Make the resources that every CDK deployment to an account needs; do nothing if they exist."""
        self._cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}", environment=self._account, where=self.folder.state)

    def deploy(self) -> dict[str, str]:
        """Deploy the synthesized stack, and return its outputs."""
        outputs = self.folder.state / "outputs.json"
        how = ["--all", "--require-approval=never", "--method=direct", "--progress=events"]
        files = [f"--app={self._assembly}", f"--outputs-file={outputs}"]
        self._cdk("deploy", *how, *files, environment=self._account, where=self.folder.state)
        # Not by the stack's name: `name` in cdk.json gives it another one.
        (of_stack,) = msgspec.json.decode(outputs.read_bytes(), type=dict[str, dict[str, str]]).values()
        return of_stack

    def is_of(self, sources: str) -> bool:
        """Return whether the last deployment was made from the sources with this fingerprint."""
        return self._record.exists() and self._record.read_text() == sources

    def record(self, sources: str) -> None:
        """Store the fingerprint of the deployed sources."""
        self._record.write_text(sources)

    @property
    def _assembly(self) -> Path:
        return self.folder.state / "cdk.out"

    @property
    def _record(self) -> Path:
        return self.folder.state / "deployed"

    @property
    def _account(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": ROOT,
            "AWS_SECRET_ACCESS_KEY": self.folder.root_secret,
            "AWS_REGION": REGION,
            "HOME": str(self.folder.state / "home"),
            "NODE_EXTRA_CA_CERTS": str(self.folder.tls / "ca.pem"),
        }

    def _cdk(self, action: str, *arguments: str, environment: Mapping[str, str], where: Path) -> None:
        own = {
            OWNER: str(self.folder.home),
            "CDK_HOME": str(self.folder.state / "cdk"),
            "TMPDIR": str(self.folder.state / "tmp"),
            "CDK_DISABLE_CLI_TELEMETRY": "true",
        }
        with self.folder.cdk_log.open("ab") as log:
            exit_code = subprocess.call(
                toolchain.command("cdk", action, *arguments, "--no-notices"),
                cwd=where,
                env=toolchain.environment({**environment, **own}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if exit_code != 0:
            raise failure(f"`cdk {action}` failed with exit code {exit_code}", self.folder.cdk_log)


def fingerprint(project: Path) -> str:
    """Return a digest of the names, sizes and times of all files that may be part of a deployment."""
    digest = hashlib.sha256()
    for path in sorted(_sources(project)):
        with suppress(FileNotFoundError):  # an editor's temporary file, gone again
            status = path.stat()
            digest.update(f"{path.relative_to(project)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _sources(project: Path) -> Iterator[Path]:
    for entry in project.iterdir():
        if entry.name.startswith(".") or entry.name in NO_SOURCE or entry.suffix == ".egg-info":
            continue
        files = entry.rglob("*") if entry.is_dir() else [entry]
        yield from (file for file in files if file.is_file() and "__pycache__" not in file.parts)


def check_project() -> None:
    """Raise `LocalCloudError` unless this package lies in a checkout: the local cloud is deployed from it."""
    if not (PROJECT / "app.py").exists():
        raise LocalCloudError(f"There is no app.py in {PROJECT}. The local cloud needs a checkout of Backhaul.")
