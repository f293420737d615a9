"""How to reach a running local cloud."""

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

import msgspec
from botocore.config import Config

REGION = "us-east-1"


class ClientArguments(TypedDict):
    """Keyword arguments of a boto3 client for the emulator, whatever the developer's own settings are."""

    endpoint_url: str
    verify: str
    region_name: str
    aws_access_key_id: str
    aws_secret_access_key: str
    config: Config


def as_user(
    endpoint_url: str, ca_bundle: Path, access_key_id: str, secret_access_key: str
) -> ClientArguments:
    """Return arguments for a client with the given access key; a proxy never stands before loopback."""
    return ClientArguments(
        endpoint_url=endpoint_url,
        verify=str(ca_bundle),
        region_name=REGION,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=Config(proxies={}),
    )


def as_root(endpoint_url: str, ca_bundle: Path) -> ClientArguments:
    """Return arguments for a client that may do everything: the emulator takes the key `test` for root."""
    return as_user(endpoint_url, ca_bundle, "test", "test")


@dataclass(frozen=True)
class Connection:
    """What a client needs to use a local cloud as the IAM user `developer`, who is not root."""

    endpoint_url: str
    api_url: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    ca_bundle: Path
    outputs: dict[str, str]

    @property
    def port(self) -> int:
        """The loopback port of the emulator."""
        port = urlsplit(self.endpoint_url).port
        assert port is not None  # noqa: S101  # written by us, with its port
        return port

    @classmethod
    def load(cls, path: Path) -> "Connection | None":
        """Return the connection stored at `path`, or None if there is none of this version."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def save(self, path: Path) -> None:
        """Store the connection, readable by this user only, in one step."""
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self)))
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
        """Return `environment` as lines for a shell."""
        return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in self.environment().items())
