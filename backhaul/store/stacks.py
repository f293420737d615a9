"""The CloudFormation stack of a deployment, and its buckets, which must be empty before it can be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, WaiterError

from backhaul.model.errors import StoreRefused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_GONE = ("DELETE_COMPLETE", "DELETE_SKIPPED")
_POLL_SECONDS = 5
_MAX_POLLS = 1440
"""Two hours of polls. CloudFormation itself gives up on a resource earlier."""
_BUCKET = "AWS::S3::Bucket"


@dataclass(frozen=True)
class DeployedStack:
    """A stack as CloudFormation describes it."""

    stack_id: str
    name: str
    status: str
    description: str
    is_protected: bool
    """Whether its termination protection is on."""


@dataclass(frozen=True)
class StackResource:
    """One existing resource of a stack; `reason` says why CloudFormation failed to delete it."""

    name: str
    kind: str
    identity: str
    """Its physical ID, such as a bucket's name."""
    failed: bool
    reason: str

    @property
    def is_bucket(self) -> bool:
        """Whether it is a bucket, which S3 deletes only if it is empty."""
        return self.kind == _BUCKET


class StackStore:
    """CloudFormation and S3, with the credentials of the person who deploys."""

    def __init__(self, cloudformation: Any, s3: S3Client) -> None:
        self._cloudformation = cloudformation
        self._s3 = s3

    def find(self, name: str) -> DeployedStack | None:
        """Return the stack of this name or ID, or None if there is none."""
        try:
            (found,) = self._cloudformation.describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError":  # CloudFormation's word for "does not exist"
                return None
            raise
        return DeployedStack(
            stack_id=found["StackId"],
            name=found["StackName"],
            status=found["StackStatus"],
            description=found.get("Description", ""),
            is_protected=bool(found.get("EnableTerminationProtection")),
        )

    def keeps_data(self, stack: DeployedStack) -> bool:
        """Return whether the stack's template tells CloudFormation to keep any resource."""
        body = self._cloudformation.get_template(StackName=stack.stack_id)["TemplateBody"]
        policies = (each.get("DeletionPolicy", "Delete") for each in body["Resources"].values())
        return any(policy != "Delete" for policy in policies)

    def resources(self, stack: DeployedStack) -> tuple[StackResource, ...]:
        """Return the resources of a stack that still exist, also those that CloudFormation failed to delete."""
        pages = self._cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.stack_id)
        found = (each for page in pages for each in page["StackResourceSummaries"])
        return tuple(
            StackResource(
                name=each["LogicalResourceId"],
                kind=each["ResourceType"],
                identity=each.get("PhysicalResourceId", ""),
                failed=each["ResourceStatus"] == "DELETE_FAILED",
                reason=each.get("ResourceStatusReason", ""),
            )
            for each in found
            if each["ResourceStatus"] not in _GONE and each.get("PhysicalResourceId")
        )

    def empty(self, bucket: str) -> Iterator[int]:
        """Delete every version and delete marker of a bucket; yields the number deleted after each page."""
        with self._unless_it_is_gone():
            # Always the first page: the marker at which a second page would begin has been deleted.
            while listed := self._first_versions(bucket):
                self._delete(bucket, listed)
                yield len(listed)

    def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket."""
        with self._unless_it_is_gone():
            self._s3.delete_bucket(Bucket=bucket)

    def _unless_it_is_gone(self) -> suppress:
        # A person may have deleted the bucket by hand.
        return suppress(self._s3.exceptions.NoSuchBucket)

    def _first_versions(self, bucket: str) -> list[Any]:
        # S3 lists at most a thousand, which is as many as one delete request takes.
        page = self._s3.list_object_versions(Bucket=bucket)
        listed = (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
        return [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in listed]

    def _delete(self, bucket: str, versions: list[Any]) -> None:
        answer = self._s3.delete_objects(Bucket=bucket, Delete={"Objects": versions, "Quiet": True})
        for refused in answer.get("Errors", ()):
            said = f"{refused.get('Code')}: {refused.get('Message')}"
            raise StoreRefused(f"S3 did not delete {refused.get('Key')!r} from the bucket {bucket}: {said}")

    def unprotect(self, stack: DeployedStack) -> None:
        """Switch the stack's termination protection off."""
        self._cloudformation.update_termination_protection(StackName=stack.stack_id, EnableTerminationProtection=False)

    def delete(self, stack: DeployedStack) -> bool:
        """Delete the stack and wait for up to two hours; returns whether it is gone."""
        self._cloudformation.delete_stack(StackName=stack.stack_id)
        waiter = self._cloudformation.get_waiter("stack_delete_complete")
        try:
            waiter.wait(StackName=stack.stack_id, WaiterConfig={"Delay": _POLL_SECONDS, "MaxAttempts": _MAX_POLLS})
        except WaiterError:
            return False
        return True
