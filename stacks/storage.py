"""The pipeline's storage: one bucket for files, one table for jobs, and one table for flow control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import Aws, Duration, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_s3 as s3
from constructs import Construct

from backhaul.model.job import JobRef
from backhaul.model.keys import INPUT_PREFIX, answer_key, job_prefix
from backhaul.model.policy import DAY_SECONDS, MAX_DEADLINE
from backhaul.store.job_index import BY_TENANT, DUE, QUEUED, QUEUED_BY_TENANT
from stacks.review import accept
from stacks.stage import DeploymentSettings

ANY_JOB = JobRef("*", "*")
MAX_RUN = Duration.seconds(MAX_DEADLINE + DAY_SECONDS)
"""The state machine's timeout, which ends every run. The sweep ends a job at its own deadline, a week at most. This
timeout serves if the sweep cannot, and comes a day later, so that it never cuts off a run that the sweep is ending."""
SCRATCH_PREFIX = "scratch/"
"""Prefix of objects that are not read after the run. It is not below the job's prefix, because a lifecycle rule selects
objects by prefix."""


class Storage(Construct):
    """The data bucket and the two tables."""

    def __init__(self, scope: Construct, name: str, *, stage: DeploymentSettings) -> None:
        super().__init__(scope, name)
        self._stage = stage
        bucket_name = f"{Stack.of(self).stack_name.lower()}-data-{Aws.ACCOUNT_ID}-{Aws.REGION}"
        self.bucket_arn = f"arn:{Aws.PARTITION}:s3:::{bucket_name}"
        """The bucket's ARN for resources that must exist before the bucket. For them the bucket has a fixed name."""
        self.bucket = self._data_bucket(bucket_name)
        self.jobs = self._jobs_table()
        self.flow = self._table("flow", stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES)

    def objects(self, kind: str) -> str:
        """Return the ARN pattern of one kind of object of all jobs."""
        return self.bucket.arn_for_objects(job_prefix(ANY_JOB) + kind)

    @property
    def answers(self) -> str:
        """The ARN pattern of the answers that the jobs of a tenant share, for all tenants."""
        return self.bucket.arn_for_objects(answer_key("*", "*"))

    def index(self, name: str) -> str:
        """Return the ARN of an index of the jobs table."""
        return f"{self.jobs.table_arn}/index/{name}"

    def only_items(self, *partitions: str) -> dict[str, Any]:
        """Return the condition that limits a grant to items of a table whose partition keys match these patterns."""
        condition: dict[str, Any] = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(partitions)}}
        if self._stage.knows_leading_keys:
            # ForAllValues is also true for a request without a partition key, such as a Scan.
            condition |= {"Null": {"dynamodb:LeadingKeys": "false"}}
        return condition

    def _data_bucket(self, name: str) -> s3.Bucket:
        return self._bucket(
            "data",
            bucket_name=name,
            versioned=True,
            access_logs=self._access_logs(),
            lifecycle_rules=[
                s3.LifecycleRule(id="uploads", abort_incomplete_multipart_upload_after=Duration.days(1)),
                s3.LifecycleRule(id="scratch", prefix=SCRATCH_PREFIX, expiration=Duration.days(1)),
                s3.LifecycleRule(id="jobs", prefix=INPUT_PREFIX, expiration=Duration.days(self._stage.retention_days)),
                # A running job may still read an overwritten version, which is the one that it pinned.
                s3.LifecycleRule(id="overwritten", noncurrent_version_expiration=MAX_RUN.plus(Duration.days(1))),
                s3.LifecycleRule(id="markers", expired_object_delete_marker=True),
            ],
            cors=self._cors(),
        )

    def _access_logs(self) -> s3.Bucket:
        bucket = self._bucket(
            "access-logs",
            lifecycle_rules=[s3.LifecycleRule(expiration=Duration.days(self._stage.retention_days))],
        )
        accept(bucket, "It holds the access logs; logging it would log every log it takes.", "AwsSolutions-S1")
        return bucket

    def _bucket(
        self,
        name: str,
        *,
        lifecycle_rules: Sequence[s3.LifecycleRule],
        bucket_name: str | None = None,
        versioned: bool = False,
        access_logs: s3.Bucket | None = None,
        cors: Sequence[s3.CorsRule] | None = None,
    ) -> s3.Bucket:
        return s3.Bucket(
            self,
            name,
            bucket_name=bucket_name,
            versioned=versioned,
            # Not KMS: callers' presigned uploads and downloads would need grants on a key as well.
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            server_access_logs_bucket=access_logs,
            lifecycle_rules=lifecycle_rules,
            cors=cors,
            removal_policy=self._stage.removal_policy,
        )

    def _cors(self) -> list[s3.CorsRule] | None:
        if not self._stage.cors_origins:
            return None
        methods = [s3.HttpMethods.GET, s3.HttpMethods.POST]
        return [
            s3.CorsRule(allowed_origins=list(self._stage.cors_origins), allowed_methods=methods, allowed_headers=["*"])
        ]

    def _jobs_table(self) -> dynamodb.Table:
        table = self._table("jobs", stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES)
        table.add_global_secondary_index(
            index_name=BY_TENANT, partition_key=_string("tenant"), sort_key=_string("job_id")
        )
        table.add_global_secondary_index(
            index_name=DUE, partition_key=_string("open_state"), sort_key=_string("due_at")
        )
        table.add_global_secondary_index(
            index_name=QUEUED,
            partition_key=_string("queue"),
            sort_key=_string("turn"),
            # The index only gives the order; the job itself is read and claimed in the table.
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        table.add_global_secondary_index(
            index_name=QUEUED_BY_TENANT,
            partition_key=_string("tenant"),
            sort_key=_string("turn"),
            projection_type=dynamodb.ProjectionType.INCLUDE,
            non_key_attributes=["queue"],
        )
        return table

    def _table(self, name: str, *, stream: dynamodb.StreamViewType | None = None) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            name,
            partition_key=_string("pk"),
            sort_key=_string("sk"),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="expires_at",
            stream=stream,
            # Also for the flow table: it holds budgets, which are money, and its backup costs next to nothing.
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            # No deletion protection: CloudFormation could not remove the tables when a first deployment fails. The
            # stack's termination protection and the removal policy guard them. Besides, DynamoDB keeps a backup of a
            # table with point-in-time recovery for 35 days after its deletion.
            removal_policy=self._stage.removal_policy,
        )


def _string(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)
