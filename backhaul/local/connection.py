"""The connection to a running local cloud."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from backhaul.local.access import Access


@dataclass(frozen=True)
class Connection:
    """The addresses and keys of a local cloud: for the IAM user `developer`, for `operator`, and for root."""

    endpoint_url: str
    api_url: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    ca_bundle: Path
    outputs: dict[str, str]
    operator_key: tuple[str, str] = field(default=("", ""), repr=False)
    """The ID and the secret of the access key of the user `operator`."""
    root_secret: str = field(repr=False, kw_only=True)
    """The secret of the root user's access key."""

    @property
    def port(self) -> int:
        """The loopback port of the emulator."""
        return int(self.endpoint_url.rpartition(":")[2])

    def access(self) -> Access:
        """Return access to AWS as the user `developer`, who may call the API."""
        return Access.of(self.endpoint_url, self.ca_bundle, self.access_key_id, self.secret_access_key)

    def as_operator(self) -> Access:
        """Return access to AWS as the user `operator`, who has the rights that operators' commands need."""
        return Access.of(self.endpoint_url, self.ca_bundle, *self.operator_key)

    def as_root(self) -> Access:
        """Return access to AWS as the root user, who may do everything."""
        return Access.as_root(self.endpoint_url, self.ca_bundle, self.root_secret)

    @classmethod
    def load(cls, path: Path) -> Connection | None:
        """Return the connection stored at `path`, or None if there is none of this version."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls, dec_hook=lambda _kind, text: Path(text))
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def save(self, path: Path) -> None:
        """Store the connection in one atomic step, readable by this user only."""
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self, enc_hook=str)))
        draft.replace(path)

    def environment(self) -> dict[str, str]:
        """Return the variables that point the AWS CLI, any SDK and `backhaul` at this cloud."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_CA_BUNDLE": str(self.ca_bundle),
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "BACKHAUL_API_URL": self.api_url,
        }

    def exports(self) -> str:
        """Return shell lines that set `environment` and clear the variables that would overrule it."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.environment().items()]
        return "\n".join(["unset AWS_PROFILE AWS_SESSION_TOKEN", *lines])
