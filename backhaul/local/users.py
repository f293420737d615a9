"""The IAM users of the local cloud, so that no client is root: one calls the API, the other operates it."""

from contextlib import suppress

from backhaul.local.access import Access

DEVELOPER = "developer"
OPERATOR = "operator"


def allow(root: Access, user: str, policy_arn: str) -> None:
    """Give the user the policy's rights; make the user if there is none."""
    iam = root.session.client("iam", **root.options)
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName=user)
    iam.attach_user_policy(UserName=user, PolicyArn=policy_arn)


def issue_access_key(root: Access, user: str) -> tuple[str, str]:
    """Return the ID and the secret of a new access key of the user."""
    iam = root.session.client("iam", **root.options)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]
