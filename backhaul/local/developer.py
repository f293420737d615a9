"""The IAM user that clients of the local cloud are, so that they are not root."""

from contextlib import suppress

import boto3

from backhaul.local.connection import ClientArguments

USER = "developer"


def allow(root: ClientArguments, policy_arn: str) -> None:
    """Let the user `developer` do what the policy allows; makes the user if need be."""
    iam = boto3.client("iam", **root)
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName=USER)
    iam.attach_user_policy(UserName=USER, PolicyArn=policy_arn)


def issue_access_key(root: ClientArguments) -> tuple[str, str]:
    """Return the ID and the secret of a new access key of the user `developer`."""
    key = boto3.client("iam", **root).create_access_key(UserName=USER)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]
