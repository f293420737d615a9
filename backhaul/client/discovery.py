"""Finds the deployment for a caller's client, or for an operator."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import boto3
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from backhaul.client.client import Backhaul
from backhaul.client.signing import SigV4, check_credentials
from backhaul.local import LocalCloud, LocalCloudError
from backhaul.local.connection import Connection
from backhaul.model.clock import SystemClock
from backhaul.model.errors import DeploymentUnreachable
from backhaul.operations.connection import LOCAL_CLOUD, Operations, Outputs
from backhaul.store import Store
from backhaul.store.stacks import StackStore

_NONE_FOUND = (
    "No deployment of Backhaul was found. Start one on this machine with `backhaul local up`, "
    "or name a CloudFormation stack with --stack or BACKHAUL_STACK."
)

AWS_ERRORS = (BotoCoreError, ClientError, ResponseParserError)
"""The exceptions that a call to AWS may raise."""


def connect(stack: str | None = None, environ: Mapping[str, str] = os.environ) -> Backhaul:
    """Return a client of the named stack, else of BACKHAUL_API_URL, else of this project's local cloud.

    Raises `DeploymentUnreachable` if there is none of them.
    """
    if stack:
        session = _session(environ)
        return _with_credentials(session, _outputs_of(stack, session).get("ApiUrl"), environ)
    if api_url := environ.get("BACKHAUL_API_URL"):
        _check_url(api_url)
        return _with_credentials(_session(environ), api_url, environ)
    try:
        connection = LocalCloud().connection()
    except LocalCloudError:
        raise DeploymentUnreachable(_NONE_FOUND) from None
    return client_of(connection)


def operate(stack: str | None = None, environ: Mapping[str, str] = os.environ) -> Operations:
    """Return an operator's access to the named stack, else to this project's local cloud.

    Raises `DeploymentUnreachable` if there is none, or if the stack lacks an output.
    """
    if stack:
        session = _session(environ)
        return _operations(_outputs_of(stack, session), session.client)
    try:
        connection = LocalCloud().connection()
    except LocalCloudError:
        connection = None
    api_url = environ.get("BACKHAUL_API_URL")
    if api_url and (connection is None or connection.api_url != api_url):
        raise DeploymentUnreachable("This command does not work through BACKHAUL_API_URL. Name the stack with --stack.")
    if connection is None:
        raise DeploymentUnreachable(_NONE_FOUND)
    return _operations(Outputs(LOCAL_CLOUD, connection.outputs), _local_clients(connection))


def deployer(environ: Mapping[str, str] = os.environ) -> StackStore:
    """Return access to the stacks of the account and region of the environment's AWS credentials."""
    session = _session(environ)
    return StackStore(session.client("cloudformation"), session.client("s3"))


def _operations(outputs: Outputs, client: Callable[..., Any]) -> Operations:
    settings, clock = outputs.settings(), SystemClock()
    try:
        who = client("sts").get_caller_identity()["Arn"]
    except AWS_ERRORS as error:
        raise DeploymentUnreachable(f"AWS did not say who you are: {said(error)}") from error
    return Operations(outputs, settings, Store(settings, clock, client), clock, who)


def _local_clients(connection: Connection) -> Callable[..., Any]:
    access = connection.as_operator()
    session: Any = access.session  # its stub wants a service that is known beforehand

    def client(service: str, config: Config | None = None) -> Any:
        # The emulator's buckets have no host names of their own.
        path_style = Config(s3={"addressing_style": "path"}) if service == "s3" else Config()
        options = access.options
        merged = (config or Config()).merge(options["config"]).merge(path_style)
        return session.client(service, endpoint_url=options["endpoint_url"], verify=options["verify"], config=merged)

    return client


def client_of(connection: Connection) -> Backhaul:
    """Return a client of a local cloud."""
    credentials = Credentials(connection.access_key_id, connection.secret_access_key)
    auth = SigV4(credentials, connection.region)
    return Backhaul(connection.api_url, auth, ca_bundle=str(connection.ca_bundle))


def _session(environ: Mapping[str, str]) -> boto3.Session:
    try:
        # boto3 itself knows only AWS_DEFAULT_REGION; the CDK, and AWS's other SDKs, read AWS_REGION.
        session = boto3.Session(region_name=environ.get("AWS_REGION") or None)
    except BotoCoreError as error:
        raise DeploymentUnreachable(f"The AWS configuration cannot be used: {said(error)}") from error
    with suppress(BotoCoreError):  # the first call with these credentials reports what is wrong with them
        if credentials := session.get_credentials():
            check_credentials(credentials.get_frozen_credentials())
    return session


def _check_url(api_url: str) -> None:
    try:
        parts = urlsplit(api_url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise DeploymentUnreachable(
            f"BACKHAUL_API_URL is {api_url!r}, which is not a URL such as https://api.example.com. "
            "Set it to the output ApiUrl of the stack."
        )


def _with_credentials(session: boto3.Session, api_url: str, environ: Mapping[str, str]) -> Backhaul:
    try:
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise DeploymentUnreachable(f"The AWS credentials cannot be used: {said(error)}") from error
    if credentials is None or session.region_name is None:
        raise DeploymentUnreachable("AWS credentials or region are not set. Run `aws configure`, or set AWS_PROFILE.")
    auth = SigV4(credentials, session.region_name)
    return Backhaul(api_url, auth, ca_bundle=environ.get("AWS_CA_BUNDLE") or None, proxy=_proxy_for(api_url))


def _proxy_for(url: str) -> str | None:
    """Return the proxy that the environment (HTTPS_PROXY, NO_PROXY) puts before a URL."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _outputs_of(stack: str, session: boto3.Session) -> Outputs:
    try:
        found = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except AWS_ERRORS as error:
        raise DeploymentUnreachable(f"The stack {stack!r} cannot be read: {said(error)}") from error
    values = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    return Outputs(f"The stack {stack!r}", values)


def said(error: Exception) -> str:
    """Return an error's text with a full stop at its end: only some of boto3's have one."""
    return f"{str(error).rstrip('.')}."
