"""AWS calls to the emulator, whatever the developer's own AWS settings are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import boto3
import botocore.session
from botocore.config import Config

REGION = "us-east-1"
ROOT = "test"
"""The ID of the root user's access key: the emulator prescribes it. The secret is random, one for each cloud."""


class Options(TypedDict):
    """The arguments with which every client of the emulator is made, besides the service's name."""

    endpoint_url: str
    verify: str
    config: Config


@dataclass(frozen=True)
class Access:
    """Makes clients of one identity: `access.session.client("s3", **access.options)`."""

    session: boto3.Session
    options: Options

    @classmethod
    def of(cls, endpoint_url: str, ca_bundle: Path, access_key_id: str, secret_access_key: str) -> Access:
        """Return access with this key; it ignores profiles, the files in ~/.aws, and proxies."""
        unset = (None, None, None, None)
        core = botocore.session.Session({"profile": unset, "config_file": (None, None, os.devnull, None)})
        core.set_credentials(access_key_id, secret_access_key)
        session = boto3.Session(botocore_session=core, region_name=REGION)
        return cls(session, Options(endpoint_url=endpoint_url, verify=str(ca_bundle), config=Config(proxies={})))

    @classmethod
    def as_root(cls, endpoint_url: str, ca_bundle: Path, secret: str) -> Access:
        """Return access to everything."""
        return cls.of(endpoint_url, ca_bundle, ROOT, secret)
