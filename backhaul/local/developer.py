"""The IAM user that clients of the local cloud are, so that they are not root."""

from contextlib import suppress

from backhaul.local.access import Access

USER = "developer"


def allow(root: Access, policy_arn: str) -> None:
    """Let the user `developer` do what the policy allows; makes the user if need be."""
    iam = root.session.client("iam", **root.options)
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName=USER)
    iam.attach_user_policy(UserName=USER, PolicyArn=policy_arn)


def issue_access_key(root: Access) -> tuple[str, str]:
    """Return the ID and the secret of a new access key of the user `developer`."""
    iam = root.session.client("iam", **root.options)
    key = iam.create_access_key(UserName=USER)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]
