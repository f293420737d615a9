"""Finding the deployment that a client talks to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import boto3
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from backhaul.client import Backhaul
from backhaul.errors import DeploymentUnreachable
from backhaul.local import LocalCloud, LocalCloudError
from backhaul.local.connection import Connection
from backhaul.signing import SigV4

_NONE_FOUND = (
    "No deployment of Backhaul was found. Start one on this machine with `backhaul local up`, "
    "or name a CloudFormation stack with --stack or BACKHAUL_STACK."
)


def connect(stack: str | None = None, environ: Mapping[str, str] = os.environ) -> Backhaul:
    """Return a client of the named stack, else of BACKHAUL_API_URL, else of this project's local cloud.

    Raises `DeploymentUnreachable` when there is none.
    """
    if stack is not None:
        return _with_credentials(_api_of(stack))
    if "BACKHAUL_API_URL" in environ:
        return _with_credentials(environ["BACKHAUL_API_URL"])
    try:
        connection = LocalCloud().connection()
    except LocalCloudError:
        raise DeploymentUnreachable(_NONE_FOUND) from None
    return client_of(connection)


def client_of(connection: Connection) -> Backhaul:
    """Return a client of a local cloud."""
    credentials = Credentials(connection.access_key_id, connection.secret_access_key)
    auth = SigV4(credentials, connection.region)
    return Backhaul(connection.api_url, auth, ca_bundle=str(connection.ca_bundle))


def _with_credentials(api_url: str) -> Backhaul:
    try:
        session = boto3.Session()
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise DeploymentUnreachable(f"The AWS credentials cannot be used: {error}.") from error
    if credentials is None or session.region_name is None:
        raise DeploymentUnreachable("AWS credentials or region are not set. Run `aws configure`, or set AWS_PROFILE.")
    auth = SigV4(credentials, session.region_name)
    return Backhaul(api_url, auth, ca_bundle=os.environ.get("AWS_CA_BUNDLE") or None, proxy=_proxy_for(api_url))


def _proxy_for(url: str) -> str | None:
    """Return the proxy that the environment (HTTPS_PROXY, NO_PROXY) puts before a URL."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _api_of(stack: str) -> str:
    try:
        found = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except (BotoCoreError, ClientError) as error:
        raise DeploymentUnreachable(f"The stack {stack!r} cannot be read: {error}.") from error
    outputs: dict[str, str] = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    if "ApiUrl" not in outputs:
        raise DeploymentUnreachable(f"The stack {stack!r} has no output ApiUrl; it is not a Backhaul stack.")
    return outputs["ApiUrl"]
